//! Writing a database from sorted entries, page after page.
//!
//! Leaves go to the file as they fill; a level of branches is built when the level below is
//! complete. There are no free pages, and their list is left out, as etcd itself leaves it out.
//!
//! Invariant: the meta pages are written last, so that a file whose writing was cut off is no
//! database.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};

use super::meta::{HEADER_BYTES, Meta};
use super::page::{BRANCH, BUCKET, ELEMENT_BYTES, LEAF, header};

/// Pages 0 and 1 are meta pages.
const FIRST_PAGE: u64 = 2;

/// A database that is being written.
#[derive(Debug)]
pub struct BoltWriter {
    file: BufWriter<File>,
    page_bytes: u32,
    next: u64,
    buckets: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A bucket that is being filled, in ascending order of keys.
#[derive(Debug)]
pub struct BucketWriter<'a> {
    database: &'a mut BoltWriter,
    name: Vec<u8>,
    leaf: Level,
    /// First key and page of each finished leaf.
    below: Vec<(Vec<u8>, u64)>,
    last_key: Option<Vec<u8>>,
}

/// The elements of one page to be.
#[derive(Debug, Default)]
struct Level {
    elements: Vec<Element>,
    bytes: usize,
}

#[derive(Debug)]
struct Element {
    flags: u32,
    key: Vec<u8>,
    /// A leaf's value; of a branch, the page in eight bytes.
    value: Vec<u8>,
}

impl BoltWriter {
    /// Begins a database in an empty file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(file: File, page_bytes: u32) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::Start(FIRST_PAGE * u64::from(page_bytes)))?;
        Ok(Self {
            file,
            page_bytes,
            next: FIRST_PAGE,
            buckets: Vec::new(),
        })
    }

    /// Begins the next bucket; buckets come in ascending order of names.
    pub fn bucket(&mut self, name: &[u8]) -> BucketWriter<'_> {
        BucketWriter {
            database: self,
            name: name.to_vec(),
            leaf: Level::default(),
            below: Vec::new(),
            last_key: None,
        }
    }

    /// Writes the root bucket and the meta pages, and syncs the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        let buckets = std::mem::take(&mut self.buckets);
        let mut root = self.bucket(b"");
        for (name, value) in buckets {
            root.push(BUCKET, &name, &value)?;
        }
        let root = root.close()?;
        for (id, transaction) in [(0, 1), (1, 0)] {
            let meta = Meta {
                page_bytes: self.page_bytes,
                root,
                pages: self.next,
                transaction,
            };
            let mut page = meta.encode(id);
            page.resize(self.page_bytes as usize, 0);
            self.file
                .seek(SeekFrom::Start(id * u64::from(self.page_bytes)))?;
            self.file.write_all(&page)?;
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }

    fn write(&mut self, kind: u16, level: &mut Level) -> io::Result<(Vec<u8>, u64)> {
        let elements = std::mem::take(level).elements;
        let id = self.next;
        let table = HEADER_BYTES + elements.len() * ELEMENT_BYTES;
        let mut index = Vec::with_capacity(table);
        let mut content: Vec<u8> = Vec::new();
        for (number, element) in elements.iter().enumerate() {
            let from = HEADER_BYTES + number * ELEMENT_BYTES;
            let position = fit(table + content.len() - from)?;
            content.extend_from_slice(&element.key);
            if kind == BRANCH {
                index.extend(position.to_le_bytes());
                index.extend(fit(element.key.len())?.to_le_bytes());
                index.extend_from_slice(&element.value);
            } else {
                index.extend(element.flags.to_le_bytes());
                index.extend(position.to_le_bytes());
                index.extend(fit(element.key.len())?.to_le_bytes());
                index.extend(fit(element.value.len())?.to_le_bytes());
                content.extend_from_slice(&element.value);
            }
        }
        let page_bytes = self.page_bytes as usize;
        let length = table + content.len();
        let pages = length.div_ceil(page_bytes).max(1);
        let count = u16::try_from(elements.len()).map_err(io::Error::other)?;
        let overflow = fit(pages - 1)?;
        self.file.write_all(&header(id, kind, count, overflow))?;
        self.file.write_all(&index)?;
        self.file.write_all(&content)?;
        self.file.write_all(&vec![0; pages * page_bytes - length])?;
        self.next += pages as u64;
        let first = elements.into_iter().next();
        Ok((first.map_or_else(Vec::new, |e| e.key), id))
    }
}

impl BucketWriter<'_> {
    /// Adds an entry.
    ///
    /// # Errors
    /// The key does not come after the last one, or the file cannot be written.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.push(0, key, value)
    }

    /// Ends the bucket.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(self) -> io::Result<()> {
        let name = self.name.clone();
        let mut value = Vec::with_capacity(16);
        let (database, root) = self.close_in()?;
        value.extend(root.to_le_bytes());
        value.extend(0_u64.to_le_bytes());
        database.buckets.push((name, value));
        Ok(())
    }

    fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "keys must ascend",
            ));
        }
        self.last_key = Some(key.to_vec());
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        if !self.leaf.fits(bytes, self.database.page_bytes) {
            self.below.push(self.database.write(LEAF, &mut self.leaf)?);
        }
        self.leaf.push(flags, key.to_vec(), value.to_vec(), bytes);
        Ok(())
    }

    fn close(self) -> io::Result<u64> {
        self.close_in().map(|(_, root)| root)
    }
}

impl<'a> BucketWriter<'a> {
    fn close_in(mut self) -> io::Result<(&'a mut BoltWriter, u64)> {
        if !self.leaf.elements.is_empty() || self.below.is_empty() {
            self.below.push(self.database.write(LEAF, &mut self.leaf)?);
        }
        let mut below = self.below;
        while below.len() > 1 {
            let mut above = Vec::new();
            let mut level = Level::default();
            for (key, page) in below {
                let bytes = ELEMENT_BYTES + key.len();
                if !level.fits(bytes, self.database.page_bytes) {
                    above.push(self.database.write(BRANCH, &mut level)?);
                }
                level.push(0, key, page.to_le_bytes().to_vec(), bytes);
            }
            above.push(self.database.write(BRANCH, &mut level)?);
            below = above;
        }
        let root = below.first().map_or(0, |(_, page)| *page);
        Ok((self.database, root))
    }
}

impl Level {
    /// Whether another element has room. A page holds at least two, however large, since levels of
    /// branches with one page below each would never end.
    fn fits(&self, bytes: usize, page_bytes: u32) -> bool {
        self.elements.len() < 2 || HEADER_BYTES + self.bytes + bytes <= page_bytes as usize
    }

    fn push(&mut self, flags: u32, key: Vec<u8>, value: Vec<u8>, bytes: usize) {
        self.bytes += bytes;
        self.elements.push(Element { flags, key, value });
    }
}

fn fit(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}
