//! Addresses of storage on other machines, in restic's spellings and as URLs.
//!
//! Invariant: an address names a place and never carries a secret; whether it may be reached
//! without encryption is decided by whoever connects.

use super::LocationError;

/// The protocols of storage on other machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// Amazon's S3 and what speaks its protocol.
    S3,
    /// restic's REST server.
    Rest,
    /// SFTP over SSH.
    Sftp,
    /// WebDAV.
    WebDav,
    /// Azure Blob Storage.
    AzureBlob,
    /// Google Cloud Storage.
    GoogleCloud,
}

impl Service {
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "s3" => Self::S3,
            "rest" => Self::Rest,
            "sftp" => Self::Sftp,
            "webdav" | "webdavs" => Self::WebDav,
            "azblob" | "azure" => Self::AzureBlob,
            "gcs" | "gs" => Self::GoogleCloud,
            _ => return None,
        })
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Rest => "rest",
            Self::Sftp => "sftp",
            Self::WebDav => "webdav",
            Self::AzureBlob => "azblob",
            Self::GoogleCloud => "gcs",
        }
    }

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Rest => "restic's REST server",
            Self::Sftp => "SFTP",
            Self::WebDav => "WebDAV",
            Self::AzureBlob => "Azure Blob Storage",
            Self::GoogleCloud => "Google Cloud Storage",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::S3 => "s3://BUCKET/PREFIX or s3:https://HOST/BUCKET/PREFIX",
            Self::Rest => "rest:https://HOST:PORT/PATH/",
            Self::Sftp => "sftp://USER@HOST:PORT//ABSOLUTE/PATH or sftp:USER@HOST:PATH",
            Self::WebDav => "webdavs://HOST/PATH or webdav:https://HOST/PATH",
            Self::AzureBlob => "azblob://CONTAINER/PREFIX",
            Self::GoogleCloud => "gcs://BUCKET/PREFIX",
        }
    }

    const fn malformed(self, what: &'static str) -> LocationError {
        LocationError::Malformed {
            place: self.name(),
            what,
            example: self.example(),
        }
    }
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// `http`.
    Plain,
    /// `https`.
    Tls,
}

/// A server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// How it is reached.
    pub transport: Transport,
    /// Name or address; an IPv6 address stands in brackets.
    pub host: String,
    /// None for the usual one.
    pub port: Option<u16>,
}

impl Endpoint {
    /// `host` or `host:port`, as it stands in URLs.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The port that is connected to.
    #[must_use]
    pub const fn port_in_use(&self) -> u16 {
        match (self.port, self.transport) {
            (Some(port), _) => port,
            (None, Transport::Plain) => 80,
            (None, Transport::Tls) => 443,
        }
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => bare.eq_ignore_ascii_case("localhost"),
        }
    }

    fn of_authority(transport: Transport, authority: &str) -> Option<Self> {
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of a bare IPv6 address stands inside brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        let has_colon = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || has_colon || !host.bytes().all(plain) {
            return None;
        }
        Some(Self {
            transport,
            host: host.to_owned(),
            port,
        })
    }
}

impl std::str::FromStr for Endpoint {
    type Err = &'static str;

    /// Reads `https://host:port`, `http://host:port`; a lone `host:port` is encrypted.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (transport, rest) = split_transport(text).unwrap_or((Transport::Tls, text));
        Self::of_authority(transport, rest.trim_end_matches('/'))
            .ok_or("not a server's address such as https://HOST:PORT")
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// A place on another machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RemoteAddress {
    /// The protocol.
    pub service: Service,
    /// The server; none where the service has one of its own or options name it.
    pub endpoint: Option<Endpoint>,
    /// A user's name, for SFTP.
    pub user: Option<String>,
    /// Bucket or container; empty where the service has none.
    pub bucket: String,
    /// The path below it, without slashes at the end; only SFTP knows absolute ones.
    pub path: String,
}

impl RemoteAddress {
    pub(super) fn parse(
        service: Service,
        scheme: &str,
        address: &str,
    ) -> Result<Self, LocationError> {
        if address.contains(['?', '#', '\n', '\r']) {
            return Err(service.malformed("it has parameters"));
        }
        match service {
            Service::S3 => bucket_or_url(service, address),
            Service::GoogleCloud | Service::AzureBlob => bucket(service, address),
            Service::Rest => url(service, address),
            Service::WebDav => match address.strip_prefix("//") {
                Some(rest) => {
                    let transport = match scheme {
                        "webdavs" => Transport::Tls,
                        _ => Transport::Plain,
                    };
                    server(service, transport, rest)
                }
                None => url(service, address),
            },
            Service::Sftp => sftp(address),
        }
    }
}

impl std::fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.service.scheme();
        match (&self.endpoint, self.service) {
            (Some(endpoint), Service::Sftp) => {
                let user = self.user.as_ref().map(|user| format!("{user}@"));
                let user = user.unwrap_or_default();
                write!(f, "{scheme}://{user}{}/{}", endpoint.authority(), self.path)
            }
            (Some(endpoint), Service::S3) => {
                write!(f, "{scheme}:{endpoint}/{}", self.bucket)?;
                below(f, &self.path)
            }
            (Some(endpoint), _) => {
                write!(f, "{scheme}:{endpoint}")?;
                below(f, &self.path)
            }
            (None, _) => {
                write!(f, "{scheme}://{}", self.bucket)?;
                below(f, &self.path)
            }
        }
    }
}

fn below(f: &mut std::fmt::Formatter<'_>, path: &str) -> std::fmt::Result {
    if path.is_empty() {
        Ok(())
    } else {
        write!(f, "/{path}")
    }
}

fn split_transport(text: &str) -> Option<(Transport, &str)> {
    let tls = text.strip_prefix("https://").map(|r| (Transport::Tls, r));
    tls.or_else(|| text.strip_prefix("http://").map(|r| (Transport::Plain, r)))
}

fn clean(service: Service, path: &str) -> Result<String, LocationError> {
    let path = path.trim_matches('/');
    let wrong = |part: &str| part.is_empty() || part == "." || part == "..";
    if !path.is_empty() && path.split('/').any(wrong) {
        return Err(service.malformed("its path has an empty part, . or .."));
    }
    Ok(path.to_owned())
}

/// `//bucket/prefix`, or restic's `bucket:/prefix`.
fn bucket(service: Service, address: &str) -> Result<RemoteAddress, LocationError> {
    let (bucket, path) = match address.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => address
            .split_once(':')
            .ok_or(service.malformed("there is no //"))?,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._$".contains(&b);
    if bucket.is_empty() || !bucket.bytes().all(plain) {
        return Err(service.malformed("the bucket's name is missing or has odd characters"));
    }
    Ok(RemoteAddress {
        service,
        endpoint: None,
        user: None,
        bucket: bucket.to_owned(),
        path: clean(service, path)?,
    })
}

/// `//bucket/prefix`, `https://host/bucket/prefix`, or restic's `host/bucket/prefix`.
fn bucket_or_url(service: Service, address: &str) -> Result<RemoteAddress, LocationError> {
    if address.starts_with("//") {
        return bucket(service, address);
    }
    let (transport, rest) = split_transport(address).unwrap_or((Transport::Tls, address));
    let whole = server(service, transport, rest)?;
    let (bucket, path) = whole.path.split_once('/').unwrap_or((&whole.path, ""));
    if bucket.is_empty() {
        return Err(service.malformed("there is no bucket"));
    }
    Ok(RemoteAddress {
        bucket: bucket.to_owned(),
        path: path.to_owned(),
        ..whole.clone()
    })
}

fn url(service: Service, address: &str) -> Result<RemoteAddress, LocationError> {
    let (transport, rest) =
        split_transport(address).ok_or(service.malformed("there is no http:// or https://"))?;
    server(service, transport, rest)
}

fn server(
    service: Service,
    transport: Transport,
    rest: &str,
) -> Result<RemoteAddress, LocationError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(service.malformed("a user's name is an option or a variable, no part of it"));
    }
    let endpoint = Endpoint::of_authority(transport, authority)
        .ok_or(service.malformed("the host's name is missing or wrong"))?;
    Ok(RemoteAddress {
        service,
        endpoint: Some(endpoint),
        user: None,
        bucket: String::new(),
        path: clean(service, path)?,
    })
}

/// `//user@host:port/relative`, `//user@host:port//absolute`, or `user@host:path`.
fn sftp(address: &str) -> Result<RemoteAddress, LocationError> {
    let service = Service::Sftp;
    let (whole, path) = match address.strip_prefix("//") {
        Some(rest) => rest
            .split_once('/')
            .ok_or(service.malformed("there is no path"))?,
        None => address
            .split_once(':')
            .ok_or(service.malformed("there is no path"))?,
    };
    let (user, authority) = match whole.rsplit_once('@') {
        Some((user, authority)) => (Some(user), authority),
        None => (None, whole),
    };
    // A name that begins with a dash would be an option of ssh.
    let is_option = |text: &str| text.is_empty() || text.starts_with('-');
    if user.is_some_and(is_option) || is_option(authority) {
        return Err(service.malformed("user or host is missing or begins with a dash"));
    }
    let endpoint = Endpoint::of_authority(Transport::Tls, authority)
        .ok_or(service.malformed("the host's name is missing or wrong"))?;
    let absolute = if path.starts_with('/') { "/" } else { "" };
    let path = clean(service, path)?;
    if path.is_empty() {
        return Err(service.malformed("there is no path"));
    }
    Ok(RemoteAddress {
        service,
        endpoint: Some(endpoint),
        user: user.map(str::to_owned),
        bucket: String::new(),
        path: format!("{absolute}{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;

    #[test]
    fn addresses_are_read_and_shown() {
        let table = [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3:https://h:9000/bucket/a", "s3:https://h:9000/bucket/a"),
            ("s3:http://127.0.0.1:1/b", "s3:http://127.0.0.1:1/b"),
            ("s3:s3.amazonaws.com/b/p", "s3:https://s3.amazonaws.com/b/p"),
            ("rest:http://localhost:8000/", "rest:http://localhost:8000"),
            (
                "rest:https://[::1]:8000/a/b/",
                "rest:https://[::1]:8000/a/b",
            ),
            ("webdavs://host/dav/x", "webdav:https://host/dav/x"),
            ("webdav://localhost/dav", "webdav:http://localhost/dav"),
            ("webdav:https://host/dav", "webdav:https://host/dav"),
            ("sftp://me@host:22//srv/r", "sftp://me@host:22//srv/r"),
            ("sftp://host/rel/r", "sftp://host/rel/r"),
            ("sftp:me@host:/srv/r", "sftp://me@host//srv/r"),
            ("sftp:host:rel", "sftp://host/rel"),
            ("azblob://container/p", "azblob://container/p"),
            ("azure:container:/p", "azblob://container/p"),
            ("gs:bucket:/p", "gcs://bucket/p"),
            ("gcs://bucket/p/q", "gcs://bucket/p/q"),
        ];
        for (text, shown) in table {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), shown, "{text}");
            let again: Location = shown.parse().unwrap();
            assert_eq!(again, location, "{shown} means the same");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "s3:",
            "s3://",
            "s3:https://host/",
            "s3://buc ket",
            "s3://bucket/../other",
            "s3://bucket?region=x",
            "rest:host/path",
            "rest:https:///path",
            "rest:https://user@host/path",
            "rest:https://host:port/path",
            "sftp://host",
            "sftp:host",
            "sftp://-oProxyCommand=x/path",
            "sftp://-u@host/path",
            "sftp:@host:/path",
            "azblob://",
            "gcs:bucket",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.to_string().contains("; write "), "{text}: {error}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        let is_loopback = |text: &str| text.parse::<Endpoint>().unwrap().is_loopback();
        for text in [
            "http://127.0.0.1",
            "http://127.9.9.9:1",
            "http://[::1]:2",
            "localhost",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        for text in [
            "http://10.0.0.1",
            "http://localhost.example",
            "https://[fe80::1]",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }
}
