//! Paths beneath a folder that is being restored.
//!
//! Invariant: no component is empty, `.` or `..`, none has a NUL; so a path cannot name anything
//! above the folder, whatever made the names.

use std::fmt;

use refloat_model::tree_path::{TreePath, is_valid_name};

/// Where an entry lies beneath a root; the empty path is the root itself.
///
/// One allocation, because a restore makes millions of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RelativePath(Vec<u8>);

/// A name that cannot be one path component, escaped for display.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("name {0:?} is empty, '.', '..' or contains '/' or NUL")]
pub struct InvalidName(pub String);

impl RelativePath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of the entry `name` in this directory.
    ///
    /// # Errors
    /// `name` is not one valid component.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidName> {
        if !is_valid_name(name) {
            return Err(InvalidName(name.escape_ascii().to_string()));
        }
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Self(path))
    }

    /// Splits at `/`; the empty text is the root. Nothing is cleaned up: a leading, trailing or
    /// doubled slash is an error, as `.` and `..` are.
    ///
    /// # Errors
    /// A component is not valid.
    pub fn parse(path: &[u8]) -> Result<Self, InvalidName> {
        if path.is_empty() {
            return Ok(Self::root());
        }
        path.split(|b| *b == b'/')
            .try_fold(Self::root(), |parent, name| parent.join(name))
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; none for the root.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.0
            .rsplit(|b| *b == b'/')
            .next()
            .filter(|n| !n.is_empty())
    }

    /// The directory that holds this entry; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0.get(..end).unwrap_or_default().to_vec()))
    }

    /// The components from the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The components joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&TreePath> for RelativePath {
    /// Takes a tree's root for the folder's root; the components of a [`TreePath`] are valid.
    fn from(path: &TreePath) -> Self {
        Self(path.components().join(&b'/'))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path() {
        let path = RelativePath::parse(b"a/b\xff/c").unwrap();
        assert_eq!(path.name(), Some(&b"c"[..]));
        assert_eq!(
            path.components().collect::<Vec<_>>(),
            [&b"a"[..], b"b\xff", b"c"]
        );
        let parent = path.parent().unwrap();
        assert_eq!(parent.as_bytes(), b"a/b\xff");
        assert_eq!(
            parent.parent().unwrap().parent(),
            Some(RelativePath::root())
        );
        assert_eq!(RelativePath::root().parent(), None);
        assert_eq!(RelativePath::root().name(), None);
        let tree = TreePath::parse("/x/y").unwrap();
        assert_eq!(RelativePath::from(&tree).as_bytes(), b"x/y");
        assert!(RelativePath::from(&TreePath::root()).is_root());
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/abs", b"/", b"a\0b", b"\0"] {
            let refused = RelativePath::root().join(name).unwrap_err();
            assert_eq!(refused, InvalidName(name.escape_ascii().to_string()));
        }
        for path in [&b"/a"[..], b"a/", b"a//b", b"a/../b", b"a/.", b".."] {
            assert!(RelativePath::parse(path).is_err(), "{path:?}");
        }
    }
}
