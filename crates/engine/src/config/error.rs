//! What can be wrong with a configuration.
//!
//! Invariant: the text never shows a value that could be a secret, only keys and short words.

/// The first thing that is wrong, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at line {line}, column {column}")]
pub struct ConfigError {
    /// What is wrong.
    pub kind: ConfigErrorKind,
    /// Counted from 1; 0 if not known.
    pub line: u64,
    /// Counted from 1; 0 if not known.
    pub column: u64,
    /// The known word that was probably meant.
    pub suggestion: Option<String>,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigErrorKind {
    /// A key that no type has.
    #[error("unknown key {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that are known there.
        expected: Vec<&'static str>,
    },
    /// A value that is none of the known words.
    #[error("unknown value {value:?}")]
    UnknownValue {
        /// The value.
        value: String,
        /// The words that are known there.
        expected: Vec<&'static str>,
    },
    /// A part of the schema that this version does not have yet.
    #[error("{0} not supported yet")]
    NotYet(String),
    /// A key that must be given.
    #[error("key {0:?} is missing")]
    MissingKey(&'static str),
    /// A key that is given twice.
    #[error("key {0:?} is given twice")]
    DuplicateKey(String),
    /// A name that is not declared.
    #[error("source {0:?} is not declared under sources")]
    UnknownSource(String),
    /// A repository that is not declared.
    #[error("repository {0:?} is not declared under repositories")]
    UnknownRepository(String),
    /// A value out of bounds, or two that do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// The text is no YAML, or has another shape.
    #[error("{0}")]
    Malformed(String),
}
