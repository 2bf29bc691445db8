//! Addresses of registries.
//!
//! Invariant: an [`Address`] holds no credentials, so it can be printed anywhere.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What users call Docker Hub.
const HUB: &str = "docker.io";
/// Where Docker Hub answers.
const HUB_HOST: &str = "registry-1.docker.io";

/// Where a registry answers: scheme, host and port, and a path in front of `/v2/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    scheme: Scheme,
    /// Host with port where one is given.
    authority: String,
    /// Empty, or begins with `/` and does not end with it.
    path: String,
}

/// Encrypted or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// Text that is no registry's address. It is not shown: it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// User name and password in the address.
    #[error("a registry's address must not hold credentials")]
    Credentials,
    /// Neither `http` nor `https`.
    #[error("a registry's address begins with https:// or http://, or is host:port")]
    Scheme,
    /// The host is not there or has characters that no host has.
    #[error("the registry's address has no valid host")]
    Host,
    /// Query or fragment.
    #[error("a registry's address has no query, fragment or space")]
    Query,
}

impl Address {
    /// Whether the address is encrypted.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port as they stand in image references.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.authority)
    }

    /// The address in front of `/v2/`.
    pub(crate) fn base(&self) -> String {
        let host = if self.authority == HUB {
            HUB_HOST
        } else {
            &self.authority
        };
        format!("{}://{host}{}", self.scheme.word(), self.path)
    }

    /// The key of Docker's `config.json`.
    pub(crate) fn config_keys(&self) -> Vec<String> {
        let mut keys = vec![self.authority.clone()];
        if self.authority == HUB || self.authority == HUB_HOST {
            keys.push("https://index.docker.io/v1/".to_owned());
            keys.push("index.docker.io".to_owned());
        }
        let host = self.authority.clone();
        keys.extend(["https://", "http://"].map(|scheme| format!("{scheme}{host}")));
        keys
    }

    /// How engines name a repository of this registry: `host:5000/team/app`, and Docker Hub's
    /// without host and `library/`.
    #[must_use]
    pub fn qualify(&self, repository: &str) -> String {
        if self.authority == HUB || self.authority == HUB_HOST {
            return repository
                .strip_prefix("library/")
                .unwrap_or(repository)
                .to_owned();
        }
        format!("{}/{repository}", self.authority)
    }
}

impl Scheme {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whether a host with or without a port is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) => return Err(InvalidAddress::Scheme),
            None => (Scheme::Https, text),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(InvalidAddress::Credentials);
        }
        if path.contains(['?', '#', '@', '%']) || text.contains(char::is_whitespace) {
            return Err(InvalidAddress::Query);
        }
        let host_char = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(host_char) {
            return Err(InvalidAddress::Host);
        }
        let path = path.trim_end_matches('/');
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            path: path.strip_suffix("/v2").unwrap_or(path).to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.word(),
            self.authority,
            self.path
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_credentials_in_them_refused_unseen() {
        let check = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            check("https://registry.local:5000/"),
            ok("https://registry.local:5000")
        );
        assert_eq!(check("registry.local"), ok("https://registry.local"));
        assert_eq!(
            check("http://[::1]:5000/mirror/v2/"),
            ok("http://[::1]:5000/mirror")
        );
        assert_eq!(
            check("https://u:hunter2@h"),
            Err(InvalidAddress::Credentials)
        );
        assert_eq!(check("ftp://h"), Err(InvalidAddress::Scheme));
        assert_eq!(check("https://h?x=1"), Err(InvalidAddress::Host));
        assert_eq!(check("https://h/a?x=1"), Err(InvalidAddress::Query));
        assert_eq!(check("https://"), Err(InvalidAddress::Host));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.9", true),
            ("[::1]:5000", true),
            ("127.0.0.1.example.org", false),
            ("localhost.example.org:80", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn docker_hub_has_two_names() {
        let hub: Address = "docker.io".parse().unwrap();
        assert_eq!(hub.base(), "https://registry-1.docker.io");
        assert_eq!(hub.qualify("library/postgres"), "postgres");
        let own: Address = "http://localhost:5000".parse().unwrap();
        assert_eq!(own.qualify("team/app"), "localhost:5000/team/app");
    }
}
