//! Patterns over names.
//!
//! Invariant: a [`Glob`] that exists is valid.

use serde::{Deserialize, Serialize};

/// A shell-like pattern: `*`, `?`, `[a-z]`, `{a,b}`; `*` also matches `/`.
#[derive(Clone, Debug)]
pub struct Glob(globset::GlobMatcher);

/// Text that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("pattern {pattern:?} is not valid")]
pub struct InvalidGlob {
    pattern: String,
    #[source]
    source: globset::Error,
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is not valid.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        match globset::Glob::new(pattern) {
            Ok(glob) => Ok(Self(glob.compile_matcher())),
            Err(source) => Err(InvalidGlob {
                pattern: pattern.to_owned(),
                source,
            }),
        }
    }

    /// Whether the whole of `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.0.glob().glob()
    }

    /// Whether it fits only what it says, without a wildcard.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.pattern().contains(['*', '?', '[', '{'])
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.pattern() == other.pattern()
    }
}

impl Eq for Glob {}

impl Serialize for Glob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.pattern())
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
