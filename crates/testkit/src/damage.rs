//! Damage to stored files, as disks, bugs and attackers do it.
//!
//! Invariant: damaged bytes always differ from the good ones.

use refloat_storage::{FileKey, Storage};

use crate::random::Random;

/// One way to damage a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Damage {
    /// One bit anywhere is flipped.
    RandomBit,
    /// The first byte is another one.
    FirstByte,
    /// The last byte is another one.
    LastByte,
    /// The last four bytes, the header length of a pack, are others.
    LengthField,
    /// Up to 4 KiB anywhere are zeros: a lost sector.
    ZeroedBlock,
    /// Nothing is left.
    CutToNothing,
    /// One byte is left.
    CutToOneByte,
    /// The first half is left.
    CutToHalf,
    /// The last byte is missing.
    CutByOneByte,
    /// The file is gone.
    Deleted,
    /// Another valid file's bytes are under this name.
    Swapped,
    /// Bytes were appended.
    JunkAppended,
    /// An older valid version, or the file of an older repository state, is under this name.
    OlderVersion,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::RandomBit,
        Self::FirstByte,
        Self::LastByte,
        Self::LengthField,
        Self::ZeroedBlock,
        Self::CutToNothing,
        Self::CutToOneByte,
        Self::CutToHalf,
        Self::CutByOneByte,
        Self::Deleted,
        Self::Swapped,
        Self::JunkAppended,
        Self::OlderVersion,
    ];

    /// Whether the size of the file tells that it is damaged, without reading it.
    ///
    /// A swapped or older file may happen to have the same size.
    #[must_use]
    pub const fn changes_size(self) -> bool {
        matches!(
            self,
            Self::CutToNothing
                | Self::CutToOneByte
                | Self::CutToHalf
                | Self::CutByOneByte
                | Self::JunkAppended
        )
    }

    /// What is left of the bytes; none if the file is gone.
    ///
    /// `donor` is another valid file of the same kind, or the older version.
    ///
    /// # Panics
    /// The damage cannot be told from the good bytes: an empty file, or a donor that is the same.
    #[must_use]
    pub fn apply(self, good: &[u8], donor: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        let mut bytes = good.to_vec();
        let length = bytes.len();
        match self {
            Self::RandomBit => bytes[random.index(length)] ^= 1 << random.below(8),
            Self::FirstByte => bytes[0] ^= other_byte(random),
            Self::LastByte => bytes[length - 1] ^= other_byte(random),
            Self::LengthField => {
                let start = length.saturating_sub(4);
                bytes[start..]
                    .iter_mut()
                    .for_each(|byte| *byte ^= other_byte(random));
            }
            Self::ZeroedBlock => {
                let block = length.min(4_096);
                let start = random.index(length - block + 1);
                bytes[start..start + block].fill(0);
            }
            Self::CutToNothing => bytes.clear(),
            Self::CutToOneByte => bytes.truncate(1),
            Self::CutToHalf => bytes.truncate(length / 2),
            Self::CutByOneByte => bytes.truncate(length - 1),
            Self::Deleted => return None,
            Self::Swapped | Self::OlderVersion => bytes = donor.to_vec(),
            Self::JunkAppended => {
                let junk = 1 + random.index(4_096);
                bytes.extend(random.bytes(junk));
            }
        }
        assert!(bytes != good, "{self:?} changes nothing");
        Some(bytes)
    }

    /// Damages a stored file.
    ///
    /// # Panics
    /// As [`apply`](Self::apply), or the storage fails.
    pub fn inflict(self, storage: &dyn Storage, key: &FileKey, donor: &[u8], random: &mut Random) {
        let good = storage.read(key).unwrap();
        let damaged = self.apply(&good, donor, random);
        storage.delete(key).unwrap();
        if let Some(bytes) = damaged {
            storage.write(key, &bytes).unwrap();
        }
    }
}

fn other_byte(random: &mut Random) -> u8 {
    u8::try_from(1 + random.below(255)).unwrap()
}

#[cfg(test)]
mod tests {
    use refloat_storage::FileKind;
    use refloat_storage::memory::MemoryStorage;

    use super::*;

    #[test]
    fn every_damage_is_a_damage() {
        let good = Random::new(1).bytes(10_000);
        for seed in 0..20 {
            for damage in Damage::ALL {
                let damaged = damage.apply(&good, b"another", &mut Random::new(seed));
                let expected = match damage {
                    Damage::Deleted => None,
                    Damage::CutToNothing => Some(0),
                    Damage::CutToOneByte => Some(1),
                    Damage::CutToHalf => Some(5_000),
                    Damage::CutByOneByte => Some(9_999),
                    Damage::Swapped | Damage::OlderVersion => Some(7),
                    Damage::JunkAppended => damaged.as_ref().map(Vec::len),
                    _ => Some(10_000),
                };
                assert_eq!(damaged.map(|bytes| bytes.len()), expected, "{damage:?}");
            }
        }
    }

    #[test]
    fn stored_files_are_damaged_in_place() {
        let storage = MemoryStorage::new();
        let key = FileKey::CONFIG;
        storage.write(&key, b"abcdef").unwrap();
        Damage::CutToHalf.inflict(&storage, &key, b"", &mut Random::new(1));
        assert_eq!(storage.read(&key).unwrap(), b"abc");
        Damage::Deleted.inflict(&storage, &key, b"", &mut Random::new(1));
        assert_eq!(storage.list(FileKind::Config).unwrap(), []);
    }
}
