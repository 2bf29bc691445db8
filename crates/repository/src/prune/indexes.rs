//! Replacing index files, so that no index names a dead pack any more.
//!
//! Invariant: an index file is deleted only after files that list all its living packs, each with
//! all its blobs, are stored; at most one new file more than old ones is there at any time, so
//! hardly any free space is needed.

use std::collections::BTreeSet;

use refloat_storage::{FileKey, FileKind};

use crate::catalogue::Catalogue;
use crate::deletion::delete_all;
use crate::error::RepositoryError;
use crate::format::pack::PackedBlob;
use crate::id::{IndexId, PackId};
use crate::lock::Lock;
use crate::pack_writing::{INDEX_BLOBS_MAX, write_index};
use crate::repository::Repository;

/// Files with fewer blobs are merged when there are [`SMALL_FILES_MIN`].
const SMALL_FILE_BLOBS: usize = INDEX_BLOBS_MAX / 10;
const SMALL_FILES_MIN: usize = 8;

/// What replacing did.
#[derive(Default)]
pub struct Replaced {
    pub written: u64,
    pub deleted: u64,
    /// Old files that storage keeps.
    pub kept: BTreeSet<IndexId>,
}

/// The numbers of the index files that name dead packs, repeat others, or are many and small.
pub fn to_replace(catalogue: &Catalogue, dead: &dyn Fn(usize) -> bool) -> Vec<usize> {
    let repeated = |pack: usize| catalogue.repeated.contains(&catalogue.packs()[pack]);
    let mut replace: Vec<bool> = catalogue
        .files
        .iter()
        .map(|file| {
            let mut packs = file.packs.iter().map(|pack| *pack as usize);
            file.packs.is_empty() || packs.any(|pack| dead(pack) || repeated(pack))
        })
        .collect();
    let small =
        |number: &usize| !replace[*number] && catalogue.files[*number].blobs < SMALL_FILE_BLOBS;
    let small: Vec<usize> = (0..replace.len()).filter(small).collect();
    if small.len() >= SMALL_FILES_MIN {
        small.into_iter().for_each(|number| replace[number] = true);
    }
    include_splits(catalogue, &mut replace);
    (0..replace.len()).filter(|file| replace[*file]).collect()
}

/// A file that lists the rest of a pack whose entries are written anew goes as well
/// (restic #21820: a pack split between two files).
fn include_splits(catalogue: &Catalogue, replace: &mut [bool]) {
    let mut rewritten = vec![false; catalogue.packs().len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (number, file) in catalogue.files.iter().enumerate() {
            let packs = || file.packs.iter().map(|pack| *pack as usize);
            if !replace[number] && packs().any(|pack| rewritten[pack]) {
                replace[number] = true;
            }
            if replace[number] {
                for pack in packs() {
                    changed |= !std::mem::replace(&mut rewritten[pack], true);
                }
            }
        }
    }
}

/// Writes the living packs of these files into new ones and deletes the old.
pub fn replace(
    repository: &Repository,
    catalogue: &Catalogue,
    files: &[usize],
    dead: &dyn Fn(usize) -> bool,
    lock: &Lock,
) -> Result<Replaced, RepositoryError> {
    let mut replacing = Replacing {
        repository,
        done: vec![false; catalogue.packs().len()],
        pending: Vec::new(),
        pending_blobs: 0,
        replaced: Replaced::default(),
    };
    let mut covered = Vec::new();
    for number in files {
        let file = &catalogue.files[*number];
        for pack in file.packs.iter().map(|pack| *pack as usize) {
            if !dead(pack) && !std::mem::replace(&mut replacing.done[pack], true) {
                replacing.add(catalogue.packs()[pack], catalogue.blobs_of_pack(pack))?;
            }
        }
        covered.push(file.id);
        if replacing.pending.is_empty() {
            let covered = std::mem::take(&mut covered);
            replacing.replaced.delete(repository, covered, lock)?;
        }
    }
    replacing.write()?;
    replacing.replaced.delete(repository, covered, lock)?;
    Ok(replacing.replaced)
}

struct Replacing<'a> {
    repository: &'a Repository,
    /// By pack: whether it is in a new file, or pending.
    done: Vec<bool>,
    pending: Vec<(PackId, Vec<PackedBlob>)>,
    pending_blobs: usize,
    replaced: Replaced,
}

impl Replacing<'_> {
    fn add(&mut self, pack: PackId, blobs: Vec<PackedBlob>) -> Result<(), RepositoryError> {
        self.pending_blobs += blobs.len();
        self.pending.push((pack, blobs));
        if self.pending_blobs >= INDEX_BLOBS_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), RepositoryError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.pending_blobs = 0;
        let _id = write_index(self.repository, std::mem::take(&mut self.pending))?;
        self.replaced.written += 1;
        Ok(())
    }
}

impl Replaced {
    /// Deletes index files; those that name living packs must have been replaced by files that
    /// are stored.
    pub fn delete(
        &mut self,
        repository: &Repository,
        files: impl IntoIterator<Item = IndexId>,
        lock: &Lock,
    ) -> Result<(), RepositoryError> {
        let files = files.into_iter();
        let files: Vec<FileKey> = files
            .map(|id| FileKey::new(FileKind::Index, id.0))
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        lock.prove()?;
        let kept = delete_all(repository, &files)?;
        self.deleted += (files.len() - kept.len()) as u64;
        let kept = kept.into_iter().map(|file| IndexId(*file.id()));
        self.kept.extend(kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::CataloguedFile;
    use crate::format::pack::BlobKind;
    use crate::id::BlobId;

    fn catalogue(files: &[&[u8]]) -> Catalogue {
        let packs = (0..10).map(|pack| {
            let blob = PackedBlob {
                id: BlobId([pack; 32]),
                kind: BlobKind::Data,
                offset: 0,
                length: 50,
                uncompressed_length: None,
            };
            (PackId([pack; 32]), vec![blob])
        });
        let mut catalogue = Catalogue::of_packs(packs).unwrap();
        catalogue.files = (0..)
            .zip(files)
            .map(|(number, packs)| CataloguedFile {
                id: IndexId([number; 32]),
                packs: packs.iter().map(|pack| u32::from(*pack)).collect(),
                blobs: SMALL_FILE_BLOBS,
            })
            .collect();
        catalogue
    }

    #[test]
    fn files_go_that_name_dead_packs_or_share_a_pack_with_one_that_goes() {
        let catalogue = catalogue(&[&[0, 1], &[2, 3], &[3, 4], &[4, 5], &[6], &[]]);
        let dead = |pack: usize| pack == 2;
        assert_eq!(to_replace(&catalogue, &dead), [1, 2, 3, 5]);
        assert_eq!(to_replace(&catalogue, &|_| false), [5]);
    }

    #[test]
    fn many_small_files_are_merged() {
        let mut small = catalogue(&[&[0], &[1], &[2], &[3], &[4], &[5], &[6], &[7], &[8]]);
        assert_eq!(to_replace(&small, &|_| false), [] as [usize; 0]);
        small
            .files
            .iter_mut()
            .skip(1)
            .for_each(|file| file.blobs = 3);
        assert_eq!(to_replace(&small, &|_| false), [1, 2, 3, 4, 5, 6, 7, 8]);
        small.files.pop();
        assert_eq!(to_replace(&small, &|_| false), [] as [usize; 0]);
    }
}
