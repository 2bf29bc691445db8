//! Names of repositories, tags and images.
//!
//! Invariant: a name that exists has only characters that can stand in a URL's path as they are.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Longest repository name that registries take, in bytes.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (OCI distribution specification).
const TAG_BYTES_MAX: usize = 128;
/// How much of refused text is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// A repository of a registry, `team/app`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RepositoryName(String);

/// A tag, `1.2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(String);

/// What names one manifest of a repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reference {
    /// By a name that can move.
    Tag(Tag),
    /// By its content.
    Digest(Digest),
}

/// A manifest of a repository: `team/app:1.2`, `team/app@sha256:…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ImageName {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest in it.
    pub reference: Reference,
}

/// An image as engines and clusters name it: `registry.local:5000/team/app:1.2@sha256:…`, and
/// `postgres:15` for Docker Hub's `library/postgres`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EngineName {
    /// Host and port of the registry, as [`EngineName::host`] has it.
    pub(crate) host: String,
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Option<Digest>,
}

impl EngineName {
    /// One spelling for each registry: Docker Hub has several, and ports may go without saying.
    pub(crate) fn host(authority: &str) -> String {
        let host = authority.to_ascii_lowercase();
        match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
                "docker.io".to_owned()
            }
            _ => host.strip_suffix(":443").unwrap_or(&host).to_owned(),
        }
    }
}

/// Text that cannot be a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {expected}")]
pub struct InvalidName {
    text: String,
    expected: &'static str,
}

impl InvalidName {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(SHOWN_CHARS_MAX).collect(),
            expected,
        }
    }
}

impl RepositoryName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One component: letters, digits and single separators between them.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    component.as_bytes().first().is_some_and(alphanumeric)
        && component.as_bytes().last().is_some_and(alphanumeric)
        && component
            .bytes()
            .all(|b| alphanumeric(&b) || b"._-".contains(&b))
        && !component.contains("..")
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= REPOSITORY_BYTES_MAX && text.split('/').all(is_component) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName::new(text, "repository name"))
    }
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest that a tag of the referrers scheme or of cosign speaks of: `sha256-<hex>` with
    /// or without `.sig`, `.att`, `.sbom` or whatever else follows a point.
    #[must_use]
    pub fn subject(&self) -> Option<Digest> {
        let rest = self.0.strip_prefix("sha256-")?;
        Digest::from_hex(rest.split_once('.').map_or(rest, |(hex, _)| hex))
    }

    /// The tag under which the referrers of a manifest are listed where there is no API.
    #[must_use]
    pub fn of_referrers(digest: &Digest) -> Self {
        Self(format!("sha256-{}", digest.hex()))
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= TAG_BYTES_MAX
            && text.as_bytes().first().copied().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || b".-".contains(&byte));
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName::new(text, "tag"))
    }
}

impl FromStr for ImageName {
    type Err = InvalidName;

    /// Reads `repository:tag` or `repository@sha256:…`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const EXPECTED: &str = "image of a repository";
        let (repository, reference) = if let Some((name, digest)) = text.split_once('@') {
            let digest = Digest::parse(digest).map_err(|_| InvalidName::new(text, EXPECTED))?;
            // `repository:tag@digest`: the digest decides.
            let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
            (name, Reference::Digest(digest))
        } else {
            let (name, tag) = text
                .rsplit_once(':')
                .ok_or_else(|| InvalidName::new(text, EXPECTED))?;
            (name, Reference::Tag(tag.parse()?))
        };
        Ok(Self {
            repository: repository.parse()?,
            reference,
        })
    }
}

impl FromStr for EngineName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const EXPECTED: &str = "image of an engine";
        let invalid = || InvalidName::new(text, EXPECTED);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest).map_err(|_| invalid())?)),
            None => (text, None),
        };
        // A colon behind the last slash begins a tag; one before it belongs to a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse()?)),
            _ => (name, None),
        };
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (host, repository) = match name.split_once('/') {
            Some((host, rest)) if is_host(host) => (EngineName::host(host), rest.to_owned()),
            Some(_) => (EngineName::host("docker.io"), name.to_owned()),
            None => (EngineName::host("docker.io"), format!("library/{name}")),
        };
        let repository = match host == "docker.io" && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository,
        };
        Ok(Self {
            host,
            repository: repository.parse()?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        write!(f, "{}{separator}{}", self.repository, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_in_a_url_are_refused() {
        for name in ["app", "team/app", "a__b/c.d-e", "0"] {
            assert_eq!(
                name.parse::<RepositoryName>()
                    .map(|n| n.to_string())
                    .as_deref(),
                Ok(name)
            );
        }
        for name in [
            "", "/", "a//b", "../x", "a/..", "App", "a b", "a?x=1", "a%2e", "-a", "a_",
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
        for tag in ["", ".x", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn tags_of_referrers_tell_their_subject() {
        let digest = Digest::of(b"x");
        let tag = Tag::of_referrers(&digest);
        assert_eq!(tag.subject(), Some(digest));
        let signature: Tag = format!("{tag}.sig").parse().unwrap();
        assert_eq!(signature.subject(), Some(digest));
        assert_eq!("sha256-1.sig".parse::<Tag>().unwrap().subject(), None);
    }

    #[test]
    fn engines_name_images_with_and_without_registry() {
        let digest = Digest::of(b"x");
        let pinned = format!("h:5000/a/b:1@{digest}");
        for (text, host, repository, tag) in [
            ("postgres", "docker.io", "library/postgres", None),
            (
                "docker.io/postgres:15",
                "docker.io",
                "library/postgres",
                Some("15"),
            ),
            ("team/app:1", "docker.io", "team/app", Some("1")),
            ("localhost/app:1", "localhost", "app", Some("1")),
            ("registry.local:443/a/b", "registry.local", "a/b", None),
            (&pinned, "h:5000", "a/b", Some("1")),
        ] {
            let name: EngineName = text.parse().unwrap();
            let found = (name.host.as_str(), name.repository.as_str());
            assert_eq!(found, (host, repository), "{text}");
            assert_eq!(name.tag.as_ref().map(Tag::as_str), tag, "{text}");
            assert_eq!(name.digest.is_some(), text == pinned, "{text}");
        }
        assert!(
            "sha256:0123".parse::<EngineName>().is_ok(),
            "an id looks like a name"
        );
        assert!("App".parse::<EngineName>().is_err());
    }

    #[test]
    fn image_names_come_back_as_written_and_a_digest_decides() {
        let digest = Digest::of(b"x");
        for text in ["team/app:1.2".to_owned(), format!("app@{digest}")] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), text);
        }
        let both = format!("app:1@{digest}").parse::<ImageName>().unwrap();
        assert_eq!(both.reference, Reference::Digest(digest));
        assert!("app".parse::<ImageName>().is_err());
    }
}
