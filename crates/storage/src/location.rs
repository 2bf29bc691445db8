//! Where a repository is, as people write it, and opening it.
//!
//! Invariant: a [`Location`] never holds a secret: text with one is refused, and the refusal does
//! not repeat it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::local::LocalStorage;
use crate::{SharedStorage, StorageError, StorageErrorKind};

/// A parsed address of a repository.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Location {
    /// A folder: `/path`, `./path`, `path`, `file:/path`, `file:///path`, `local:path`.
    Folder(PathBuf),
}

/// Why text is no usable address of a repository.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LocationError {
    /// Nothing was given.
    #[error("the repository's location is empty")]
    Empty,
    /// The text holds a password or key.
    #[error(
        "the repository's location holds credentials: give them by environment, file or command"
    )]
    Credentials,
    /// A place that Refloat knows of, but this build has no client for.
    #[error("{place} ({scheme}:) is not supported by this build yet; use a folder")]
    NotSupported {
        /// The scheme as written.
        scheme: String,
        /// What it stands for.
        place: &'static str,
    },
    /// A scheme nobody knows.
    #[error(
        "unknown scheme {scheme:?} of a location; for a folder of that name write ./{scheme}:…"
    )]
    UnknownScheme {
        /// The scheme as written.
        scheme: String,
    },
    /// `file://host/…`.
    #[error("file: addresses name no host; write file:///path")]
    HostInFileAddress,
    /// A `~` that no shell expanded.
    #[error("~ is expanded by shells only; write the full path, or ./~ for a folder of that name")]
    HomeNotExpanded,
    /// A NUL byte.
    #[error("the repository's location holds a NUL byte")]
    Nul,
}

/// Schemes of places that are planned, with restic's and rustic's spellings.
const PLANNED: [(&str, &str); 20] = [
    ("s3", "S3 object storage"),
    ("s3s", "S3 object storage"),
    ("sftp", "SFTP"),
    ("azblob", "Azure Blob Storage"),
    ("azure", "Azure Blob Storage"),
    ("gcs", "Google Cloud Storage"),
    ("gs", "Google Cloud Storage"),
    ("b2", "Backblaze B2"),
    ("swift", "OpenStack Swift"),
    ("webdav", "WebDAV"),
    ("webdavs", "WebDAV"),
    ("http", "WebDAV"),
    ("https", "WebDAV"),
    ("rest", "restic's REST server"),
    ("rclone", "rclone"),
    ("opendal", "OpenDAL"),
    ("smb", "SMB"),
    ("nfs", "NFS without a mount"),
    ("ssh", "SSH"),
    ("ftp", "FTP"),
];

/// Parameters of addresses that carry secrets: signatures, keys, tokens.
const SECRET_PARAMETERS: [&str; 7] = [
    "sig",
    "key",
    "secret",
    "token",
    "password",
    "passwd",
    "signature",
];

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if text.contains('\0') {
            return Err(LocationError::Nul);
        }
        if text == "~" || text.starts_with("~/") {
            return Err(LocationError::HomeNotExpanded);
        }
        match scheme(text) {
            None => Ok(Self::Folder(text.into())),
            Some(("file" | "local", path)) => folder(path),
            Some((scheme, address)) => Err(refusal(scheme, address)),
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// Splits a scheme off; a colon after a slash belongs to a path.
fn scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once(':')
        .filter(|(scheme, _)| !scheme.is_empty() && !scheme.contains('/'))
}

fn folder(path: &str) -> Result<Location, LocationError> {
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(LocationError::HostInFileAddress),
        None => path,
    };
    if path.is_empty() {
        return Err(LocationError::Empty);
    }
    Ok(Location::Folder(path.into()))
}

fn refusal(scheme: &str, address: &str) -> LocationError {
    if holds_credentials(address) {
        return LocationError::Credentials;
    }
    let lower = scheme.to_ascii_lowercase();
    let base = lower.split('+').next().unwrap_or_default();
    let scheme = scheme.to_owned();
    match PLANNED.iter().find(|(planned, _)| *planned == base) {
        Some(&(_, place)) => LocationError::NotSupported { scheme, place },
        None => LocationError::UnknownScheme { scheme },
    }
}

/// Whether an address holds a password before its host, or a secret among its parameters.
///
/// A user name alone is no secret; SFTP needs it.
fn holds_credentials(address: &str) -> bool {
    let (address, parameters) = address.split_once(['?', '#']).unwrap_or((address, ""));
    let authority = match address.split_once("//") {
        Some((_, rest)) => rest,
        None => address,
    };
    // Everything before the last @: a password may itself hold slashes.
    let has_password = authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    let is_secret = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        SECRET_PARAMETERS.iter().any(|word| {
            // Whole words: `access_key`, `X-Amz-Signature`, but not `monkey`.
            name.split(['-', '_', '.']).any(|part| part == *word)
        })
    };
    has_password || parameters.split(['&', ';']).any(is_secret)
}

/// The storage at a location; nothing is created or contacted yet.
///
/// A relative folder is taken from the working folder of this moment.
///
/// # Errors
/// The working folder is gone, so that a relative path names nothing.
pub fn open(location: &Location) -> Result<SharedStorage, StorageError> {
    match location {
        Location::Folder(path) => {
            let root = std::path::absolute(path).map_err(|source| {
                StorageError::on(
                    StorageErrorKind::Failed,
                    "find",
                    "the working folder",
                    location.to_string(),
                    Some(Box::new(source)),
                )
            })?;
            Ok(Arc::new(LocalStorage::new(root)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, LocationError> {
        text.parse()
    }

    #[test]
    fn folders_are_written_in_several_ways() {
        let table = [
            ("/srv/backup", "/srv/backup"),
            ("./repo", "./repo"),
            ("../repo", "../repo"),
            ("repo", "repo"),
            ("repo/with:colon", "repo/with:colon"),
            ("./s3:bucket", "./s3:bucket"),
            ("file:/srv/a b", "/srv/a b"),
            ("file:///srv/backup", "/srv/backup"),
            ("file:relative", "relative"),
            ("local:/srv/backup", "/srv/backup"),
        ];
        for (text, path) in table {
            assert_eq!(parse(text), Ok(Location::Folder(path.into())), "{text}");
        }
    }

    #[test]
    fn other_places_are_recognised_and_refused() {
        let table = [
            ("s3://bucket/prefix", "S3 object storage (s3:)"),
            ("s3:https://host/bucket", "S3 object storage (s3:)"),
            ("sftp://user@host:22//srv", "SFTP (sftp:)"),
            ("sftp:user@host:/srv", "SFTP (sftp:)"),
            ("azblob://container", "Azure Blob Storage (azblob:)"),
            ("gcs://bucket", "Google Cloud Storage (gcs:)"),
            ("webdav:https://host/path", "WebDAV (webdav:)"),
            ("rest:https://host/repo", "restic's REST server (rest:)"),
        ];
        for (text, place) in table {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("{place} is not supported by this build yet; use a folder"),
                "{text}"
            );
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in [
            "rest:https://user:hunter2@host/repo",
            "s3:https://KEY:hun/ter2@host/bucket",
            "sftp://user:hunter2@host//srv",
            "azblob://container?sv=1&sig=hunter2",
            "s3://bucket?access_key=hunter2",
            "s3://bucket?X-Amz-Signature=hunter2",
            "nonsense://user:hunter2@host",
        ] {
            assert_eq!(parse(text), Err(LocationError::Credentials), "{text}");
            assert!(!LocationError::Credentials.to_string().contains("hunter2"));
        }
        assert!(matches!(
            parse("s3://bucket?monkey=1"),
            Err(LocationError::NotSupported { .. })
        ));
    }

    #[test]
    fn what_is_no_address_says_why() {
        let unknown = LocationError::UnknownScheme {
            scheme: "backup".to_owned(),
        };
        assert_eq!(
            unknown.to_string(),
            r#"unknown scheme "backup" of a location; for a folder of that name write ./backup:…"#
        );
        let table = [
            ("", LocationError::Empty),
            ("file:", LocationError::Empty),
            ("file://", LocationError::HostInFileAddress),
            ("file://host/srv", LocationError::HostInFileAddress),
            ("~/backup", LocationError::HomeNotExpanded),
            ("a\0b", LocationError::Nul),
            ("backup:2026", unknown),
        ];
        for (text, error) in table {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn opened_folders_are_absolute() {
        let storage = open(&parse("file:some/repo").unwrap()).unwrap();
        let expected = std::env::current_dir().unwrap().join("some/repo");
        assert_eq!(storage.location(), expected.display().to_string());
    }
}
