//! Finding a directory beneath the root.
//!
//! Invariant: every handle given out was reached from the root's handle through real directories
//! only: no symbolic link, no magic link, no `..`.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::path::RelativePath;

/// How the way to a directory is made safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// `openat2` with `RESOLVE_BENEATH`, Linux 5.6: the kernel refuses links, many names a call.
    Kernel,
    /// `openat` with `O_NOFOLLOW`, one name a call: for older kernels and sandboxes.
    PerName,
}

/// The kernel takes no longer path (`PATH_MAX` with the NUL): deeper ones go in pieces.
const PATH_BYTES_MAX: usize = 4095;

/// `openat2` says `EAGAIN` when something was renamed meanwhile; somebody who renames for ever
/// must not hold us for ever.
const ATTEMPTS_MAX: u32 = 1000;

const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS);

impl Resolution {
    /// What this kernel and its sandbox allow: old seccomp filters answer `EPERM` for calls that
    /// they do not know.
    pub(super) fn detect(root: &OwnedFd) -> Self {
        match openat2(root, ".", DIRECTORY, Mode::empty(), BENEATH) {
            Ok(_) => Self::Kernel,
            Err(_) => Self::PerName,
        }
    }

    /// Opens the directory at `path` as a place for `…at` calls.
    pub(super) fn directory(self, root: &OwnedFd, path: &RelativePath) -> Result<OwnedFd, Errno> {
        let mut at = openat(root, ".", DIRECTORY, Mode::empty())?;
        match self {
            Self::PerName => {
                for name in path.components() {
                    at = openat(&at, name, DIRECTORY, Mode::empty())?;
                }
            }
            Self::Kernel => {
                for piece in pieces(path.as_bytes()) {
                    at = beneath(&at, piece)?;
                }
            }
        }
        Ok(at)
    }
}

fn beneath(at: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    for _ in 0..ATTEMPTS_MAX {
        match openat2(at, path, DIRECTORY, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Cuts a path at slashes into pieces that the kernel takes.
fn pieces(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((longest, _)) = rest.split_at_checked(PATH_BYTES_MAX) else {
            return Some(std::mem::take(&mut rest));
        };
        // A name that is itself too long goes to the kernel as it is, which refuses it.
        let slash = |bytes: &[u8]| bytes.iter().rposition(|b| *b == b'/');
        let end = slash(longest).unwrap_or(longest.len());
        let (piece, tail) = rest.split_at(end);
        rest = tail.strip_prefix(b"/").unwrap_or(tail);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_at_slashes() {
        let path = vec!["component"; 2000].join("/").into_bytes();
        let cut: Vec<&[u8]> = pieces(&path).collect();
        assert_eq!(cut.len(), 5);
        assert!(cut.iter().all(|piece| piece.len() <= PATH_BYTES_MAX));
        assert_eq!(cut.join(&b'/'), path);
        assert_eq!(pieces(b"a/b").collect::<Vec<_>>(), [b"a/b"]);
        assert_eq!(pieces(b"").count(), 0);
    }
}
