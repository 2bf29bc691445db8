//! What each step of a first backup costs by itself, in processor time of one thread: nanoseconds a byte read.
//!
//! `cargo bench -p refloat-repository --bench primitives -- FILE…` takes a file through the steps of the pipeline, one
//! chunk or two at a time, and adds them up. What a backup takes beyond the sum (docs/performance.md) is handing over,
//! memory that is out of the processor's caches, and the kernel.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that is run by hand"
)]

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use refloat_repository::BlobId;
use refloat_repository::chunker::gear::Gear;
use refloat_repository::chunker::{Chunker, Rest, Search};
use refloat_repository::codec::{Codec, Compression};
use refloat_repository::crypto::{Cipher, Key};
use refloat_repository::hash::{Sha256, sha256};
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind, Storage as _};

/// So much is read at once, and no more of a file is taken than [`BYTES_MAX`].
const READ_BYTES: usize = 1 << 20;
const BYTES_MAX: usize = 512 << 20;
const PACK_BYTES: usize = 16 << 20;

/// Nanoseconds that this thread has been on a processor.
fn processor_nanoseconds() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

#[derive(Default)]
struct Steps(Vec<(&'static str, u64)>);

impl Steps {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        let before = processor_nanoseconds();
        let done = work();
        let spent = processor_nanoseconds() - before;
        match self.0.iter_mut().find(|(name, _)| *name == step) {
            Some((_, sum)) => *sum += spent,
            None => self.0.push((step, spent)),
        }
        done
    }
}

fn read(path: &Path, steps: &mut Steps) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    let size = usize::try_from(file.metadata().unwrap().len())
        .unwrap()
        .min(BYTES_MAX);
    // As buffers that go round: their memory is there.
    let mut content = vec![1; size];
    for piece in content.chunks_mut(READ_BYTES) {
        steps.time("read", || file.read_exact(piece)).unwrap();
    }
    content
}

fn cut<'c>(chunker: &Chunker, content: &'c [u8], steps: &mut Steps) -> Vec<&'c [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let end = steps.time("cut", || {
            chunker.find_end(&mut Search::default(), rest, Rest::None)
        });
        let (chunk, behind) = rest.split_at(end.unwrap_or(rest.len()));
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}

fn measure(path: &Path) {
    let mut steps = Steps::default();
    let content = read(path, &mut steps);
    let chunks = cut(
        &Chunker::GearAndZeros(Gear::new(&[7; 32])),
        &content,
        &mut steps,
    );
    let codec = Codec::new(Cipher::new(&Key::random().unwrap()).unwrap(), 2);
    let folder = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
    let storage = LocalStorage::new(folder.path());
    storage.create().unwrap();
    let (mut pack, mut hash, mut packed) =
        (Vec::with_capacity(PACK_BYTES + (8 << 20)), Sha256::new(), 0);
    for pair in chunks.chunks(2) {
        let ids = steps.time("id", || match pair {
            [one, other] => BlobId::of_two(one, other).to_vec(),
            single => single.iter().map(|chunk| BlobId::of(chunk)).collect(),
        });
        for (chunk, id) in pair.iter().zip(ids) {
            let compress = || codec.prepare(id, chunk, Compression::Auto);
            let prepared = steps.time("compress", compress).unwrap();
            let seal = || codec.seal(prepared, &mut pack, &mut hash);
            steps.time("encrypt, authenticate, prove", seal).unwrap();
        }
        if pack.len() >= PACK_BYTES {
            packed += pack.len();
            let key = FileKey::new(FileKind::Pack, sha256(&packed.to_le_bytes()));
            steps.time("write", || storage.write(&key, &pack)).unwrap();
            storage.delete(&key).unwrap();
            pack.clear();
        }
    }
    packed += pack.len();
    println!(
        "{}: {} MiB, {} chunks, {} MiB sealed",
        path.display(),
        content.len() >> 20,
        chunks.len(),
        packed >> 20
    );
    let mut sum = 0.0;
    for (step, nanoseconds) in steps.0 {
        let each = nanoseconds as f64 / content.len() as f64;
        sum += each;
        println!("  {each:>6.2}  {step}");
    }
    println!("  {sum:>6.2}  ns a byte");
}

fn main() {
    // cargo adds `--bench`.
    let files = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    files.for_each(|file| measure(Path::new(&file)));
}
