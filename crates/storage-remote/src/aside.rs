//! Files of servers with folders while they are being written, and those of writers that died.
//!
//! Invariant: a name of an unfinished file is never 64 hex digits, so neither our listings nor
//! restic's take it for a file of the repository.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::temporaries::StaleTemporaries;
use refloat_storage::{FileKey, FileKind};

use crate::Surroundings;
use crate::failure::Failure;
use crate::objects::{file_of, is_pack_folder};

const SUFFIX: &str = ".tmp";

/// Gives names to unfinished files; no two of one process are the same.
#[derive(Default)]
pub(crate) struct Asides(AtomicU64);

impl Asides {
    /// A path beside the final one: that, the time in nanoseconds, and a number.
    pub(crate) fn next(&self, path: &str, around: &Surroundings) -> String {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let now = (around.clock)().as_nanosecond();
        format!("{path}.{now}-{number}{SUFFIX}")
    }
}

/// Whether a name in the folder of a kind is one that [`Asides::next`] gives.
fn is_aside(kind: FileKind, name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unfinished = || {
        let (path, rest) = name.strip_suffix(SUFFIX)?.split_once('.')?;
        let (now, number) = rest.split_once('-')?;
        Some(file_of(kind, path).is_some() && is_number(now) && is_number(number))
    };
    unfinished().unwrap_or(false)
}

/// A file or folder as a server lists it.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) is_folder: bool,
    pub(crate) size: Option<u64>,
    pub(crate) modified: Option<Timestamp>,
}

/// A server with folders. Paths are below the repository's; the empty one is its own.
pub(crate) trait Folders {
    /// What a folder holds; none if it is not there.
    fn named(&self, folder: &str) -> Result<Option<Vec<Named>>, Failure>;

    /// Writes a file of one byte.
    fn write_byte(&self, path: &str) -> Result<(), Failure>;

    /// Removes a file; one that is not there is no failure.
    fn remove_path(&self, path: &str) -> Result<(), Failure>;
}

/// Removes unfinished files whose last write is longer ago; `probe` is a path for one of our own,
/// by which the server tells the time.
pub(crate) fn remove_stale(
    server: &impl Folders,
    probe: &str,
    older_than: Duration,
) -> Result<StaleTemporaries, Failure> {
    server.write_byte(probe)?;
    let listed = server.named("");
    server.remove_path(probe)?;
    // Folders that are not there, here and below, have nothing to remove.
    let listed = listed?.unwrap_or_default();
    let ours = listed.iter().find(|entry| entry.name == probe);
    let mut removal = Removal {
        server,
        now: ours.and_then(|entry| entry.modified),
        older_than,
        removed: StaleTemporaries::default(),
    };
    removal.in_listing(FileKind::Config, "", &listed)?;
    for kind in FileKind::FOLDERS {
        let folder = kind.folder();
        let listed = server.named(folder)?.unwrap_or_default();
        removal.in_listing(kind, &format!("{folder}/"), &listed)?;
        let is_shard = |entry: &&Named| {
            kind == FileKind::Pack && entry.is_folder && is_pack_folder(&entry.name)
        };
        for shard in listed.iter().filter(is_shard) {
            let folder = format!("{folder}/{}", shard.name);
            let listed = server.named(&folder)?.unwrap_or_default();
            removal.in_listing(kind, &format!("{folder}/"), &listed)?;
        }
    }
    Ok(removal.removed)
}

struct Removal<'a, S> {
    server: &'a S,
    /// None if the server does not tell; then nothing has an age.
    now: Option<Timestamp>,
    older_than: Duration,
    removed: StaleTemporaries,
}

impl<S: Folders> Removal<'_, S> {
    fn in_listing(
        &mut self,
        kind: FileKind,
        prefix: &str,
        listed: &[Named],
    ) -> Result<(), Failure> {
        for entry in listed {
            let is_stale = !entry.is_folder && is_aside(kind, &entry.name) && self.is_old(entry);
            if is_stale {
                self.server
                    .remove_path(&format!("{prefix}{}", entry.name))?;
                self.removed.files += 1;
                self.removed.bytes += entry.size.unwrap_or(0);
            }
        }
        Ok(())
    }

    fn is_old(&self, entry: &Named) -> bool {
        let (Some(now), Some(modified)) = (self.now, entry.modified) else {
            return false;
        };
        let age = now.to_jiff().duration_since(modified.to_jiff());
        Duration::try_from(age).is_ok_and(|age| age >= self.older_than)
    }
}

/// The path of a probe below the repository.
pub(crate) fn probe(asides: &Asides, around: &Surroundings) -> String {
    asides.next(&FileKey::CONFIG.path(), around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_writers_give_are_unfinished() {
        let id = "0123456789abcdef".repeat(4);
        let pack = Asides::default().next(&id, &Surroundings::empty());
        assert!(is_aside(FileKind::Pack, &pack), "{pack}");
        let config = probe(&Asides::default(), &Surroundings::empty());
        assert!(is_aside(FileKind::Config, &config), "{config}");
        assert!(!is_aside(FileKind::Config, &pack) && !is_aside(FileKind::Pack, &config));
        let others = [
            id.clone(),
            format!("{id}.tmp"),
            format!("{id}.1-.tmp"),
            format!("{id}.1-2.tmp.bak"),
            format!("{id}.1-2a.tmp"),
            format!("{id}.-1-2.tmp"),
            "notes.1-2.tmp".to_owned(),
        ];
        for name in others {
            assert!(!is_aside(FileKind::Pack, &name), "{name}");
        }
    }
}
