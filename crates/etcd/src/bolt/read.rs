//! Buckets and their entries in order of keys.
//!
//! Invariant: a cursor visits no page twice and its keys ascend, so that it ends whatever the
//! pages say.

use super::meta::Meta;
use super::page::{Page, PageKind};
use super::{BoltError, PAGE_BYTES_MAX, ReadAt};
use crate::bytes::{u32_at, u64_at};

/// Branches deeper than this are damage: four levels hold a terabyte.
const DEPTH_MAX: usize = 32;
/// A bucket's header in a leaf's value.
const BUCKET_BYTES: usize = 16;

/// A database, open for reading.
#[derive(Debug)]
pub struct Bolt<R> {
    source: R,
    meta: Meta,
}

/// A named tree of keys and values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: Vec<u8>,
    /// A counter that applications may use.
    pub sequence: u64,
    place: Place,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Page(u64),
    /// A small bucket's page lies in the leaf that names it.
    Inline {
        within: u64,
        page: Vec<u8>,
    },
}

impl<R: ReadAt> Bolt<R> {
    /// Opens a database.
    ///
    /// # Errors
    /// It is none, or it is cut.
    pub fn open(source: R) -> Result<Self, BoltError> {
        let meta = Meta::read(&source)?;
        Ok(Self { source, meta })
    }

    /// Bytes of a page.
    pub const fn page_bytes(&self) -> u32 {
        self.meta.page_bytes
    }

    /// All buckets, in order of names.
    ///
    /// # Errors
    /// The root bucket is damaged.
    pub fn buckets(&self) -> Result<Vec<Bucket>, BoltError> {
        let mut cursor = self.cursor(&Place::Page(self.meta.root))?;
        let mut buckets = Vec::new();
        while cursor.advance()? {
            let (page, element) = cursor.element()?;
            let header = u64_at(element.value, 0).zip(u64_at(element.value, 8));
            let (Some((root, sequence)), true) = (header, element.is_bucket) else {
                return Err(page.damaged("the root holds something that is no bucket"));
            };
            let place = match root {
                0 => Place::Inline {
                    within: cursor.page_id(),
                    page: element
                        .value
                        .get(BUCKET_BYTES..)
                        .unwrap_or_default()
                        .to_vec(),
                },
                root => Place::Page(root),
            };
            buckets.push(Bucket {
                name: element.key.to_vec(),
                sequence,
                place,
            });
        }
        Ok(buckets)
    }

    /// The bucket of this name.
    ///
    /// # Errors
    /// There is none, or the root bucket is damaged.
    pub fn bucket(&self, name: &'static str) -> Result<Bucket, BoltError> {
        let buckets = self.buckets()?;
        let found = buckets.into_iter().find(|b| b.name == name.as_bytes());
        found.ok_or(BoltError::NoBucket(name))
    }

    /// A cursor before the first entry of a bucket.
    ///
    /// # Errors
    /// Its first page is damaged.
    pub fn entries(&self, bucket: &Bucket) -> Result<Cursor<'_, R>, BoltError> {
        self.cursor(&bucket.place)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Vec<u8>>, BoltError> {
        let mut page = match &bucket.place {
            Place::Page(id) => self.page(*id)?.0,
            Place::Inline { within, page } => Page::parse(*within, 0, page.clone())?,
        };
        // Each level is one turn; a circle of branches has an end here.
        for _ in 0..DEPTH_MAX {
            match page.kind {
                PageKind::Leaf => {
                    for index in 0..page.count {
                        let element = page.leaf(index)?;
                        if element.key == key {
                            return Ok(Some(element.value.to_vec()));
                        }
                    }
                    return Ok(None);
                }
                PageKind::Branch => {
                    // The last page below whose first key is not beyond the key.
                    let mut below = 0;
                    while below + 1 < page.count && page.branch_key(below + 1)? <= key {
                        below += 1;
                    }
                    page = self.page(page.child(below)?)?.0;
                }
            }
        }
        Err(page.damaged("branches are nested too deep"))
    }

    fn cursor(&self, place: &Place) -> Result<Cursor<'_, R>, BoltError> {
        let mut cursor = Cursor {
            bolt: self,
            stack: Vec::new(),
            visited: Visited::default(),
            last_key: None,
        };
        match place {
            Place::Page(id) => cursor.enter(*id)?,
            Place::Inline { within, page } => cursor.stack.push(Frame {
                id: *within,
                page: Page::parse(*within, 0, page.clone())?,
                next: 0,
            }),
        }
        Ok(cursor)
    }

    fn page(&self, id: u64) -> Result<(Page, u32), BoltError> {
        let damaged = |what| BoltError::Page { page: id, what };
        if id < 2 || id >= self.meta.pages {
            return Err(damaged("there is no such page"));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let offset = id * page_bytes;
        let mut bytes = vec![0; self.meta.page_bytes as usize];
        let failed = |source| BoltError::Read { page: id, source };
        self.source
            .read_exact_at(offset, &mut bytes)
            .map_err(failed)?;
        let overflow = u32_at(&bytes, 12).ok_or_else(|| damaged("it is too short"))?;
        let pages = u64::from(overflow) + 1;
        if id + pages > self.meta.pages {
            return Err(damaged("it ends behind the file"));
        }
        let length = pages * page_bytes;
        if length > PAGE_BYTES_MAX {
            return Err(damaged("it is larger than any that etcd writes"));
        }
        if overflow > 0 {
            let first = bytes.len();
            bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            let rest = bytes.get_mut(first..).unwrap_or_default();
            self.source
                .read_exact_at(offset + page_bytes, rest)
                .map_err(failed)?;
        }
        Ok((Page::parse(id, id, bytes)?, overflow))
    }
}

/// Walks the entries of a bucket in order of keys.
#[derive(Debug)]
pub struct Cursor<'a, R> {
    bolt: &'a Bolt<R>,
    stack: Vec<Frame>,
    visited: Visited,
    last_key: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Frame {
    id: u64,
    page: Page,
    /// The element to visit next; in the topmost frame, one behind the current one.
    next: usize,
}

/// A key with its value, in the page that holds them.
pub type KeyValue<'a> = (&'a [u8], &'a [u8]);

impl<R: ReadAt> Cursor<'_, R> {
    /// The next key and value; none at the end.
    ///
    /// # Errors
    /// A page is damaged.
    pub fn next_entry(&mut self) -> Result<Option<KeyValue<'_>>, BoltError> {
        if !self.advance()? {
            return Ok(None);
        }
        let (_, element) = self.element()?;
        Ok(Some((element.key, element.value)))
    }

    fn advance(&mut self) -> Result<bool, BoltError> {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return Ok(false);
            };
            if top.next >= top.page.count {
                self.stack.pop();
                continue;
            }
            let index = top.next;
            top.next += 1;
            match top.page.kind {
                PageKind::Branch => {
                    let child = top.page.child(index)?;
                    self.enter(child)?;
                }
                PageKind::Leaf => {
                    let key = top.page.leaf(index)?.key;
                    if self.last_key.as_deref().is_some_and(|last| last >= key) {
                        return Err(top.page.damaged("its keys are out of order"));
                    }
                    let last = self.last_key.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(key);
                    return Ok(true);
                }
            }
        }
    }

    fn element(&self) -> Result<(&Page, super::page::LeafElement<'_>), BoltError> {
        let gone = BoltError::Page {
            page: 0,
            what: "the walk has ended",
        };
        let top = self.stack.last().ok_or(gone)?;
        Ok((&top.page, top.page.leaf(top.next.saturating_sub(1))?))
    }

    fn page_id(&self) -> u64 {
        self.stack.last().map_or(0, |frame| frame.id)
    }

    fn enter(&mut self, id: u64) -> Result<(), BoltError> {
        let damaged = |what| BoltError::Page { page: id, what };
        if self.stack.len() >= DEPTH_MAX {
            return Err(damaged("branches are nested too deep"));
        }
        let (page, overflow) = self.bolt.page(id)?;
        for part in id..=id + u64::from(overflow) {
            if !self.visited.insert(part) {
                return Err(damaged("it is used twice"));
            }
        }
        self.stack.push(Frame { id, page, next: 0 });
        Ok(())
    }
}

/// A set of page numbers, one bit each. They are below the file's number of pages, which bounds
/// its memory to a 32,768th of the file.
#[derive(Debug, Default)]
struct Visited(Vec<u64>);

impl Visited {
    /// False if it was there.
    fn insert(&mut self, page: u64) -> bool {
        let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
        if self.0.len() <= word {
            self.0.resize(word.saturating_add(1), 0);
        }
        let Some(bits) = self.0.get_mut(word) else {
            return false;
        };
        let bit = 1 << (page % 64);
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}
