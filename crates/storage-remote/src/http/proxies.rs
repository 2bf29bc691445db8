//! Which servers are reached through a proxy.
//!
//! Invariant: the server that is connected to decides, wherever its name came from: an address,
//! an option, a bucket's name before it. This machine is never reached through a proxy.

use std::net::IpAddr;
use std::sync::Arc;

use refloat_model::secret::Secret;
use refloat_storage::location::{Endpoint, Transport};

use super::ConnectError;
use crate::Surroundings;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `https`; a URL, which may hold a password.
    https: Option<Arc<Secret>>,
    /// For `http`.
    http: Option<Arc<Secret>>,
    excepted: Vec<Exception>,
}

/// What is reached without a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Exception {
    Everything,
    /// A host and all below it, and the port if one is named.
    Host(String, Option<u16>),
    /// The addresses that begin with so many bits.
    Network(IpAddr, u32),
}

impl Proxies {
    /// What the environment says.
    #[must_use]
    pub fn of(around: &Surroundings) -> Self {
        let either = |one, other| around.secret(one).or_else(|| around.secret(other));
        let excepted = around.text("NO_PROXY").or_else(|| around.text("no_proxy"));
        Self {
            https: either("HTTPS_PROXY", "https_proxy").map(Arc::new),
            http: either("HTTP_PROXY", "http_proxy").map(Arc::new),
            excepted: excepted.as_deref().map(exceptions).unwrap_or_default(),
        }
    }

    /// The proxy of a server.
    ///
    /// # Errors
    /// It is one that this program cannot use.
    pub(super) fn of_server(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<ureq::Proxy>, ConnectError> {
        let url = match endpoint.transport {
            Transport::Tls => &self.https,
            Transport::Plain => &self.http,
        };
        let Some(url) = url.as_ref().filter(|_| !self.is_excepted(endpoint)) else {
            return Ok(None);
        };
        let url = std::str::from_utf8(url.expose()).map_err(|_| ConnectError::Proxy)?;
        let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
        if !matches!(scheme, "http" | "https") {
            return Err(ConnectError::ProxyKind);
        }
        let proxy = ureq::Proxy::new(url).map_err(|_| ConnectError::Proxy)?;
        Ok(Some(proxy))
    }

    fn is_excepted(&self, endpoint: &Endpoint) -> bool {
        let host = endpoint
            .host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.')
            .to_ascii_lowercase();
        endpoint.is_loopback()
            || self.excepted.iter().any(|exception| match exception {
                Exception::Everything => true,
                Exception::Host(name, port) => {
                    let is_below = host
                        .strip_suffix(name.as_str())
                        .is_some_and(|before| before.is_empty() || before.ends_with('.'));
                    is_below && port.is_none_or(|port| port == endpoint.port_in_use())
                }
                Exception::Network(network, bits) => host
                    .parse()
                    .is_ok_and(|address| holds(*network, *bits, address)),
            })
    }
}

/// The entries of `NO_PROXY`; what is none of them names no host.
fn exceptions(list: &str) -> Vec<Exception> {
    let entries = list.split([',', ' ']).map(str::trim);
    let entries = entries.filter_map(|entry| {
        if entry == "*" {
            return Some(Exception::Everything);
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return Some(Exception::Network(
                network.parse().ok()?,
                bits.parse().ok()?,
            ));
        }
        // An IPv6 address is all colons: a port stands behind one in brackets only.
        let is_address = entry.ends_with(']') || entry.parse::<IpAddr>().is_ok();
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !is_address => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let host = host.trim_start_matches("*.").trim_start_matches('.');
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // An empty entry, as a comma at the end makes one, is no suffix of every name.
        (!host.is_empty()).then(|| Exception::Host(host.to_ascii_lowercase(), port))
    });
    entries.collect()
}

fn holds(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let differ = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros()
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros()
        }
        _ => return false,
    };
    differ >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://user:hunter2@proxy.example:3128";

    fn is_used(variables: &[(&str, &str)], server: &str) -> bool {
        let proxies = Proxies::of(&Surroundings::of(variables));
        let proxy = proxies.of_server(&server.parse().unwrap()).unwrap();
        proxy.is_some()
    }

    #[test]
    fn the_server_that_is_connected_to_decides() {
        let both = [("HTTPS_PROXY", PROXY), ("http_proxy", PROXY)];
        assert!(is_used(&both, "https://s3.example"));
        assert!(is_used(&both, "http://s3.example:9000"));
        let https = [("https_proxy", PROXY)];
        assert!(is_used(&https, "https://s3.example"));
        assert!(!is_used(&https, "http://s3.example"), "http has its own");
        for server in [
            "http://127.0.0.1:9000",
            "https://localhost",
            "https://[::1]:1",
        ] {
            assert!(!is_used(&both, server), "{server} is this machine");
        }
        assert!(!is_used(&[], "https://s3.example"));
    }

    #[test]
    fn excepted_hosts_are_reached_without_it() {
        let used = |excepted: &str, server: &str| {
            is_used(&[("HTTPS_PROXY", PROXY), ("NO_PROXY", excepted)], server)
        };
        for (excepted, server) in [
            ("*", "https://s3.example"),
            ("s3.example", "https://s3.example"),
            (".example", "https://S3.Example"),
            ("*.example", "https://s3.example"),
            ("a, s3.example ,b", "https://s3.example"),
            // Buckets stand before the server's name.
            ("s3.example", "https://bucket.s3.example"),
            ("s3.example:9000", "https://s3.example:9000"),
            ("s3.example:443", "https://s3.example"),
            ("10.0.0.0/8", "https://10.1.2.3"),
            ("192.168.7.9", "https://192.168.7.9:1"),
            ("fd00::/8", "https://[fd00::1]:9000"),
            ("fd00::1", "https://[fd00::1]:9000"),
            ("[fd00::1]", "https://[fd00::1]:9000"),
            ("[fd00::1]:9000", "https://[fd00::1]:9000"),
        ] {
            assert!(!used(excepted, server), "{excepted}: {server}");
        }
        for (excepted, server) in [
            ("", "https://s3.example"),
            (",", "https://s3.example"),
            ("other.example,", "https://s3.example"),
            (" , .", "https://s3.example."),
            ("3.example", "https://s3.example"),
            ("s3.example:9001", "https://s3.example:9000"),
            ("10.0.0.0/8", "https://11.1.2.3"),
            ("10.0.0.0/x", "https://10.1.2.3"),
            ("[fd00::2]", "https://[fd00::1]:9000"),
            ("[fd00::1]:9001", "https://[fd00::1]:9000"),
        ] {
            assert!(used(excepted, server), "{excepted}: {server}");
        }
    }

    #[test]
    fn proxies_that_cannot_be_used_are_told_and_not_shown() {
        for (url, expected) in [
            (
                "socks5://user:hunter2@127.0.0.1:1080",
                "only http:// and https://",
            ),
            ("ftp://user:hunter2@127.0.0.1", "only http:// and https://"),
            ("http://user:hunter2@ho st", "is not understood"),
        ] {
            let proxies = Proxies::of(&Surroundings::of(&[("HTTPS_PROXY", url)]));
            let error = proxies.of_server(&"https://s3.example".parse().unwrap());
            let shown = error.unwrap_err().to_string();
            assert!(
                shown.contains(expected) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
    }
}
