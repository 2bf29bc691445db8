//! How the storage of a repository is reached, in `refloat.yaml` and as `--option KEY=VALUE`.
//!
//! Invariant: every value is one word or number, so that the command line can say all of it; none
//! is a secret.

use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::PasswordConfig;
use super::error::ConfigError;
use crate::period::Period;

/// What is said of a storage beside its address. Keys that a service does not know are of no use
/// there and do no harm.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StorageConfig {
    /// The server of an s3:, azblob: or gcs: address, https://HOST:PORT.
    pub endpoint: Option<String>,
    /// S3: the region.
    pub region: Option<String>,
    /// S3: where the bucket's name stands; by default what suits the server.
    pub addressing: Option<AddressingConfig>,
    /// S3: the section of Amazon's shared files.
    pub profile: Option<String>,
    /// S3: the storage class of packs; one that can be read at once.
    pub storage_class: Option<String>,
    /// S3: keep objects from deletion (Object Lock); needs object-lock-period.
    pub object_lock: Option<ObjectLockConfig>,
    /// S3: for how long, from the time they are written or extended.
    #[schemars(with = "Option<String>")]
    pub object_lock_period: Option<Period>,
    /// Azure: the account.
    pub account: Option<String>,
    /// REST and WebDAV: the user's name.
    pub user: Option<String>,
    /// REST and WebDAV: where the password comes from.
    pub password: Option<PasswordConfig>,
    /// SFTP: a configuration file for ssh instead of the user's.
    pub ssh_config: Option<PathBuf>,
    /// Certificates to trust beside the system's; relative to this file.
    pub ca_file: Option<PathBuf>,
    /// Where unencrypted http may go; by default only to this machine.
    pub plain_http: Option<PlainHttpConfig>,
    /// How long the other side may be silent.
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Period>,
    /// For how long a call that fails is repeated; 15 minutes by default.
    #[schemars(with = "Option<String>")]
    pub retry_for: Option<Period>,
    /// How many calls go at once.
    pub connections: Option<u16>,
    /// How many bytes may be sent in a second: 500K, 10M.
    #[schemars(with = "Option<String>")]
    pub limit_upload: Option<ByteRate>,
    /// How many bytes may be received in a second.
    #[schemars(with = "Option<String>")]
    pub limit_download: Option<ByteRate>,
}

/// Where a bucket's name stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddressingConfig {
    /// <https://host/bucket>.
    Path,
    /// <https://bucket.host>.
    Virtual,
}

/// Who may still delete what is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectLockConfig {
    /// Whoever has the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

/// Where unencrypted requests may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlainHttpConfig {
    /// To this machine.
    Loopback,
    /// Wherever an address says so.
    Anywhere,
}

/// Bytes in a second, written as a number with K, M or G (of 1024).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRate(pub u64);

/// Text that is no rate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a rate such as 500K, 10M or 1G (bytes in a second)")]
pub struct InvalidRate(String);

impl FromStr for ByteRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => return Err(InvalidRate(text.to_owned())),
        };
        let rate = digits.parse::<u64>().ok();
        rate.and_then(|number| number.checked_mul(factor))
            .filter(|rate| *rate > 0)
            .map(Self)
            .ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl StorageConfig {
    /// Reads `KEY=VALUE` pairs; each key as in the file.
    ///
    /// # Errors
    /// A key or value is not known.
    pub fn of_pairs(pairs: &[(String, String)]) -> Result<Self, ConfigError> {
        let line = |(key, value): &(String, String)| {
            let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            // JSON's strings are YAML's, so that no value can be more than a value.
            let quoted = serde_json::Value::from(value.as_str()).to_string();
            let value = if is_number && key == "connections" {
                value
            } else {
                &quoted
            };
            format!("{}: {value}\n", serde_json::Value::from(key.as_str()))
        };
        if pairs.is_empty() {
            return Ok(Self::default());
        }
        super::parse::storage(&pairs.iter().map(line).collect::<String>())
    }

    /// These settings, and those of `other` where these say nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            endpoint: self.endpoint.or(other.endpoint),
            region: self.region.or(other.region),
            addressing: self.addressing.or(other.addressing),
            profile: self.profile.or(other.profile),
            storage_class: self.storage_class.or(other.storage_class),
            object_lock: self.object_lock.or(other.object_lock),
            object_lock_period: self.object_lock_period.or(other.object_lock_period),
            account: self.account.or(other.account),
            user: self.user.or(other.user),
            password: self.password.or(other.password),
            ssh_config: self.ssh_config.or(other.ssh_config),
            ca_file: self.ca_file.or(other.ca_file),
            plain_http: self.plain_http.or(other.plain_http),
            timeout: self.timeout.or(other.timeout),
            retry_for: self.retry_for.or(other.retry_for),
            connections: self.connections.or(other.connections),
            limit_upload: self.limit_upload.or(other.limit_upload),
            limit_download: self.limit_download.or(other.limit_download),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<StorageConfig, String> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        StorageConfig::of_pairs(&pairs).map_err(|error| error.kind.to_string())
    }

    #[test]
    fn pairs_say_what_the_file_says() {
        let options = of(&[
            ("endpoint", "https://host: 9"),
            ("addressing", "path"),
            ("connections", "16"),
            ("region", "1"),
            ("limit-upload", "10M"),
            ("timeout", "30s"),
            ("object-lock", "compliance"),
        ])
        .unwrap();
        assert_eq!(options.endpoint.as_deref(), Some("https://host: 9"));
        assert_eq!(options.addressing, Some(AddressingConfig::Path));
        assert_eq!(
            (options.connections, options.region.as_deref()),
            (Some(16), Some("1"))
        );
        assert_eq!(options.limit_upload, Some(ByteRate(10 << 20)));
        assert!(of(&[("regoin", "x")]).unwrap_err().contains("unknown key"));
        assert!(
            of(&[("addressing", "maybe")])
                .unwrap_err()
                .contains("unknown value")
        );
        assert!(
            of(&[("limit-upload", "fast")])
                .unwrap_err()
                .contains("not a rate")
        );
        let first = of(&[("region", "a")]).unwrap();
        let both = first.or(of(&[("region", "b"), ("profile", "p")]).unwrap());
        assert_eq!(
            (both.region.as_deref(), both.profile.as_deref()),
            (Some("a"), Some("p"))
        );
    }

    #[test]
    fn rates_are_numbers_with_a_unit() {
        let rate = |text: &str| text.parse::<ByteRate>().map(|rate| rate.0);
        assert_eq!(rate("500K"), Ok(512_000));
        assert_eq!(rate("1GiB"), Ok(1 << 30));
        assert_eq!(rate("7"), Ok(7));
        for text in ["", "M", "0", "1.5M", "10X", "-1", "99999999999G"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
