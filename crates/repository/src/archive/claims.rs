//! Which blobs this run brings.
//!
//! Two workers may come with the same blob at the same time: only the first of them stores it. A set that
//! grows by doubling takes up to 80 bytes a blob, and half as much again while it grows; so most claims lie
//! in sorted arrays of 33, and only the newest in a table.
//!
//! Invariant: a claim is in the table or in the array of its shard, never in both.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

use crate::by_id::position;
use crate::format::pack::BlobKind;
use crate::id::BlobId;
use crate::parallel::lock;

/// Locks, so that workers rarely meet.
const SHARDS: usize = 16;
/// A table moves into the array when it holds so many claims, and a share of the array.
const RECENT_MIN: usize = 512;
/// That share: each claim is then copied so many times in the mean, however many there are.
const RECENT_SHARE: usize = 16;

/// Ids are hashes already: their first bytes serve as they are.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
}

/// How far a blob of this run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Somebody is sealing it, or its pack is open or on its way.
    Claimed,
    /// Its pack is stored.
    Stored,
}

#[derive(Default)]
struct Shard {
    recent: HashMap<BlobId, Progress, BuildHasherDefault<IdHasher>>,
    /// Sorted by id.
    settled: Vec<(BlobId, Progress)>,
}

impl Shard {
    fn get(&self, id: &BlobId) -> Option<Progress> {
        let recent = self.recent.get(id).copied();
        recent.or_else(|| {
            let at = position(&self.settled, id, |(id, _)| id)?;
            self.settled.get(at).map(|(_, progress)| *progress)
        })
    }

    fn set(&mut self, id: BlobId, progress: Progress) {
        let settled = position(&self.settled, &id, |(id, _)| id);
        if let Some((_, old)) = settled.and_then(|at| self.settled.get_mut(at)) {
            *old = progress;
            return;
        }
        self.recent.insert(id, progress);
        if self.recent.len() >= RECENT_MIN.max(self.settled.len() / RECENT_SHARE) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let mut new: Vec<(BlobId, Progress)> = self.recent.drain().collect();
        new.sort_unstable_by_key(|(id, _)| *id);
        // Exactly: growing would double.
        let mut all = Vec::with_capacity(self.settled.len() + new.len());
        let mut old = std::mem::take(&mut self.settled).into_iter().peekable();
        for claim in new {
            while let Some(before) = old.next_if(|(id, _)| *id < claim.0) {
                all.push(before);
            }
            all.push(claim);
        }
        all.extend(old);
        self.settled = all;
    }
}

/// See the module.
#[derive(Default)]
pub struct Claims {
    data: [Mutex<Shard>; SHARDS],
    trees: [Mutex<Shard>; SHARDS],
}

impl Claims {
    fn shard(&self, kind: BlobKind, id: &BlobId) -> &Mutex<Shard> {
        let shards = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        // Not by the first bytes: within a shard they should be spread as ids are.
        &shards[usize::from(id.0[31]) % SHARDS]
    }

    /// Whether the caller is the first to bring this blob.
    pub fn claim(&self, kind: BlobKind, id: BlobId) -> bool {
        let mut shard = lock(self.shard(kind, &id));
        let is_first = shard.get(&id).is_none();
        if is_first {
            shard.set(id, Progress::Claimed);
        }
        is_first
    }

    /// Records that the pack of a blob is stored.
    pub fn stored(&self, kind: BlobKind, id: BlobId) {
        lock(self.shard(kind, &id)).set(id, Progress::Stored);
    }

    /// How far a blob is; none if this run does not bring it.
    pub fn progress(&self, kind: BlobKind, id: &BlobId) -> Option<Progress> {
        lock(self.shard(kind, id)).get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> BlobId {
        BlobId::of(&number.to_le_bytes())
    }

    #[test]
    fn a_blob_is_claimed_once_whatever_came_between() {
        const COUNT: u32 = 60_000;
        let claims = Claims::default();
        for number in 0..COUNT {
            assert!(claims.claim(BlobKind::Data, id(number)), "{number}");
            assert!(!claims.claim(BlobKind::Data, id(number / 2)), "{number}");
            if number % 3 == 0 {
                claims.stored(BlobKind::Data, id(number / 2));
            }
        }
        let settled: usize = claims
            .data
            .iter()
            .map(|shard| lock(shard).settled.len())
            .sum();
        assert!(settled > COUNT as usize * 9 / 10, "{settled}");
        let stored =
            |number: u32| (2 * number..=2 * number + 1).any(|by| by % 3 == 0 && by < COUNT);
        for number in 0..COUNT {
            let expected = match stored(number) {
                true => Progress::Stored,
                false => Progress::Claimed,
            };
            let progress = claims.progress(BlobKind::Data, &id(number));
            assert_eq!(progress, Some(expected), "{number}");
        }
        assert_eq!(claims.progress(BlobKind::Data, &id(COUNT)), None);
        assert!(
            claims.claim(BlobKind::Tree, id(7)),
            "another kind is another blob"
        );
    }

    #[test]
    fn of_many_threads_one_is_the_first() {
        let claims = Claims::default();
        let firsts = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..20_000 {
                        let is_first = claims.claim(BlobKind::Data, id(number));
                        firsts.fetch_add(is_first.into(), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(firsts.into_inner(), 20_000);
    }
}
