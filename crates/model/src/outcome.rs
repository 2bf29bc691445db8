//! What became of an item.
//!
//! Invariant: every item a plan names ends with exactly one outcome.

use serde::{Deserialize, Serialize};

/// The end of one item in one run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// All of it is in the recovery point.
    Saved,
    /// Part of it is in the recovery point; what is not is named.
    Partial {
        /// Paths or things that are missing, with the reason; the first 100.
        missing: Vec<String>,
        /// How many are missing in all.
        missing_count: u64,
    },
    /// Left out on purpose.
    Skipped {
        /// The rule that says so, a short stable word: `stateless`, `excluded`, `device-path`.
        rule: String,
        /// The rule applied to this case, for people.
        why: String,
    },
    /// Should be in the recovery point and is not.
    Failed {
        /// Operation and cause.
        reason: String,
    },
}

impl Outcome {
    /// Whether all of the item can be brought back from this point.
    #[must_use]
    pub const fn is_saved(&self) -> bool {
        matches!(self, Self::Saved)
    }

    /// Whether this outcome makes the run incomplete (exit code 3).
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        matches!(self, Self::Partial { .. } | Self::Failed { .. })
    }

    /// One word for tables.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Partial { .. } => "partial",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// How consistent an item's content is with itself and its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Nothing was writing, or the application wrote the copy itself.
    Application,
    /// Writers were stopped or paused while it was copied.
    Quiesced,
    /// Copied while it was in use, as a power cut would leave it, and over a span of time.
    Crash,
    /// Nothing that changes: definitions, images.
    Definition,
}
