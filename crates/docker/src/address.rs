//! Where an engine is, as users write it.
//!
//! Invariant: an [`Address`] holds no credentials, and nothing in it can be taken for an option or
//! a shell word by the programs it is handed to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The socket of a Docker engine that was installed the usual way.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

const TCP_PORT_PLAIN: u16 = 2375;
const TCP_PORT_TLS: u16 = 2376;

/// The address of an engine's API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// `unix:///var/run/docker.sock`
    Unix(PathBuf),
    /// `tcp://host:2375`, without encryption.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `https://host:2376`, or `tcp://` with certificates: encrypted, with client certificates.
    Tls {
        /// Name or address, which the server's certificate must carry.
        host: String,
        /// Port.
        port: u16,
    },
    /// `ssh://user@host:22`, optionally with the socket on that host as the path.
    Ssh {
        /// User there; none is for ssh to decide.
        user: Option<String>,
        /// Name or address, or a name of the user's ssh configuration.
        host: String,
        /// Port; none is for ssh to decide.
        port: Option<u16>,
        /// The engine's socket there; none is for the `docker` client there to decide.
        socket: Option<String>,
    },
}

/// Text that is no address of an engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidAddress {
    /// Another scheme, or none.
    #[error("{0:?} is no address of an engine: use unix://, tcp://, https:// or ssh://")]
    Scheme(String),
    /// The host is missing or has characters that no host name has.
    #[error("the address has no usable host name: {0:?}")]
    Host(String),
    /// The user has characters that no user name has.
    #[error("the address has no usable user name")]
    User,
    /// The port is no number from 1 to 65535.
    #[error("the address has no usable port: {0:?}")]
    Port(String),
    /// The path is missing, relative, or has unusual characters where a shell would see them.
    #[error("the address has no usable path: {0:?}")]
    Path(String),
    /// Passwords do not belong in addresses.
    #[error("an address may not hold a password: use an ssh key or agent")]
    Password,
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl Address {
    /// The same address with encryption, for `tcp://` given together with certificates.
    #[must_use]
    pub fn encrypted(self) -> Self {
        match self {
            Self::Tcp { host, port } => Self::Tls {
                host,
                port: if port == TCP_PORT_PLAIN {
                    TCP_PORT_TLS
                } else {
                    port
                },
            },
            other => other,
        }
    }

    /// Whether the engine can only be on this machine: its paths may be ours.
    #[must_use]
    pub const fn is_local_socket(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Whether nothing between us and the engine can listen, without encryption.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .trim_matches(['[', ']'])
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|ip| ip.is_loopback())
            }
            _ => true,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| InvalidAddress::Scheme(text.to_owned()))?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(InvalidAddress::Path(rest.to_owned())),
            "tcp" | "http" => {
                let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
                let port = port.unwrap_or(TCP_PORT_PLAIN);
                Ok(Self::Tcp { host, port })
            }
            "https" => {
                let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
                let port = port.unwrap_or(TCP_PORT_TLS);
                Ok(Self::Tls { host, port })
            }
            "ssh" => parse_ssh(rest),
            _ => Err(InvalidAddress::Scheme(scheme.to_owned())),
        }
    }
}

fn parse_ssh(rest: &str) -> Result<Address, InvalidAddress> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => return Err(InvalidAddress::Password),
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(user) = &user
        && (user.is_empty() || user.starts_with('-') || !user.chars().all(plain))
    {
        return Err(InvalidAddress::User);
    }
    let (host, port) = host_and_port(host)?;
    let socket = Some(path.trim_end_matches('/')).filter(|p| !p.is_empty());
    // The path becomes a word of a command that the remote shell reads.
    if let Some(path) = socket
        && !path.chars().all(|c| plain(c) || c == '/')
    {
        return Err(InvalidAddress::Path(path.to_owned()));
    }
    Ok(Address::Ssh {
        user,
        host,
        port,
        socket: socket.map(str::to_owned),
    })
}

/// Splits `host:port`, `[::1]:port`, `host`.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), InvalidAddress> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .map(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
    let valid = bare.unwrap_or_else(|| {
        !host.is_empty()
            && !host.starts_with('-')
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    if !valid {
        return Err(InvalidAddress::Host(host.to_owned()));
    }
    let port = port
        .map(|p| match p.parse::<u16>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(InvalidAddress::Port(p.to_owned())),
        })
        .transpose()?;
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
            Self::Ssh {
                user,
                host,
                port,
                socket,
            } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text() {
        for (text, shown) in [
            ("", "unix:///var/run/docker.sock"),
            ("/run/x.sock", "unix:///run/x.sock"),
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://10.0.0.1", "tcp://10.0.0.1:2375"),
            ("tcp://[::1]:99/", "tcp://[::1]:99"),
            ("https://engine.example:2376", "https://engine.example:2376"),
            ("ssh://ops@web-1:2222", "ssh://ops@web-1:2222"),
            (
                "ssh://web/run/podman/podman.sock",
                "ssh://web/run/podman/podman.sock",
            ),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn hostile_addresses_are_refused() {
        for (text, error) in [
            (
                "ssh://-oProxyCommand=x/",
                InvalidAddress::Host("-oProxyCommand=x".into()),
            ),
            ("ssh://-x@host", InvalidAddress::User),
            ("ssh://me:secret@host", InvalidAddress::Password),
            (
                "ssh://host/a;reboot",
                InvalidAddress::Path("/a;reboot".into()),
            ),
            ("ssh://host:0", InvalidAddress::Port("0".into())),
            ("unix://x", InvalidAddress::Path("x".into())),
            ("tcp://", InvalidAddress::Host(String::new())),
            ("ftp://host", InvalidAddress::Scheme("ftp".into())),
            ("docker", InvalidAddress::Scheme("docker".into())),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error));
        }
    }

    #[test]
    fn only_loopback_may_go_without_encryption() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(loopback("tcp://127.0.0.1:2375"));
        assert!(loopback("tcp://[::1]:2375"));
        assert!(!loopback("tcp://127.0.0.1.example:2375"));
        assert_eq!(
            "tcp://h"
                .parse::<Address>()
                .unwrap()
                .encrypted()
                .to_string(),
            "https://h:2376"
        );
    }
}
