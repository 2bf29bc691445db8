//! Contents that can be taken over by the digest of their bytes, in whatever tree they are wanted.
//!
//! Invariant: a digest leads only to content that was read to its end with this digest: in this
//! run, or in an earlier point by a source that vouches for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::id::BlobId;

/// A file's chunks, and its length in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownContent {
    /// The chunks in order.
    pub content: Arc<[BlobId]>,
    /// Their length together.
    pub size: u64,
}

/// Contents by the SHA-256 digest of their bytes.
pub type ContentIndex = HashMap<[u8; 32], KnownContent>;

/// Reads what earlier points hold; called at most once, when first asked for.
pub type EarlierContents = Box<dyn Fn() -> ContentIndex + Send + Sync>;

/// See the module.
#[derive(Default)]
pub(super) struct Contents {
    stored: Mutex<ContentIndex>,
    load: OnceLock<EarlierContents>,
    earlier: OnceLock<ContentIndex>,
}

impl Contents {
    /// Sets where earlier contents come from; the first call counts.
    pub(super) fn set_earlier(&self, load: EarlierContents) {
        let _already_set = self.load.set(load);
    }

    pub(super) fn find(&self, sha256: &[u8; 32]) -> Option<KnownContent> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = stored.get(sha256) {
            return Some(known.clone());
        }
        drop(stored);
        let load = self.load.get()?;
        self.earlier.get_or_init(load).get(sha256).cloned()
    }

    /// Contents of this run, and those of earlier points that it took over, that pass.
    pub(super) fn filter(&self, passes: impl Fn(&KnownContent) -> bool) -> ContentIndex {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let passing = stored.iter().filter(|(_, known)| passes(known));
        passing
            .map(|(sha256, known)| (*sha256, known.clone()))
            .collect()
    }

    /// Content of this run is complete, or was taken over.
    pub(super) fn insert(&self, sha256: [u8; 32], known: KnownContent) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.insert(sha256, known);
    }
}
