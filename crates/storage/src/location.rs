//! Where a repository is, as people write it, and opening it.
//!
//! Invariant: a [`Location`] never holds a secret: text with one is refused, and the refusal does
//! not repeat it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

mod remote;

pub use remote::{Endpoint, RemoteAddress, Service, Transport};

use crate::local::LocalStorage;
use crate::{SharedStorage, StorageError, StorageErrorKind};

/// A parsed address of a repository.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Location {
    /// A folder: `/path`, `./path`, `path`, `file:/path`, `file:///path`, `local:path`.
    Folder(PathBuf),
    /// Another machine.
    Remote(RemoteAddress),
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
    /// A place that is reached in another way.
    #[error("{scheme}: is not supported: {instead}")]
    Elsewhere {
        /// The scheme as written.
        scheme: String,
        /// What it stands for, and what to do.
        instead: &'static str,
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
    /// An address of a known service that lacks a part or has one too many.
    #[error("not an address of {place}: {what}; write {example}")]
    Malformed {
        /// The service.
        place: &'static str,
        /// What is wrong.
        what: &'static str,
        /// How it is written.
        example: &'static str,
    },
}

/// Schemes that other programs know, and what to do instead.
const ELSEWHERE: [(&str, &str); 11] = [
    (
        "b2",
        "Backblaze B2: use its S3 address, s3:https://s3.REGION.backblazeb2.com/BUCKET",
    ),
    (
        "swift",
        "OpenStack Swift: use its S3 address, s3:https://HOST/BUCKET",
    ),
    (
        "http",
        "a web address alone: write webdav:http://… or rest:http://…",
    ),
    (
        "https",
        "a web address alone: write webdav:https://…, rest:https://… or s3:https://…",
    ),
    (
        "rclone",
        "rclone: serve it with `rclone serve restic` and use rest:http://127.0.0.1:PORT/",
    ),
    ("opendal", "OpenDAL: name the service itself"),
    ("smb", "SMB: mount it and use the folder"),
    ("nfs", "NFS: mount it and use the folder"),
    ("ftp", "FTP: use sftp:"),
    ("ssh", "SSH: use sftp:"),
    ("scp", "SCP: use sftp:"),
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
            Some((_, address)) if holds_credentials(address) => Err(LocationError::Credentials),
            Some((scheme, address)) => match Service::of_scheme(scheme) {
                Some(service) => RemoteAddress::parse(service, scheme, address).map(Self::Remote),
                None => Err(refusal(scheme)),
            },
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Remote(address) => address.fmt(f),
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

fn refusal(scheme: &str) -> LocationError {
    let lower = scheme.to_ascii_lowercase();
    let base = lower.split('+').next().unwrap_or_default();
    let scheme = scheme.to_owned();
    match ELSEWHERE.iter().find(|(other, _)| *other == base) {
        Some(&(_, instead)) => LocationError::Elsewhere { scheme, instead },
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

/// The storage in a folder; nothing is created or contacted yet.
///
/// A relative folder is taken from the working folder of this moment.
///
/// # Errors
/// The working folder is gone, so that a relative path names nothing.
pub fn open_folder(path: &Path) -> Result<SharedStorage, StorageError> {
    let root = std::path::absolute(path).map_err(|source| {
        StorageError::on(
            StorageErrorKind::Failed,
            "find",
            "the working folder",
            path.display().to_string(),
            Some(Box::new(source)),
        )
    })?;
    Ok(Arc::new(LocalStorage::new(root)))
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
    fn places_of_other_programs_are_recognised_and_refused() {
        assert_eq!(
            parse("smb://host/share").unwrap_err().to_string(),
            "smb: is not supported: SMB: mount it and use the folder"
        );
        assert!(matches!(
            parse("https://host/repo"),
            Err(LocationError::Elsewhere { .. })
        ));
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
            Err(LocationError::Malformed { .. })
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
        let storage = open_folder(Path::new("some/repo")).unwrap();
        let expected = std::env::current_dir().unwrap().join("some/repo");
        assert_eq!(storage.location(), expected.display().to_string());
    }
}
