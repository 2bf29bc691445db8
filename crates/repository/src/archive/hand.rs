//! What a worker has in hand: it is hashed together with what comes next.
//!
//! One message leaves the processor's SHA units idle more than half of the time (ADR 0018), and pieces differ in
//! length. So the longer of two stays in hand when the shorter one is done, and goes on with the next.
//!
//! Invariant: at most one piece is in hand. It is stored before its worker waits for work, reads a tree of an
//! earlier point, completes a directory or reads a file that may be long.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::buffers::Buffer;
use super::directory::Directory;
use super::worker::{ChunkJob, FilePlace};
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::hash::Sha256;
use crate::id::BlobId;

/// A blob on its way.
pub enum Piece {
    Chunk(ChunkJob),
    /// A file that is one chunk.
    File(Box<FilePlace>, Buffer),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk.buffer.bytes(),
            Self::File(_, content) => content.bytes(),
        }
    }
}

/// A piece that was hashed in part.
struct Begun {
    piece: Piece,
    hash: Sha256,
    hashed: usize,
}

impl Begun {
    fn of(piece: Piece) -> Self {
        Self {
            piece,
            hash: Sha256::new(),
            hashed: 0,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.piece.bytes()[self.hashed..]
    }

    /// Hashes so much of both as the shorter rest is long.
    fn go_on(first: &mut Self, second: &mut Self) {
        let both = first.rest().len().min(second.rest().len());
        let (bytes, others) = (
            &first.piece.bytes()[first.hashed..][..both],
            &second.piece.bytes()[second.hashed..][..both],
        );
        Sha256::update_two(&mut first.hash, bytes, &mut second.hash, others);
        first.hashed += both;
        second.hashed += both;
    }

    /// Hashes what is left, and stores it.
    fn store(mut self, shared: &Shared) -> Result<(), RepositoryError> {
        self.hash.update(&self.piece.bytes()[self.hashed..]);
        let id = BlobId(self.hash.finish());
        match self.piece {
            Piece::Chunk(chunk) => chunk.store(shared, id),
            Piece::File(place, content) => {
                let density = shared.store_hashed(BlobKind::Data, id, content.bytes())?;
                let size = content.len() as u64;
                shared.buffers.give_back(content);
                place.finish(shared, Arc::from([id]), size, density)
            }
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Hand(Option<Begun>);

impl Hand {
    /// Whose piece is in hand, if one is.
    pub fn directory(&self) -> Option<&Directory> {
        let held = self.0.as_ref()?;
        Some(match &held.piece {
            Piece::Chunk(chunk) => chunk.file.directory(),
            Piece::File(place, _) => &place.directory,
        })
    }

    /// Hashes a piece and what is in hand until one of them is through, and stores that.
    pub fn take(&mut self, shared: &Shared, piece: Piece) -> Result<(), RepositoryError> {
        let mut next = Begun::of(piece);
        let Some(mut held) = self.0.take() else {
            self.0 = Some(next);
            // What comes next is a matter of time, and who sets a seed wants none of that.
            return match shared.options.placement_seed {
                Some(_) => self.finish(shared),
                None => Ok(()),
            };
        };
        Begun::go_on(&mut held, &mut next);
        for begun in [held, next] {
            if begun.rest().is_empty() {
                begun.store(shared)?;
            } else {
                self.0 = Some(begun);
            }
        }
        Ok(())
    }

    /// Stores what is in hand, even if the run was cancelled meanwhile, but not if it failed.
    pub fn finish(&mut self, shared: &Shared) -> Result<(), RepositoryError> {
        let held = self.0.take();
        match held.filter(|_| !shared.stopped.load(Ordering::SeqCst)) {
            Some(held) => held.store(shared),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::{Mutex, mpsc};

    use refloat_model::cancel::Cancel;
    use refloat_model::entry::{Content, Entry, TreeSink as _};
    use refloat_model::progress::Counters;
    use refloat_model::secret::Secret;
    use refloat_storage::memory::MemoryStorage;

    use super::*;
    use crate::archive::{ArchiveOptions, Archiver, TreeBuilder};
    use crate::blobs::BlobReader as _;
    use crate::chunker::{Rest, Search};
    use crate::repository::{InitOptions, Repository};

    fn archiver(workers: usize) -> Archiver {
        archiver_until(workers, Cancel::default())
    }

    fn archiver_until(workers: usize, cancel: Cancel) -> Archiver {
        let storage = Arc::new(MemoryStorage::new());
        let made = Repository::init(storage, &Secret::new("hand"), InitOptions::default());
        let repository = made.unwrap().into_indexed().unwrap();
        let options = ArchiveOptions {
            workers,
            ..ArchiveOptions::default()
        };
        let counters = Arc::new(Counters::default());
        Archiver::start(repository, options, counters, cancel).unwrap()
    }

    /// Different for each number.
    fn content(number: usize) -> Vec<u8> {
        // Empty, within a block, whole blocks, small, one chunk and one more byte, several chunks.
        let lengths = [
            0, 7, 64, 640, 3001, 70_000, 524_287, 524_288, 900_000, 4_000_000,
        ];
        let length = lengths[number * 7 % lengths.len()] + number % 3;
        let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let noise = (0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        noise.collect()
    }

    #[test]
    fn every_piece_is_stored_under_its_own_id() {
        for workers in 1..=3 {
            let archiver = archiver(workers);
            let chunker = Arc::clone(archiver.shared.repository.chunker());
            let mut tree = archiver.tree(Vec::new());
            let files = 120;
            for number in 0..files {
                let bytes = content(number);
                let file = Entry::synthetic_file(format!("{number:03}"), bytes.len() as u64);
                let open = move || Ok::<_, std::io::Error>(Cursor::new(bytes.clone()));
                tree.file(file, Box::new(open)).unwrap();
            }
            let nodes = tree.finish().unwrap().nodes;
            let before = archiver.shared.repository.clone();
            drop(archiver.finish().unwrap());
            let repository = before.renewed().unwrap();
            assert_eq!(nodes.len(), files);
            for (number, node) in nodes.iter().enumerate() {
                let bytes = content(number);
                assert_eq!(node.size(), bytes.len() as u64, "{workers}, {number}");
                let (mut rest, mut ids) = (bytes.as_slice(), Vec::new());
                while !rest.is_empty() {
                    let end = chunker.find_end(&mut Search::default(), rest, Rest::None);
                    let (chunk, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    ids.push(BlobId::of(chunk));
                    assert_eq!(
                        repository
                            .read_blob(BlobKind::Data, BlobId::of(chunk))
                            .unwrap(),
                        chunk
                    );
                    rest = behind;
                }
                assert_eq!(*node.content, ids, "{workers}, {number}");
            }
        }
    }

    /// Pushes a file and one of a listed size behind it; the first is opened when both are there, and `meanwhile` is
    /// called when the second is, while the first may be in hand.
    fn push_two(
        tree: &mut TreeBuilder,
        (listed, content): (u64, Vec<u8>),
        meanwhile: impl Fn() + Send + Sync + 'static,
    ) {
        let (pushed, both_are_there) = mpsc::channel::<()>();
        let both_are_there = Mutex::new(both_are_there);
        let first = move || {
            both_are_there.lock().unwrap().recv().unwrap();
            Ok::<_, std::io::Error>(Cursor::new(b"first".to_vec()))
        };
        let second = move || {
            meanwhile();
            Ok::<_, std::io::Error>(Cursor::new(content.clone()))
        };
        for (name, size, open) in [
            ("a", 5, Box::new(first) as Box<dyn Content>),
            ("b", listed, Box::new(second)),
        ] {
            tree.file(Entry::synthetic_file(name, size), open).unwrap();
        }
        pushed.send(()).unwrap();
    }

    #[test]
    fn what_is_in_hand_when_a_run_is_cancelled_is_kept() {
        let cancel = Cancel::default();
        let archiver = archiver_until(1, cancel.clone());
        let mut tree = archiver.tree(Vec::new());
        push_two(&mut tree, (600_000, vec![1; 600_000]), move || {
            cancel.cancel();
        });
        assert!(tree.finish().is_err(), "the run was cancelled");
        let before = archiver.shared.repository.clone();
        drop(archiver.keep().unwrap());
        let kept = before.renewed().unwrap();
        let first = kept.read_blob(BlobKind::Data, BlobId::of(b"first"));
        assert_eq!(first.unwrap(), b"first");
    }

    /// How many blobs were stored when a second file was opened, of a listed size, while the first was in hand.
    fn stored_before(listed: u64) -> u64 {
        let archiver = archiver(1);
        let mut tree = archiver.tree(Vec::new());
        let (seen, stored) = mpsc::channel();
        let seen = Mutex::new(seen);
        let shared = Arc::clone(&archiver.shared);
        push_two(&mut tree, (listed, b"second".to_vec()), move || {
            let blobs = Counters::get(&shared.data_blobs);
            seen.lock().unwrap().send(blobs).unwrap();
        });
        let nodes = tree.finish().unwrap().nodes;
        assert_eq!(*nodes[0].content, [BlobId::of(b"first")]);
        assert_eq!(*nodes[1].content, [BlobId::of(b"second")]);
        stored.recv().unwrap()
    }

    #[test]
    fn a_long_file_is_not_waited_for_and_a_short_one_is() {
        assert_eq!(stored_before(6), 0);
        assert_eq!(stored_before(1 << 20), 0);
        assert_eq!(stored_before(3 << 20), 1);
        // It may be one that tells no length.
        assert_eq!(stored_before(0), 1);
    }
}
