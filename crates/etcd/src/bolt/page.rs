//! One page with its overflow.
//!
//! Invariant: an element that is handed out lies within the page.

use super::BoltError;
use super::meta::HEADER_BYTES;
use crate::bytes::{slice, u16_at, u32_at, u64_at};

pub const BRANCH: u16 = 1;
pub const LEAF: u16 = 2;
pub const META: u16 = 4;
/// Bytes of an element, of branches and of leaves.
pub const ELEMENT_BYTES: usize = 16;
/// The flag of a leaf's element that is a bucket.
pub const BUCKET: u32 = 1;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Names pages below.
    Branch,
    /// Holds keys and values.
    Leaf,
}

/// A page's bytes, its header checked.
#[derive(Debug)]
pub struct Page {
    id: u64,
    bytes: Vec<u8>,
    pub kind: PageKind,
    pub count: usize,
}

/// A key, its value, and whether that is a bucket.
#[derive(Clone, Copy, Debug)]
pub struct LeafElement<'a> {
    pub is_bucket: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Page {
    /// Takes the bytes of page `id`.
    ///
    /// # Errors
    /// The header is that of another page or kind, or its elements do not fit.
    pub fn parse(id: u64, own_id: u64, bytes: Vec<u8>) -> Result<Self, BoltError> {
        let damaged = |what| BoltError::Page { page: id, what };
        let short = || damaged("it is too short");
        if u64_at(&bytes, 0).ok_or_else(short)? != own_id {
            return Err(damaged("it says that it is another page"));
        }
        let kind = match u16_at(&bytes, 8).ok_or_else(short)? {
            BRANCH => PageKind::Branch,
            LEAF => PageKind::Leaf,
            _ => return Err(damaged("it is neither branch nor leaf")),
        };
        let count = usize::from(u16_at(&bytes, 10).ok_or_else(short)?);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(damaged("its elements do not fit"));
        }
        if kind == PageKind::Branch && count == 0 {
            return Err(damaged("it is a branch without pages below"));
        }
        Ok(Self {
            id,
            bytes,
            kind,
            count,
        })
    }

    /// The page that the element `index` of a branch names.
    pub fn child(&self, index: usize) -> Result<u64, BoltError> {
        let element = HEADER_BYTES + index * ELEMENT_BYTES;
        u64_at(&self.bytes, element + 8).ok_or_else(|| self.damaged("an element is outside"))
    }

    /// The first key below the element `index` of a branch.
    pub fn branch_key(&self, index: usize) -> Result<&[u8], BoltError> {
        let element = HEADER_BYTES + index * ELEMENT_BYTES;
        let key = || {
            let position = usize::try_from(u32_at(&self.bytes, element)?).ok()?;
            let length = usize::try_from(u32_at(&self.bytes, element + 4)?).ok()?;
            slice(&self.bytes, element.checked_add(position)?, length)
        };
        key().ok_or_else(|| self.damaged("a key is outside"))
    }

    /// The element `index` of a leaf.
    pub fn leaf(&self, index: usize) -> Result<LeafElement<'_>, BoltError> {
        self.element(index)
            .ok_or_else(|| self.damaged("a key or value is outside"))
    }

    fn element(&self, index: usize) -> Option<LeafElement<'_>> {
        let element = HEADER_BYTES + index * ELEMENT_BYTES;
        let number = |offset| u32_at(&self.bytes, element + offset);
        let position = usize::try_from(number(4)?).ok()?;
        let key_length = usize::try_from(number(8)?).ok()?;
        let value_length = usize::try_from(number(12)?).ok()?;
        let key = element.checked_add(position)?;
        Some(LeafElement {
            is_bucket: number(0)? & BUCKET != 0,
            key: slice(&self.bytes, key, key_length)?,
            value: slice(&self.bytes, key.checked_add(key_length)?, value_length)?,
        })
    }

    /// This page is damaged.
    pub const fn damaged(&self, what: &'static str) -> BoltError {
        BoltError::Page {
            page: self.id,
            what,
        }
    }
}

/// A page's header.
pub fn header(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(id.to_le_bytes());
    header.extend(flags.to_le_bytes());
    header.extend(count.to_le_bytes());
    header.extend(overflow.to_le_bytes());
    header
}
