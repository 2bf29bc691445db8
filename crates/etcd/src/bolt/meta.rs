//! Meta pages.
//!
//! Invariant: a meta page counts only if its checksum is right.

use std::io;

use super::{BoltError, ReadAt};
use crate::bytes::{slice, u32_at, u64_at};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// A meta page's content: up to and with the checksum.
const META_BYTES: usize = 64;
/// A page's header.
pub const HEADER_BYTES: usize = 16;
/// What a meta page's freelist says where the free pages are not recorded.
pub const NO_FREELIST: u64 = u64::MAX;
/// Page sizes that exist: those of operating systems.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=16;

/// What a meta page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Bytes of a page.
    pub page_bytes: u32,
    /// The root bucket's page.
    pub root: u64,
    /// Pages in the file.
    pub pages: u64,
    /// The transaction that wrote it.
    pub transaction: u64,
}

impl Meta {
    /// The newer valid meta page.
    pub fn read(source: &impl ReadAt) -> Result<Self, BoltError> {
        let first = Self::at(source, 0)?;
        // Where the second one lies, a damaged first one does not say.
        let second = match first {
            Some(meta) => Self::at(source, meta.page_bytes.into())?,
            None => Self::of_any_size(source)?,
        };
        let newer = [first, second].into_iter().flatten();
        let meta = newer
            .max_by_key(|meta| meta.transaction)
            .ok_or(BoltError::NoMeta)?;
        let expected = meta.pages.saturating_mul(meta.page_bytes.into());
        if source.length() < expected {
            let length = source.length();
            return Err(BoltError::Cut { length, expected });
        }
        Ok(meta)
    }

    fn of_any_size(source: &impl ReadAt) -> Result<Option<Self>, BoltError> {
        for bytes in PAGE_SIZES.map(|power| 1_u32 << power) {
            let found = Self::at(source, bytes.into())?;
            if let Some(meta) = found.filter(|meta| meta.page_bytes == bytes) {
                return Ok(Some(meta));
            }
        }
        Ok(None)
    }

    /// The meta page at an offset; none if there is no valid one.
    fn at(source: &impl ReadAt, offset: u64) -> Result<Option<Self>, BoltError> {
        let mut page = [0; HEADER_BYTES + META_BYTES];
        match source.read_exact_at(offset, &mut page) {
            Ok(()) => Ok(Self::parse(&page)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(BoltError::Read { page: 0, source }),
        }
    }

    fn parse(page: &[u8]) -> Option<Self> {
        let meta = slice(page, HEADER_BYTES, META_BYTES)?;
        let page_bytes = u32_at(meta, 8)?;
        let is_valid = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && u64_at(meta, 56)? == fnv1a(slice(meta, 0, 56)?)
            && page_bytes.is_power_of_two()
            && PAGE_SIZES.contains(&page_bytes.trailing_zeros());
        is_valid.then_some(Self {
            page_bytes,
            root: u64_at(meta, 16)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        })
    }

    /// The bytes of the meta page `id`, without the rest of the page.
    pub fn encode(&self, id: u64) -> Vec<u8> {
        let mut page = super::page::header(id, super::page::META, 0, 0);
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            page.extend(number.to_le_bytes());
        }
        for number in [self.root, 0, NO_FREELIST, self.pages, self.transaction] {
            page.extend(number.to_le_bytes());
        }
        let checksum = fnv1a(page.get(HEADER_BYTES..).unwrap_or_default());
        page.extend(checksum.to_le_bytes());
        page
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta {
        page_bytes: 4096,
        root: 5,
        pages: 9,
        transaction: 77,
    };

    fn file(first: &Meta, second: &Meta) -> Vec<u8> {
        let mut file = vec![0; 9 * 4096];
        for (id, meta) in [(0, first), (1, second)] {
            let bytes = meta.encode(id);
            let start = id as usize * 4096;
            file[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        file
    }

    #[test]
    fn the_newer_valid_page_counts() {
        let older = Meta {
            transaction: 76,
            root: 3,
            ..META
        };
        assert_eq!(Meta::read(&file(&META, &older)).unwrap(), META);
        assert_eq!(Meta::read(&file(&older, &META)).unwrap(), META);
        for offset in 16..80 {
            let mut damaged = file(&META, &older);
            damaged[offset] ^= 0x10;
            assert_eq!(Meta::read(&damaged).unwrap(), older, "{offset}");
            let mut damaged = file(&older, &META);
            damaged[offset] ^= 0x10;
            assert_eq!(Meta::read(&damaged).unwrap(), META, "{offset}");
            damaged[offset + 4096] ^= 0x10;
            assert!(matches!(Meta::read(&damaged), Err(BoltError::NoMeta)));
        }
    }

    #[test]
    fn a_short_file_is_cut() {
        let mut short = file(&META, &META);
        short.truncate(9 * 4096 - 1);
        assert!(matches!(
            Meta::read(&short),
            Err(BoltError::Cut {
                length: 36863,
                expected: 36864
            })
        ));
        assert!(matches!(Meta::read(&Vec::new()), Err(BoltError::NoMeta)));
    }
}
