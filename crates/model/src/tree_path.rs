//! Paths inside a recovery point's tree, and the reversible escaping of names.
//!
//! Invariant: a [`TreePath`] is absolute, has no empty, `.` or `..` component and no NUL.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name that a path component may have, in bytes (Linux `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// An absolute path inside a recovery point, `/docker/web/volumes/db`.
///
/// Components are raw bytes: file names need not be UTF-8. The root is the empty list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TreePath(Vec<Vec<u8>>);

/// Why bytes are no [`TreePath`] component.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("path component {0:?} is empty, '.', '..' or contains '/' or NUL")]
pub struct InvalidComponent(pub String);

/// Whether `name` can name an entry of a directory: not empty, `.` or `..`, no `/`, no NUL.
#[must_use]
pub fn is_valid_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | 0))
}

impl TreePath {
    /// The root of a point.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Splits at `/`; leading, trailing and repeated slashes do not count.
    ///
    /// # Errors
    /// A component is `.` or `..` or has a NUL.
    pub fn parse(path: impl AsRef<[u8]>) -> Result<Self, InvalidComponent> {
        path.as_ref()
            .split(|b| *b == b'/')
            .filter(|c| !c.is_empty())
            .try_fold(Self::root(), |parent, name| parent.join(name))
    }

    /// The path of the entry `name` in this directory.
    ///
    /// # Errors
    /// `name` is not one valid component.
    pub fn join(mut self, name: impl AsRef<[u8]>) -> Result<Self, InvalidComponent> {
        let name = name.as_ref();
        if !is_valid_name(name) {
            return Err(InvalidComponent(String::from_utf8_lossy(name).into_owned()));
        }
        self.0.push(name.to_vec());
        Ok(self)
    }

    /// The path of an entry whose name comes from outside: escaped where it could not stand.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(escape(name).into_bytes());
        path
    }

    /// The components from the root.
    #[must_use]
    pub fn components(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The last component; none for the root.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.0.last().map(Vec::as_slice)
    }

    /// The directory that holds this entry; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, rest)| Self(rest.to_vec()))
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0
            .iter()
            .try_for_each(|name| write!(f, "/{}", String::from_utf8_lossy(name)))
    }
}

impl Serialize for TreePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Escapes a name from outside so that it can be one path component, reversibly.
///
/// `%`, `/`, NUL and control bytes become `%XX`; so does the first byte of `.` and `..`; the
/// empty name becomes `%`. A name that is still too long is cut and ends in `%~` and a hash of
/// the whole: that one form is recognisable, but the name must be read from the manifest.
#[must_use]
pub fn escape(name: &str) -> String {
    use std::fmt::Write as _;
    if name.is_empty() {
        return "%".to_owned();
    }
    let dots = matches!(name, "." | "..");
    let mut escaped = String::with_capacity(name.len());
    for (index, c) in name.chars().enumerate() {
        if matches!(c, '%' | '/') || c.is_ascii_control() || (dots && index == 0) {
            // Writing to a String cannot fail.
            let _infallible = write!(escaped, "%{:02X}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    if escaped.len() <= NAME_BYTES_MAX {
        return escaped;
    }
    let hash = fnv1a(name.as_bytes());
    let mut end = NAME_BYTES_MAX - 18;
    while !escaped.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}%~{hash:016x}", &escaped[..end])
}

/// The name that [`escape`] made `component` from; none if it is not such a form or was cut.
#[must_use]
pub fn unescape(component: &str) -> Option<String> {
    if component == "%" {
        return Some(String::new());
    }
    let mut name = Vec::with_capacity(component.len());
    let mut rest = component.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            name.push(*first);
            continue;
        }
        let (code, tail) = rest.split_at_checked(2)?;
        if !code.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        name.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(name).ok()
}

/// FNV-1a, 64 bit (<http://www.isthe.com/chongo/tech/comp/fnv/>): enough to tell cut names apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_escaped_form() {
        for name in [
            "db",
            "a/b",
            "100%",
            ".",
            "..",
            "",
            "line\nbreak",
            "blobs",
            "ü/%2F",
            "...",
        ] {
            let escaped = escape(name);
            assert!(is_valid_name(escaped.as_bytes()), "{escaped}");
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
        }
    }

    #[test]
    fn long_names_fit_and_stay_apart() {
        let (a, b) = ("ä".repeat(300), format!("{}x", "ä".repeat(299)));
        assert!(escape(&a).len() <= NAME_BYTES_MAX);
        assert_ne!(escape(&a), escape(&b));
        assert_eq!(unescape(&escape(&a)), None);
    }

    #[test]
    fn hostile_components_are_refused() {
        assert!(TreePath::parse("/a/../b").is_err());
        assert!(TreePath::root().join("a/b").is_err());
        assert!(TreePath::root().join(b"a\0").is_err());
        assert_eq!(
            TreePath::parse("//a//b/").map(|p| p.to_string()),
            Ok("/a/b".to_owned())
        );
    }
}
