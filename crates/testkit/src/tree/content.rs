//! Files by their bytes: ordinary, of telling sizes, sparse.
//!
//! Invariant: the bytes depend on the seed only.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::Bulk;
use crate::random::Random;

/// Borders of chunks, of read buffers and of pages.
const BORDERS: [usize; 5] = [1, 4_096, 65_536, 131_072, 262_144];
const CHUNK_BORDERS: [usize; 4] = [512 << 10, 1 << 20, 2 << 20, 8 << 20];

pub(super) fn plain(folder: &Path, files: usize, random: &mut Random) {
    let mut previous = Vec::new();
    for number in 0..files {
        let parent = folder.join(format!("{:02}/{:02}", number % 7, number % 3));
        fs::create_dir_all(&parent).unwrap();
        // Small files are more frequent than big ones.
        let magnitude = 1 + random.index(16);
        let length = random.index(1 << magnitude);
        let bytes = match random.below(5) {
            0 => text(length, random),
            1 => vec![0; length],
            2 => std::mem::take(&mut previous),
            _ => random.bytes(length),
        };
        fs::write(parent.join(format!("file-{number:05}")), &bytes).unwrap();
        previous = bytes;
    }
}

/// Words as logs and sources have them: compresses to about a fifth.
fn text(length: usize, random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "backup",
        "restore",
        "volume ",
        "container",
        " = ",
        "\n",
        "2026-11-20T",
        "error",
    ];
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        bytes.extend_from_slice(WORDS[random.index(WORDS.len())].as_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(super) fn sizes(folder: &Path, bulk: Bulk, random: &mut Random) {
    fs::write(folder.join("empty"), b"").unwrap();
    for border in BORDERS {
        around(folder, border, random);
    }
    if bulk == Bulk::None {
        return;
    }
    for border in CHUNK_BORDERS {
        around(folder, border, random);
    }
    // No byte differs from its neighbours: a chunker finds no border and must cut by itself.
    fs::write(folder.join("zeros-9MiB"), vec![0; 9 << 20]).unwrap();
    fs::write(folder.join("ones-9MiB"), vec![1; 9 << 20]).unwrap();
    fs::write(folder.join("text-3MiB"), text(3 << 20, random)).unwrap();
    let block = random.bytes((3 << 20) + 17);
    let mut repeated = File::create(folder.join("repeated")).unwrap();
    for _repetition in 0..3 {
        repeated.write_all(&block).unwrap();
    }
    fs::write(folder.join("repeated-once"), &block).unwrap();
    let mut shifted = b"x".to_vec();
    shifted.extend_from_slice(&block);
    fs::write(folder.join("repeated-shifted"), shifted).unwrap();
}

fn around(folder: &Path, border: usize, random: &mut Random) {
    for length in [border - 1, border, border + 1] {
        let name = folder.join(format!("size-{length}"));
        fs::write(name, random.bytes(length)).unwrap();
    }
}

pub(super) fn sparse(folder: &Path, random: &mut Random) {
    const MIB: u64 = 1 << 20;
    let data = random.bytes(70_000);
    let table: [(&str, u64, &[u64]); 5] = [
        ("only-a-hole", 3 * MIB, &[]),
        ("hole-first", 2 * MIB + 70_000, &[2 * MIB]),
        ("hole-last", 2 * MIB, &[0]),
        ("hole-between", 4 * MIB + 70_000, &[0, 4 * MIB]),
        ("odd-edges", 3 * MIB + 5, &[1, MIB + 4_097, 2 * MIB - 1]),
    ];
    for (name, length, extents) in table {
        let file = File::create(folder.join(name)).unwrap();
        file.set_len(length).unwrap();
        for start in extents {
            file.write_all_at(&data, *start).unwrap();
        }
    }
}

/// Makes a file of a TiB with two bits of data: bigger than the disk, so that whoever writes its
/// holes out, or keeps them in memory, fails. Reading it in full takes minutes.
///
/// # Panics
/// It cannot be made.
pub fn giant(path: &Path) {
    const TIB: u64 = 1 << 40;
    let file = File::create(path).unwrap();
    file.set_len(TIB).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.write_all_at(b"middle", TIB / 2 + 1).unwrap();
}
