//! What is known of the file system that a folder is on, from statfs(2).
//!
//! Invariant: what is not known for sure is not said.

use std::os::fd::OwnedFd;

/// Those on disks of this machine that write past the page cache as one would think: ext2 to ext4,
/// XFS, Btrfs. Servers' may commit each piece by itself, which is slower, and those in memory have
/// nothing to go past.
const ON_DISK: [u32; 3] = [0xef53, 0x5846_5342, 0x9123_683e];
/// Further ones that no other machine's kernel has mounted: tmpfs, OverlayFS, F2FS, bcachefs, ZFS.
const ELSEWHERE_ON_THIS_MACHINE: [u32; 5] = [
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
];

/// Whether writes can go past the page cache.
pub(super) fn is_on_disk(file: &OwnedFd) -> bool {
    kind(file).is_some_and(|kind| ON_DISK.contains(&kind))
}

/// Whether one kernel, ours, knows all that happens in it: what a call made is there for every
/// later call of every process. Other machines may write to it through a server that runs here; what
/// they wrote is there as well, and what they see late is for them to wait for.
pub(super) fn is_of_this_machine(file: &OwnedFd) -> bool {
    kind(file)
        .is_some_and(|kind| ON_DISK.contains(&kind) || ELSEWHERE_ON_THIS_MACHINE.contains(&kind))
}

/// Its magic number. The type has another width and sign on each architecture; the numbers have 32
/// bits.
fn kind(file: &OwnedFd) -> Option<u32> {
    rustix::fs::fstatfs(file)
        .ok()
        .map(|system| system.f_type as u32)
}
