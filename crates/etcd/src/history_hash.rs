//! The hash that members give of their history, computed from a snapshot: equal hashes prove that
//! the file holds what the cluster holds.
//!
//! etcd's `HashKV` of a revision R, compacted at C, is the CRC-32C of the word `key` and then, in
//! order, of each entry's key and value: all revisions from C+1 to R, and of those up to C only the
//! one that each key living at R is at (what a compaction at C leaves; if no key lives, all).
//!
//! Invariant: reads the file alone; asks nobody.

use std::collections::HashSet;

use crate::bolt::{Bolt, ReadAt};
use crate::crc::crc32c;
use crate::mvcc::{BucketKey, HistoryError, KEY_BUCKET, Living, META_BUCKET, Revision};

/// What a snapshot says of its history, and how to hash it.
#[derive(Debug)]
pub struct HistoryHash<'a, R> {
    bolt: &'a Bolt<R>,
    /// The revision that each living key is at.
    living: HashSet<Revision>,
    /// Its newest revision.
    pub newest: u64,
    /// Up to where it is compacted, or was about to be.
    pub compacted: u64,
}

impl<'a, R: ReadAt> HistoryHash<'a, R> {
    /// Reads the history once.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(bolt: &'a Bolt<R>) -> Result<Self, HistoryError> {
        let living = Living::read(bolt)?;
        Ok(Self {
            bolt,
            newest: living.newest,
            living: living.keys.into_values().collect(),
            compacted: compacted(bolt)?,
        })
    }

    /// Whether no key lives: then what members say depends on how far a compaction has come.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.living.is_empty()
    }

    /// The hash at the newest revision of a member that is compacted at `compacted`.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn at(&self, compacted: u64) -> Result<u32, HistoryError> {
        let bucket = self.bolt.bucket(KEY_BUCKET)?;
        let mut entries = self.bolt.entries(&bucket)?;
        let mut hash = crc32c(0, KEY_BUCKET.as_bytes());
        while let Some((key, value)) = entries.next_entry()? {
            let revision = BucketKey::parse(key)?.revision;
            let is_dropped = revision.main <= compacted
                && !self.living.is_empty()
                && !self.living.contains(&revision);
            if !is_dropped {
                hash = crc32c(crc32c(hash, key), value);
            }
        }
        Ok(hash)
    }
}

/// Up to where the file is compacted, or was about to be: what lies before may be gone in part.
fn compacted<R: ReadAt>(bolt: &Bolt<R>) -> Result<u64, HistoryError> {
    let bucket = bolt.bucket(META_BUCKET)?;
    let mut entries = bolt.entries(&bucket)?;
    let mut newest = 0;
    while let Some((key, value)) = entries.next_entry()? {
        if matches!(key, b"finishedCompactRev" | b"scheduledCompactRev") {
            newest = newest.max(BucketKey::parse(value)?.revision.main);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read as _, Seek as _};

    use super::*;
    use crate::bolt::BoltWriter;

    type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

    /// A message of `mvccpb.KeyValue`.
    fn message(key: &str, revision: u8, value: &str) -> Vec<u8> {
        let text = |tag: u8, text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            [&[tag, length], text.as_bytes()].concat()
        };
        [text(0x0a, key), vec![0x18, revision], text(0x2a, value)].concat()
    }

    fn history(changes: &[(&str, Option<&str>)]) -> Entries {
        let entry = |(n, (key, value)): (usize, &(&str, Option<&str>))| {
            let main = n as u64 + 2;
            let mut at = Revision { main, sub: 0 }.to_key();
            if value.is_none() {
                at.push(b't');
            }
            let number = u8::try_from(main).unwrap();
            (at, message(key, number, value.unwrap_or_default()))
        };
        changes.iter().enumerate().map(entry).collect()
    }

    fn database(entries: &Entries, compacted: u64) -> Bolt<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = BoltWriter::begin(file.try_clone().unwrap(), 4096).unwrap();
        let mut bucket = writer.bucket(KEY_BUCKET.as_bytes());
        for (key, value) in entries {
            bucket.put(key, value).unwrap();
        }
        bucket.end().unwrap();
        let mut bucket = writer.bucket(META_BUCKET.as_bytes());
        if compacted > 0 {
            let at = Revision {
                main: compacted,
                sub: 0,
            };
            bucket.put(b"finishedCompactRev", &at.to_key()).unwrap();
        }
        bucket.end().unwrap();
        writer.finish().unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Bolt::open(bytes).unwrap()
    }

    fn hash(entries: &Entries, file_compacted: u64, compacted: u64) -> u32 {
        let bolt = database(entries, file_compacted);
        let history = HistoryHash::read(&bolt).unwrap();
        assert_eq!(history.compacted, file_compacted);
        history.at(compacted).unwrap()
    }

    const CHANGES: [(&str, Option<&str>); 7] = [
        ("a", Some("1")),
        ("b", Some("1")),
        ("a", Some("2")),
        ("b", None),
        ("c", Some("1")),
        ("a", Some("3")),
        ("c", Some("2")),
    ];

    #[test]
    fn what_a_compaction_drops_does_not_count_and_all_else_does() {
        let whole = history(&CHANGES);
        // At 5: `a` is at 4, `b` is gone, `c` is not there yet.
        let mut dropped = whole.clone();
        dropped.retain(|key, _| {
            let revision = BucketKey::parse(key).unwrap().revision.main;
            revision > 5 || revision == 4
        });
        assert_eq!(hash(&whole, 0, 6), hash(&dropped, 5, 6));
        assert_ne!(hash(&whole, 0, 0), hash(&whole, 0, 6));
        // One byte anywhere that counts, a change less, a change more.
        let expected = hash(&whole, 0, 0);
        for at in whole.keys() {
            let mut other = whole.clone();
            other.get_mut(at).unwrap()[2] ^= 1;
            assert_ne!(hash(&other, 0, 0), expected, "{at:?}");
            let mut less = whole.clone();
            less.remove(at);
            assert_ne!(hash(&less, 0, 0), expected, "{at:?}");
        }
    }

    #[test]
    fn without_a_living_key_everything_counts() {
        let gone = history(&[("a", Some("1")), ("a", None)]);
        assert_eq!(hash(&gone, 0, 3), hash(&gone, 0, 0));
    }
}
