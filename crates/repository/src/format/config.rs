//! The `config` file: version, identity and chunker parameters of a repository.
//!
//! Invariant: whatever chunker is used, `chunker_polynomial` is a valid irreducible polynomial,
//! because restic refuses a config without one.

use serde::{Deserialize, Serialize};

use crate::chunker::rabin::Polynomial;

/// The newest format version this program writes and reads.
pub const VERSION_MAX: u32 = 2;

/// The `config` file, sealed but never compressed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// 1 or 2; compression exists from 2.
    pub version: u32,
    /// 64 hex digits, random.
    pub id: String,
    /// For Rabin chunking.
    pub chunker_polynomial: Polynomial,
    /// Which chunker new content is cut by. Absent means Rabin, so that repositories of restic
    /// and rustic keep deduplicating. The field is ours; restic and rustic ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refloat_chunker: Option<ChunkerConfig>,
    /// Public keys of those who may keep writers out; none means whoever can write a lock. The
    /// field is ours; restic and rustic ignore it, and so must not prune beside our writers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refloat_deleters: Vec<String>,
}

/// A chunker that is not restic's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkerConfig {
    /// [`Self::GEAR_V1`] or [`Self::GEAR_V2`]; anything else is of a newer program.
    pub kind: String,
    /// 64 hex digits: the secret that the gear table is derived from.
    pub seed: String,
}

impl ChunkerConfig {
    /// Gear-based FastCDC as `chunker::gear` implements it.
    pub const GEAR_V1: &'static str = "gear-v1";
    /// The same, with the same table, and long runs of zeros are chunks of their own.
    pub const GEAR_V2: &'static str = "gear-v2";
}
