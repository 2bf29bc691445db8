//! Writing large files past the page cache.
//!
//! Nobody reads a pack soon after it was written. Through the cache it would push out what the
//! machine works with, be copied into memory that has to be found first, and wait for the disk all
//! the same, because it is synchronised at once.
//!
//! Invariant: the file has exactly the caller's bytes afterwards, whichever way they went.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

use super::file_system;

/// Smaller files are not worth the calls.
const BYTES_MIN: usize = 1 << 20;
/// One call writes so much, of memory that stays in the processor's cache.
const PIECE_BYTES: usize = 1 << 20;
/// Devices want offsets, lengths and memory in multiples of their block, which is at most this.
const BLOCK_BYTES: usize = 4096;

thread_local! {
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes all of `bytes` into a new file; false if that has to go through the cache, and then the
/// file is still empty.
pub(super) fn write(file: &OwnedFd, bytes: &[u8]) -> Result<bool, Errno> {
    if bytes.len() < BYTES_MIN || !set_direct(file) {
        return Ok(false);
    }
    let written = PIECE.with_borrow_mut(|memory| write_pieces(file, bytes, aligned(memory)));
    match written {
        Ok(()) => Ok(true),
        // What a device says whose blocks are larger, and a call that ended within a block.
        Err(Errno::INVAL | Errno::AGAIN) => {
            rustix::fs::fcntl_setfl(file, OFlags::empty())?;
            rustix::fs::ftruncate(file, 0)?;
            Ok(false)
        }
        Err(errno) => Err(errno),
    }
}

/// Whether writes to the file go to its disk from now on.
fn set_direct(file: &OwnedFd) -> bool {
    file_system::is_on_disk(file) && rustix::fs::fcntl_setfl(file, OFlags::DIRECT).is_ok()
}

/// The part of `memory` that begins at a block.
fn aligned(memory: &mut Vec<u8>) -> &mut [u8] {
    if memory.is_empty() {
        memory.resize(PIECE_BYTES + BLOCK_BYTES, 0);
    }
    let skipped = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
    &mut memory[skipped..skipped + PIECE_BYTES]
}

fn write_pieces(file: &OwnedFd, bytes: &[u8], memory: &mut [u8]) -> Result<(), Errno> {
    let mut offset = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        let blocks = &mut memory[..piece.len().next_multiple_of(BLOCK_BYTES)];
        let (content, padding) = blocks.split_at_mut(piece.len());
        content.copy_from_slice(piece);
        padding.fill(0);
        write_at(file, blocks, offset)?;
        offset += piece.len() as u64;
    }
    if !bytes.len().is_multiple_of(BLOCK_BYTES) {
        rustix::fs::ftruncate(file, bytes.len() as u64)?;
    }
    Ok(())
}

fn write_at(file: &OwnedFd, mut blocks: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !blocks.is_empty() {
        let written = retry_on_intr(|| rustix::io::pwrite(file, blocks, offset))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        if !written.is_multiple_of(BLOCK_BYTES) {
            return Err(Errno::AGAIN);
        }
        blocks = blocks.get(written..).ok_or(Errno::IO)?;
        offset += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, SeekFrom};

    use super::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    /// Next to the test's program there is a disk; the folder for temporary files may be memory.
    fn file_on_disk() -> File {
        let program = std::env::current_exe().unwrap();
        tempfile::tempfile_in(program.parent().unwrap()).unwrap()
    }

    #[test]
    fn files_of_all_lengths_have_their_bytes() {
        let mib = 1 << 20;
        for length in [
            0,
            1,
            mib - 1,
            mib,
            mib + 1,
            mib + 4095,
            3 * mib,
            3 * mib + 4097,
        ] {
            let file = file_on_disk();
            let descriptor = OwnedFd::from(file.try_clone().unwrap());
            let expected = content(length);
            let went_direct = write(&descriptor, &expected).unwrap();
            if length < BYTES_MIN {
                assert!(!went_direct, "{length}");
                continue;
            }
            if !went_direct {
                assert!(
                    !set_direct(&descriptor),
                    "a file system that is known: {length}"
                );
                println!("SKIPPED: no ext4, XFS or Btrfs here to write past the cache");
                return;
            }
            let mut found = Vec::new();
            let mut file = file;
            rustix::fs::fcntl_setfl(&descriptor, OFlags::empty()).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == expected, "{length}: {} bytes", found.len());
        }
    }

    #[test]
    fn memory_begins_at_a_block_wherever_it_lies() {
        for _ in 0..4 {
            let mut memory = Vec::new();
            let piece = aligned(&mut memory);
            assert_eq!(piece.as_ptr() as usize % BLOCK_BYTES, 0);
            assert_eq!(piece.len(), PIECE_BYTES);
        }
    }

    #[test]
    fn what_the_system_refuses_is_told() {
        let path = std::env::current_exe().unwrap();
        let read_only = OwnedFd::from(File::open(path).unwrap());
        let refused = write(&read_only, &content(BYTES_MIN));
        assert!(
            matches!(refused, Err(Errno::BADF) | Ok(false)),
            "{refused:?}"
        );
    }
}
