//! Where a bucket is: which server, which region, and where its name stands.
//!
//! Invariant: a bucket whose name cannot be a part of a host's name, and one on a server of one's
//! own, stands in the path.

use refloat_storage::FileKind;
use refloat_storage::location::{Endpoint, RemoteAddress, Transport};

use super::retention::ObjectLock;
use crate::Surroundings;
use crate::http::{ConnectError, Slash, encode};

/// Where a bucket's name stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// `https://host/bucket/…`.
    Path,
    /// `https://bucket.host/…`.
    Virtual,
}

/// What can be said of a repository in a bucket.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// The server; none for Amazon's.
    pub endpoint: Option<Endpoint>,
    /// The region; none for that of the environment or profile.
    pub region: Option<String>,
    /// Where the bucket's name stands; none for what suits the server.
    pub addressing: Option<Addressing>,
    /// The section of the shared files; none for that of the environment.
    pub profile: Option<String>,
    /// The storage class of packs; everything else must be readable at once.
    pub storage_class: Option<String>,
    /// How objects are kept from deletion.
    pub lock: Option<ObjectLock>,
}

impl S3Options {
    pub(super) fn class_of(&self, kind: FileKind) -> Option<&str> {
        self.storage_class
            .as_deref()
            .filter(|_| kind == FileKind::Pack)
    }
}

/// A place in a bucket.
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    /// Before the object's path: the bucket, or nothing.
    base: String,
    pub(crate) prefix: String,
    pub(crate) shown: String,
}

impl Place {
    pub(super) fn new(
        address: &RemoteAddress,
        options: &S3Options,
        region: &str,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let named = match (&address.endpoint, &options.endpoint) {
            (Some(_), Some(_)) => {
                return Err(ConnectError::Options(
                    "the endpoint is named twice, in the address and as an option".to_owned(),
                ));
            }
            (Some(endpoint), None) | (None, Some(endpoint)) => Some(endpoint.clone()),
            (None, None) => from_environment(around)?,
        };
        let is_amazon = named
            .as_ref()
            .is_none_or(|endpoint| endpoint.host.ends_with(".amazonaws.com"));
        let server = named.unwrap_or_else(|| Endpoint {
            transport: Transport::Tls,
            host: amazon(region),
            port: None,
        });
        // A dot in the name would not match the server's certificate.
        let fits_host = !address.bucket.contains(['.', '_', '$']);
        let addressing = options.addressing.unwrap_or(if is_amazon && fits_host {
            Addressing::Virtual
        } else {
            Addressing::Path
        });
        let (endpoint, base) = match addressing {
            Addressing::Path => (
                server,
                format!("/{}", encode(&address.bucket, Slash::Encoded)),
            ),
            Addressing::Virtual => (
                Endpoint {
                    host: format!("{}.{}", address.bucket, server.host),
                    ..server
                },
                String::new(),
            ),
        };
        Ok(Self {
            endpoint,
            base,
            prefix: address.path.clone(),
            shown: address.to_string(),
        })
    }

    /// The URL of an object or, without a path, of the bucket. Parameters must come sorted.
    pub(super) fn url(&self, path: &str, parameters: &[(&str, String)]) -> String {
        let path = encode(path, Slash::Kept);
        let mut pairs: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value, Slash::Encoded)))
            .collect();
        pairs.sort_unstable();
        let query = if pairs.is_empty() {
            String::new()
        } else {
            format!("?{}", pairs.join("&"))
        };
        let separator = if path.is_empty() && !self.base.is_empty() {
            ""
        } else {
            "/"
        };
        format!("{}{}{separator}{path}{query}", self.endpoint, self.base)
    }
}

fn amazon(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("s3.{region}.amazonaws.com{suffix}")
}

fn from_environment(around: &Surroundings) -> Result<Option<Endpoint>, ConnectError> {
    for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        if let Some(text) = around.text(name) {
            return text
                .parse()
                .map(Some)
                .map_err(|what| ConnectError::Options(format!("{name} is {what}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_storage::Location;

    fn url(address: &str, options: &S3Options) -> String {
        let Location::Remote(address) = address.parse().unwrap() else {
            panic!("{address} is remote");
        };
        let around = Surroundings::empty();
        let place = Place::new(&address, options, "eu-west-1", &around).unwrap();
        place.url("a b/c", &[("x", "1/2".to_owned())])
    }

    #[test]
    fn buckets_stand_where_the_server_finds_them() {
        let options = S3Options::default();
        for (address, expected) in [
            (
                "s3://bucket/p",
                "https://bucket.s3.eu-west-1.amazonaws.com/",
            ),
            (
                "s3://my.bucket/p",
                "https://s3.eu-west-1.amazonaws.com/my.bucket/",
            ),
            ("s3:https://host:9/bucket", "https://host:9/bucket/"),
        ] {
            assert_eq!(url(address, &options), format!("{expected}a%20b/c?x=1%2F2"));
        }
        let options = S3Options {
            endpoint: Some("http://[::1]:1".parse().unwrap()),
            addressing: Some(Addressing::Virtual),
            ..S3Options::default()
        };
        let expected = "http://bucket.[::1]:1/a%20b/c?x=1%2F2";
        assert_eq!(url("s3://bucket", &options), expected);
    }

    #[test]
    fn an_endpoint_is_named_once() {
        let Ok(Location::Remote(address)) = "s3:https://h/b".parse() else {
            panic!("remote");
        };
        let options = S3Options {
            endpoint: Some("https://other".parse().unwrap()),
            ..S3Options::default()
        };
        let place = Place::new(&address, &options, "r", &Surroundings::empty());
        assert!(matches!(place, Err(ConnectError::Options(_))));
    }
}
