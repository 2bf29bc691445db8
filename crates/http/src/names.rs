//! Where names lead, remembered for a while.
//!
//! The client asks for the addresses of a host before every request, also if it then takes a
//! connection that is open: a thread and a question to the name service each time. A registry or
//! a bucket is one host that is asked thousands of things.
//!
//! Invariant: what is remembered is never older than [`REMEMBERED_FOR`], and failures are not.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// Short beside the time for which a call is repeated, so that a server that moved is found.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// More hosts than these are not remembered.
const HOSTS_MAX: usize = 64;

/// Makes a client that remembers addresses.
#[must_use]
pub fn agent(config: Config) -> Agent {
    let names = Names {
        ask: DefaultResolver::default(),
        known: Mutex::default(),
    };
    Agent::with_parts(config, DefaultConnector::default(), names)
}

/// See the module.
#[derive(Debug)]
struct Names<R> {
    ask: R,
    known: Mutex<HashMap<(String, u16), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    since: Instant,
    addresses: ResolvedSocketAddrs,
}

impl<R> Names<R> {
    fn known(&self) -> MutexGuard<'_, HashMap<(String, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Resolver> Resolver for Names<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let Some((host, port)) = place(uri) else {
            return self.ask.resolve(uri, config, timeout);
        };
        if let Some(address) = literal(&host) {
            let mut addresses = self.empty();
            addresses.push(SocketAddr::new(address, port));
            return Ok(addresses);
        }
        let key = (host, port);
        let fresh = |known: &&Known| known.since.elapsed() < REMEMBERED_FOR;
        if let Some(known) = self.known().get(&key).filter(fresh) {
            return Ok(known.addresses.clone());
        }
        let addresses = self.ask.resolve(uri, config, timeout)?;
        let mut known = self.known();
        if known.len() >= HOSTS_MAX {
            known.clear();
        }
        let now = Known {
            since: Instant::now(),
            addresses: addresses.clone(),
        };
        known.insert(key, now);
        Ok(addresses)
    }
}

/// Host and port, where the URL says or implies both.
fn place(uri: &Uri) -> Option<(String, u16)> {
    let authority = uri.authority()?;
    let port = match (authority.port_u16(), uri.scheme_str()?) {
        (Some(port), _) => port,
        (None, "https") => 443,
        (None, "http") => 80,
        _ => return None,
    };
    Some((authority.host().to_owned(), port))
}

/// The address that a host's name is already.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers with another address each time.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Resolver for Counting {
        fn resolve(
            &self,
            uri: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            if uri.host() == Some("nowhere") {
                return Err(Error::HostNotFound);
            }
            let mut addresses = self.empty();
            let last = u8::try_from(number).unwrap_or(u8::MAX);
            addresses.push(SocketAddr::from(([10, 0, 0, last], 1)));
            Ok(addresses)
        }
    }

    #[test]
    fn a_host_is_asked_for_once_and_a_failure_again() {
        let names = Names {
            ask: Counting::default(),
            known: Mutex::default(),
        };
        let ask = |url: &str| {
            let timeout = NextTimeout::default();
            let found = names.resolve(&url.parse().unwrap(), &Config::default(), timeout);
            found.map(|addresses| addresses[0].to_string()).ok()
        };
        let asked = || names.ask.0.load(Ordering::SeqCst);
        assert_eq!(ask("https://one/a"), ask("https://one/b"));
        assert_eq!(asked(), 1);
        assert_ne!(ask("http://one/"), ask("https://one/"), "another port");
        assert_eq!(asked(), 2);
        assert_eq!(ask("https://nowhere/"), None);
        assert_eq!(ask("https://nowhere/"), None);
        assert_eq!(asked(), 4);
        assert_eq!(ask("http://127.0.0.1:5000/"), Some("127.0.0.1:5000".into()));
        assert_eq!(ask("https://[::1]/"), Some("[::1]:443".into()));
        assert_eq!(asked(), 4, "an address needs no name service");
        for known in names.known().values_mut() {
            known.since -= REMEMBERED_FOR;
        }
        ask("https://one/");
        assert_eq!(asked(), 5, "what is old is asked for anew");
    }
}
