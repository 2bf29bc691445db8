//! Temporary files: creating them, and removing those of writers that died.
//!
//! Invariant: a temporary name starts with a dot and is never 64 hex digits, so neither our
//! listings nor restic's take it for a file of the repository.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::folder::{self, Root};
use super::listing;
use crate::FileKind;
use crate::temporaries::StaleTemporaries;

const PREFIX: &str = ".refloat-tmp-";

/// Random names of 64 bits do not meet; more failures than this mean something else.
const NAME_ATTEMPTS_MAX: usize = 8;

/// A file that is removed unless it was published.
pub(super) struct Temporary<'folder> {
    folder: &'folder OwnedFd,
    file: OwnedFd,
    name: String,
    is_published: Cell<bool>,
}

impl<'folder> Temporary<'folder> {
    pub(super) fn create(folder: &'folder OwnedFd) -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        for _attempt in 0..NAME_ATTEMPTS_MAX {
            let name = random_name()?;
            match retry_on_intr(|| rustix::fs::openat(folder, &name, flags, mode)) {
                Ok(file) => {
                    return Ok(Self {
                        folder,
                        file,
                        name,
                        is_published: Cell::new(false),
                    });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::IO)
    }

    pub(super) const fn fd(&self) -> &OwnedFd {
        &self.file
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file has its final name now, and the temporary one is gone.
    pub(super) fn keep(&self) {
        self.is_published.set(true);
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_published.get() {
            // The write failed already and says why; what stays here is removed as stale later.
            let _unreported = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

fn random_name() -> Result<String, Errno> {
    let random = getrandom::u64().map_err(|_no_randomness| Errno::IO)?;
    Ok(format!("{PREFIX}{random:016x}"))
}

pub(super) fn remove_stale(root: &Path, older_than: Duration) -> Result<StaleTemporaries, Errno> {
    let root = Root::open(root)?;
    let before_ns =
        clock_ns(root.fd())? - i128::try_from(older_than.as_nanos()).unwrap_or(i128::MAX);
    let mut removed = StaleTemporaries::default();
    remove_in(root.fd(), before_ns, &mut removed)?;
    for kind in FileKind::FOLDERS {
        let Some(folder) = root.kind(kind)? else {
            continue;
        };
        remove_in(&folder, before_ns, &mut removed)?;
        if kind == FileKind::Pack {
            for shard in 0..=u8::MAX {
                let shard = folder::open_below(&folder, &format!("{shard:02x}"));
                if let Some(shard) = folder::if_there(shard)? {
                    remove_in(&shard, before_ns, &mut removed)?;
                }
            }
        }
    }
    Ok(removed)
}

/// What the storage's own clock shows: a file server's may differ from ours.
fn clock_ns(folder: &OwnedFd) -> Result<i128, Errno> {
    let probe = Temporary::create(folder)?;
    rustix::fs::fstat(probe.fd()).map(|stat| modified_ns(&stat))
}

fn modified_ns(stat: &Stat) -> i128 {
    let modified = listing::modified(stat);
    i128::from(modified.seconds) * 1_000_000_000 + i128::from(modified.nanoseconds)
}

fn remove_in(
    folder: &OwnedFd,
    before_ns: i128,
    removed: &mut StaleTemporaries,
) -> Result<(), Errno> {
    for name in listing::names(folder)? {
        if !is_temporary(&name) {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Some(stat) = folder::if_there(rustix::fs::statat(folder, &name, flags))? else {
            continue;
        };
        let is_plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_plain || modified_ns(&stat) > before_ns {
            continue;
        }
        let removal = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
        if folder::if_there(removal)?.is_some() {
            removed.files += 1;
            removed.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(())
}

/// Ours, and restic's: the final name, `-tmp-` and digits.
pub(super) fn is_temporary(name: &str) -> bool {
    if let Some(random) = name.strip_prefix(PREFIX) {
        return listing::parse_hex::<8>(random).is_some();
    }
    name.split_once("-tmp-")
        .is_some_and(|(final_name, number)| {
            let is_final = final_name == "config" || listing::parse_hex::<32>(final_name).is_some();
            is_final && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_writers_make_are_temporary() {
        let id = "0123456789abcdef".repeat(4);
        let temporary = [
            random_name().unwrap(),
            format!("{id}-tmp-123"),
            "config-tmp-9".to_owned(),
        ];
        for name in temporary {
            assert!(is_temporary(&name), "{name}");
        }
        let others = [
            id.clone(),
            "config".to_owned(),
            format!("{PREFIX}notes"),
            format!("{id}-tmp-"),
            format!("{id}-tmp-12a"),
            "mine-tmp-12".to_owned(),
        ];
        for name in others {
            assert!(!is_temporary(&name), "{name}");
        }
    }
}
