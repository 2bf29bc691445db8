//! Cutting a large file into chunks while it is read.
//!
//! Invariant: the chunks are those that the chunker finds in the whole content, however it arrives; long
//! runs of zeros that the chunker sets apart are counted and never held in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use refloat_localfs::is_zeros;
use refloat_model::entry::Reader;
use refloat_model::progress::Counters;

use super::Shared;
use super::buffers::Buffer;
use super::chunks::FileChunks;
use super::density::Density;
use super::hand::{Hand, Piece};
use super::worker::ChunkJob;
use crate::chunker::{CHUNK_BYTES_MAX, Rest, Search, ZERO_RUN_BYTES, zero_runs};
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::format::pack::BlobKind;
use crate::id::BlobId;
use crate::zeros::zero_blob;

/// How much of a large file is read at once, in bytes: at most so much is copied to the next
/// chunk.
const READ_BYTES: usize = 256 << 10;

/// How many bytes of holes a run passes over, but for what each worker is about to. A hole costs nobody anything,
/// and its chunks are named one by one: this many take some 10 MiB where their file's directory is stored. Further
/// ones are read as zeros, which takes the time that a run's deadline is there for.
pub(super) const PASSED_BYTES_MAX: u64 = 2 << 40;
/// How much of a hole is passed over before its chunks are handed out, in bytes.
const STEP_BYTES: u64 = 1 << 30;

struct Cutter<'a> {
    shared: &'a Shared,
    file: &'a Arc<FileChunks>,
    hand: &'a mut Hand,
    /// What was read and belongs to no chunk yet.
    pending: Buffer,
    search: Search,
    /// Zeros before what is pending, a multiple of [`ZERO_RUN_BYTES`].
    zeros: usize,
}

/// Cuts a file into chunks, of which `start` is the beginning.
pub fn cut_file(
    shared: &Shared,
    file: &Arc<FileChunks>,
    reader: &mut dyn Reader,
    start: Buffer,
    hand: &mut Hand,
) -> Result<(), RepositoryError> {
    let mut cutter = Cutter {
        shared,
        file,
        hand,
        pending: start,
        search: Search::default(),
        zeros: 0,
    };
    let mut rest = Rest::ToCome;
    loop {
        shared.check()?;
        cutter.cut(rest)?;
        if rest == Rest::None {
            break;
        }
        let read = cutter.pass_hole(reader);
        rest = match read.and_then(|()| cutter.pending.read(reader, READ_BYTES)) {
            Ok(rest) => rest,
            Err(error) => {
                return file.fail(shared, format!("cannot read: {}", chain(&error)));
            }
        };
    }
    if cutter.pending.len() > 0 {
        cutter.hand_out(cutter.pending.len())?;
    }
    shared.buffers.give_back(cutter.pending);
    file.all_handed_out(shared)
}

impl Cutter<'_> {
    /// Hands out all chunks whose ends are known.
    fn cut(&mut self, rest: Rest) -> Result<(), RepositoryError> {
        let shared = self.shared;
        let chunker = shared.repository.chunker();
        loop {
            if chunker.sets_zeros_apart() {
                self.pass_zeros(rest)?;
            }
            let found = chunker.find_end(&mut self.search, self.pending.bytes(), rest);
            let Some(end) = found else { return Ok(()) };
            self.hand_out(end)?;
        }
    }

    /// Passes over a hole in a long run of zeros, which need not be made to be counted.
    fn pass_hole(&mut self, reader: &mut dyn Reader) -> io::Result<()> {
        // Else there is no run, or it has ended.
        if self.zeros == 0 {
            return Ok(());
        }
        let passable = &self.shared.passable;
        let hole = match reader.pass_hole(Counters::get(passable).min(STEP_BYTES)) {
            // What is read next looks again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            passed => passed?,
        };
        let less = |left: u64| Some(left.saturating_sub(hole));
        let _left = passable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        // What is pending are zeros of the run, and fewer than are counted.
        let hole = usize::try_from(hole).map_err(io::Error::other)?;
        let run = self.pending.len() + hole;
        let whole = run / ZERO_RUN_BYTES * ZERO_RUN_BYTES;
        self.pending.hold_zeros(run - whole);
        self.zeros += whole;
        Ok(())
    }

    /// Counts the zeros that a chunk begins with if they are a long run, and hands them out where it ends.
    fn pass_zeros(&mut self, rest: Rest) -> Result<(), RepositoryError> {
        let bytes = self.pending.bytes();
        let leading = zero_runs::leading(bytes);
        let has_ended = leading < bytes.len() || rest == Rest::None;
        if self.zeros > 0 || leading >= ZERO_RUN_BYTES {
            let whole = leading / ZERO_RUN_BYTES * ZERO_RUN_BYTES;
            self.pending.pass(whole);
            self.zeros += whole;
            self.search = Search::default();
        }
        while self.zeros >= CHUNK_BYTES_MAX {
            self.hand_out_zeros(CHUNK_BYTES_MAX)?;
        }
        if has_ended && self.zeros > 0 {
            self.hand_out_zeros(self.zeros)?;
        }
        Ok(())
    }

    fn hand_out_zeros(&mut self, length: usize) -> Result<(), RepositoryError> {
        let shared = self.shared;
        self.zeros -= length;
        Counters::add(&shared.counters.bytes_done, length as u64);
        let number = self.file.hand_out(length);
        let Some(id) = zero_blob(length) else {
            return Err(RepositoryError::encode(
                "a run of zeros",
                "its length is no multiple of 64 KiB",
            ));
        };
        let is_there = shared.has_blob(BlobKind::Data, &id) || shared.packer.is_claimed(&id);
        let density = match is_there {
            true => Density::default(),
            false => shared.store_hashed(BlobKind::Data, id, &vec![0; length])?,
        };
        self.file.stored(shared, number, id, density)
    }

    /// Gives the next chunk to whoever is free, or stores it here.
    fn hand_out(&mut self, end: usize) -> Result<(), RepositoryError> {
        let shared = self.shared;
        self.search = Search::default();
        Counters::add(&shared.counters.bytes_done, end as u64);
        let number = self.file.hand_out(end);
        // Most chunks of a disk image are the same zeros, and are there already: queued they would only
        // hold memory.
        let chunk = &self.pending.bytes()[..end];
        if let Some(id) = known_zeros(chunk) {
            let density = shared.store_hashed(BlobKind::Data, id, chunk)?;
            self.pending.pass(end);
            return self.file.stored(shared, number, id, density);
        }
        let job = ChunkJob {
            file: Arc::clone(self.file),
            number,
            buffer: self.pending.split_off(end, shared.buffers.take()),
        };
        if let Err(full) = shared.chunks.0.try_send(job) {
            return self.hand.take(shared, Piece::Chunk(full.into_inner()));
        }
        Ok(())
    }
}

/// The id of the longest chunk of zeros, which is what chunkers that do not set zeros apart cut long
/// runs of them into.
fn known_zeros(bytes: &[u8]) -> Option<BlobId> {
    let longest = bytes.len() == CHUNK_BYTES_MAX && is_zeros(bytes);
    longest.then(|| zero_blob(bytes.len())).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::AtomicU64;

    use refloat_model::cancel::Cancel;
    use refloat_model::entry::{Content, Entry, TreeSink as _};
    use refloat_model::secret::Secret;
    use refloat_storage::memory::MemoryStorage;

    use super::*;
    use crate::archive::{ArchiveOptions, Archiver};
    use crate::repository::{ChunkerChoice, IndexedRepository, InitOptions, Repository};

    fn repository(chunker: ChunkerChoice) -> IndexedRepository {
        let storage = Arc::new(MemoryStorage::new());
        let password = Secret::new("cutter");
        let options = InitOptions {
            chunker,
            ..InitOptions::default()
        };
        let repository = Repository::init(storage, &password, options);
        repository.unwrap().into_indexed().unwrap()
    }

    /// Reproducible numbers (xorshift).
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % sides
        }

        /// Runs of zeros and of noise, of all lengths that matter.
        fn content(&mut self) -> Vec<u8> {
            let unit = ZERO_RUN_BYTES;
            let lengths = [
                1,
                4096,
                unit - 1,
                unit,
                unit + 1,
                3 * unit,
                1 << 20,
                3 << 20,
            ];
            let mut content = vec![1; 600_000];
            for _ in 0..self.roll(9) {
                let noise = lengths[self.roll(8)] + self.roll(3);
                content.extend((0..noise).map(|_| self.roll(255) as u8 + 1));
                let zeros =
                    [lengths[self.roll(8)] - self.roll(2), 8 << 20, (9 << 20) + 7][self.roll(3)];
                content.extend(vec![0; zeros]);
            }
            content
        }
    }

    /// Gives a random number of bytes a call.
    struct Pieces<'a>(&'a [u8], Dice, usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = (1 + self.1.roll(self.2)).min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    /// The same with holes: passes over zeros wherever it is asked to, or a part of them.
    struct Holey {
        content: Arc<Vec<u8>>,
        at: usize,
        dice: Dice,
        passed: Arc<AtomicU64>,
    }

    impl Read for Holey {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1 + self.dice.roll(700_000));
            let read = (&self.content[self.at..]).read(&mut buffer[..length])?;
            self.at += read;
            Ok(read)
        }
    }

    impl Reader for Holey {
        fn pass_hole(&mut self, max: u64) -> io::Result<u64> {
            let zeros = zero_runs::leading(&self.content[self.at..]);
            let part = [zeros, zeros, self.dice.roll(zeros + 1)][self.dice.roll(3)];
            let length = (part as u64).min(max);
            self.at += length as usize;
            Counters::add(&self.passed, length);
            Ok(length)
        }
    }

    struct Holes(Holey);

    impl Content for Holes {
        fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
            Ok(Box::new(self.0))
        }
    }

    fn archiver() -> Archiver {
        archiver_of(repository(ChunkerChoice::Gear))
    }

    fn archiver_of(repository: IndexedRepository) -> Archiver {
        let (options, counters) = (ArchiveOptions::default(), Arc::new(Counters::default()));
        Archiver::start(repository, options, counters, Cancel::default()).unwrap()
    }

    /// What the chunker finds in the whole.
    fn chunks_of(archiver: &Archiver, content: &[u8]) -> Vec<BlobId> {
        let chunker = archiver.shared.repository.chunker();
        let (mut chunks, mut rest) = (Vec::new(), content);
        while !rest.is_empty() {
            let end = chunker.find_end(&mut Search::default(), rest, Rest::None);
            let (chunk, behind) = rest.split_at(end.unwrap_or(rest.len()));
            chunks.push(BlobId::of(chunk));
            rest = behind;
        }
        chunks
    }

    /// The chunks of a content that is full of holes, and how many bytes of those were passed over.
    fn cut_holey(archiver: &Archiver, content: Arc<Vec<u8>>, dice: Dice) -> (Vec<BlobId>, u64) {
        let passed = Arc::<AtomicU64>::default();
        let holey = Holey {
            content: Arc::clone(&content),
            at: 0,
            dice,
            passed: Arc::clone(&passed),
        };
        let mut tree = archiver.tree(Vec::new());
        let file = Entry::synthetic_file("file", content.len() as u64);
        tree.file(file, Box::new(Holes(holey))).unwrap();
        let nodes = tree.finish().unwrap().nodes;
        assert_eq!(nodes[0].size(), content.len() as u64);
        (nodes[0].content.to_vec(), Counters::get(&passed))
    }

    #[test]
    fn chunks_are_those_that_the_chunker_finds_in_the_whole() {
        let archiver = archiver();
        assert!(archiver.shared.repository.chunker().sets_zeros_apart());
        let mut passed_bytes = 0;
        for seed in 1..=20 {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            let content = Arc::new(dice.content());
            let expected = chunks_of(&archiver, &content);
            let mut tree = archiver.tree(Vec::new());
            let most = [content.len(), 700_000, 9000][seed as usize % 3];
            let mut reader = Pieces(&content, Dice(seed), most);
            let file = Entry::synthetic_file("file", 0);
            tree.stream(file, &mut reader).unwrap();
            let nodes = tree.finish().unwrap().nodes;
            assert_eq!(*nodes[0].content, expected, "seed {seed}");
            assert_eq!(nodes[0].size(), content.len() as u64);
            let (with_holes, passed) = cut_holey(&archiver, content, dice);
            assert_eq!(with_holes, expected, "seed {seed}, with holes");
            passed_bytes += passed;
        }
        assert!(passed_bytes > 100 << 20, "{passed_bytes}");
        let left = Counters::get(&archiver.shared.passable);
        assert_eq!(left, PASSED_BYTES_MAX - passed_bytes);
        drop(archiver.finish().unwrap());
    }

    /// Holes of 20 MiB on either side of a byte.
    fn two_holes() -> Arc<Vec<u8>> {
        let mut content = vec![0; 40 << 20];
        content[20 << 20] = 1;
        Arc::new(content)
    }

    #[test]
    fn where_zeros_are_not_set_apart_no_hole_is_passed_over() {
        let archiver = archiver_of(repository(ChunkerChoice::Rabin));
        let content = two_holes();
        let expected = chunks_of(&archiver, &content);
        let (found, passed) = cut_holey(&archiver, content, Dice(1));
        assert_eq!(found, expected);
        assert_eq!(passed, 0);
        drop(archiver.finish().unwrap());
    }

    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    impl Reader for Failing {
        fn pass_hole(&mut self, max: u64) -> io::Result<u64> {
            assert!(max <= STEP_BYTES);
            self.0 += 1;
            match self.0 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => Ok(max),
                _ => Err(io::Error::other("the disk is gone")),
            }
        }
    }

    impl Content for Failing {
        fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
            Ok(self)
        }
    }

    #[test]
    fn a_file_whose_hole_cannot_be_told_fails_as_a_whole() {
        let archiver = archiver();
        let mut tree = archiver.tree(Vec::new());
        let file = Entry::synthetic_file("file", 1);
        tree.file(file, Box::new(Failing(0))).unwrap();
        let finished = tree.finish().unwrap();
        assert!(finished.nodes.is_empty(), "{:?}", finished.nodes);
        let [failure] = finished.failures.as_slice() else {
            panic!("{:?}", finished.failures);
        };
        assert_eq!(failure.reason, "cannot read: the disk is gone");
        let left = Counters::get(&archiver.shared.passable);
        assert_eq!(left, PASSED_BYTES_MAX - STEP_BYTES);
        drop(archiver.finish().unwrap());
    }

    #[test]
    fn a_run_passes_over_so_many_holes_and_reads_the_others() {
        let archiver = archiver();
        let passable = 5 << 20;
        archiver.shared.passable.store(passable, Ordering::Relaxed);
        let content = two_holes();
        let expected = chunks_of(&archiver, &content);
        let (found, passed) = cut_holey(&archiver, content, Dice(1));
        assert_eq!(found, expected);
        assert_eq!(passed, passable);
        assert_eq!(Counters::get(&archiver.shared.passable), 0);
        drop(archiver.finish().unwrap());
    }
}
