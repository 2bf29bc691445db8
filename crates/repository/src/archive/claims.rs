//! Which blobs this run brings.
//!
//! Two workers may come with the same blob at the same time: only the first of them stores it. There may be
//! millions, so of an id only a mark of 127 bits is kept, and a set that grows by doubling would take up to
//! three times that: most claims lie in sorted arrays, and only the newest in a table
//! (`docs/adr/0029-marks-of-blobs.md`).
//!
//! Invariant: a claim is in the table or in the array of its shard, never in both.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Mutex;

use crate::by_id::position;
use crate::crypto::{CryptoError, random_bytes};
use crate::format::pack::BlobKind;
use crate::hash::sha256;
use crate::id::BlobId;
use crate::parallel::lock;

/// Locks, so that workers rarely meet.
const SHARDS: usize = 16;
/// A table moves into the array when it holds so many claims, and a share of the array.
const RECENT_MIN: usize = 512;
/// That share: each claim is then copied so many times in the mean, however many there are.
const RECENT_SHARE: usize = 32;
/// The length of the key of marks, in bytes. Who does not know it cannot bring two blobs of one mark.
const KEY_BYTES: usize = 16;

/// How far a blob of this run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Somebody is sealing it, or its pack is open or on its way.
    Claimed,
    /// Its pack is stored.
    Stored,
}

/// The mark of a blob; its lowest bit is how far it is. Equal are those of equal marks.
#[derive(Clone, Copy)]
struct Claim(u128);

impl Claim {
    const fn of(mark: u128, progress: Progress) -> Self {
        Self(match progress {
            Progress::Claimed => mark & !1,
            Progress::Stored => mark | 1,
        })
    }

    const fn mark(self) -> u128 {
        self.0 & !1
    }

    const fn progress(self) -> Progress {
        match self.0 & 1 {
            0 => Progress::Claimed,
            _ => Progress::Stored,
        }
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.mark() == other.mark()
    }
}

impl Eq for Claim {}

impl Hash for Claim {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.mark().to_be_bytes());
    }
}

/// Marks are hashes already: their first bytes serve as they are. By their last ones shards are chosen.
#[derive(Default)]
struct MarkHasher(u64);

impl Hasher for MarkHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_be_bytes(*first);
        }
    }
}

#[derive(Default)]
struct Shard {
    recent: HashSet<Claim, BuildHasherDefault<MarkHasher>>,
    /// Sorted by mark.
    settled: Vec<Claim>,
}

impl Shard {
    fn get(&self, mark: u128) -> Option<Progress> {
        let recent = self.recent.get(&Claim(mark));
        let claim = recent.or_else(|| self.settled.get(self.settled_at(mark)?));
        claim.map(|claim| claim.progress())
    }

    fn settled_at(&self, mark: u128) -> Option<usize> {
        position(&self.settled, mark & !1, |claim| claim.mark())
    }

    fn set(&mut self, claim: Claim) {
        let settled = self.settled_at(claim.0);
        if let Some(old) = settled.and_then(|at| self.settled.get_mut(at)) {
            *old = claim;
            return;
        }
        let _old = self.recent.replace(claim);
        if self.recent.len() >= RECENT_MIN.max(self.settled.len() / RECENT_SHARE) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let mut new: Vec<Claim> = self.recent.drain().collect();
        new.sort_unstable_by_key(|claim| claim.mark());
        // Exactly: growing would double.
        let mut all = Vec::with_capacity(self.settled.len() + new.len());
        let mut old = std::mem::take(&mut self.settled).into_iter().peekable();
        for claim in new {
            while let Some(before) = old.next_if(|old| old.mark() < claim.mark()) {
                all.push(before);
            }
            all.push(claim);
        }
        all.extend(old);
        self.settled = all;
    }
}

/// See the module.
pub struct Claims {
    /// Of this run alone.
    key: [u8; KEY_BYTES],
    data: [Mutex<Shard>; SHARDS],
    trees: [Mutex<Shard>; SHARDS],
}

impl Claims {
    /// None yet.
    pub fn new() -> Result<Self, CryptoError> {
        Ok(Self {
            key: random_bytes()?,
            data: Default::default(),
            trees: Default::default(),
        })
    }

    /// The first half of the SHA-256 of key and id, which are shorter than one of its blocks.
    fn mark(&self, id: &BlobId) -> u128 {
        let mut keyed = [0; KEY_BYTES + size_of::<BlobId>()];
        let (key, of_id) = keyed.split_at_mut(KEY_BYTES);
        key.copy_from_slice(&self.key);
        of_id.copy_from_slice(&id.0);
        let hash = sha256(&keyed);
        u128::from_be_bytes(std::array::from_fn(|at| hash[at]))
    }

    fn shard(&self, kind: BlobKind, mark: u128) -> &Mutex<Shard> {
        let shards = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        // Not by the first bits: within a shard they should be spread as marks are. Nor by the lowest, which
        // tells progress.
        &shards[(mark >> 1) as usize % SHARDS]
    }

    /// Whether the caller is the first to bring this blob.
    pub fn claim(&self, kind: BlobKind, id: &BlobId) -> bool {
        let mark = self.mark(id);
        let mut shard = lock(self.shard(kind, mark));
        let is_first = shard.get(mark).is_none();
        if is_first {
            shard.set(Claim::of(mark, Progress::Claimed));
        }
        is_first
    }

    /// Records that the pack of a blob is stored.
    pub fn stored(&self, kind: BlobKind, id: &BlobId) {
        let mark = self.mark(id);
        lock(self.shard(kind, mark)).set(Claim::of(mark, Progress::Stored));
    }

    /// How far a blob is; none if this run does not bring it.
    pub fn progress(&self, kind: BlobKind, id: &BlobId) -> Option<Progress> {
        let mark = self.mark(id);
        lock(self.shard(kind, mark)).get(mark)
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
        let claims = Claims::new().unwrap();
        for number in 0..COUNT {
            assert!(claims.claim(BlobKind::Data, &id(number)), "{number}");
            assert!(!claims.claim(BlobKind::Data, &id(number / 2)), "{number}");
            if number % 3 == 0 {
                claims.stored(BlobKind::Data, &id(number / 2));
            }
        }
        let settled = |shard: &Mutex<Shard>| {
            let settled = &lock(shard).settled;
            assert_eq!(settled.capacity(), settled.len());
            settled.len()
        };
        assert_eq!(size_of::<Claim>(), 16);
        let settled: usize = claims.data.iter().map(settled).sum();
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
            claims.claim(BlobKind::Tree, &id(7)),
            "another kind is another blob"
        );
    }

    #[test]
    fn ids_that_differ_in_any_bit_are_others() {
        let claims = Claims::new().unwrap();
        assert!(claims.claim(BlobKind::Data, &BlobId([0; 32])));
        for bit in 0..256 {
            let mut id = [0; 32];
            id[bit / 8] = 1 << (bit % 8);
            assert!(claims.claim(BlobKind::Data, &BlobId(id)), "{bit}");
        }
    }

    #[test]
    fn marks_are_as_many_bits_as_they_say_and_of_one_run() {
        const COUNT: u32 = 64;
        let [claims, others] = [(); 2].map(|()| Claims::new().unwrap());
        let (mut ones, mut zeros) = (0, 0);
        for number in 0..COUNT {
            let mark = claims.mark(&id(number));
            assert_eq!(claims.mark(&id(number)), mark);
            assert_ne!(others.mark(&id(number)) >> 1, mark >> 1);
            (ones, zeros) = (ones | mark, zeros | !mark);
        }
        // That a bit is the same 64 times is by chance once in 2^63.
        assert_eq!([ones, zeros], [u128::MAX; 2]);
    }

    #[test]
    fn marks_that_differ_in_the_last_bit_alone_are_one() {
        let mut shard = Shard::default();
        for (mark, progress) in [(6, Progress::Claimed), (7, Progress::Stored)] {
            shard.set(Claim::of(mark, progress));
            assert_eq!([shard.get(6), shard.get(7)], [Some(progress); 2]);
        }
        assert_eq!(shard.recent.len(), 1);
        shard.settle();
        assert_eq!([shard.get(6), shard.get(7)], [Some(Progress::Stored); 2]);
        assert_eq!([shard.get(5), shard.get(8)], [None; 2]);
    }

    #[test]
    fn of_many_threads_one_is_the_first() {
        let claims = Claims::new().unwrap();
        let firsts = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..20_000 {
                        let is_first = claims.claim(BlobKind::Data, &id(number));
                        firsts.fetch_add(is_first.into(), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(firsts.into_inner(), 20_000);
    }
}
