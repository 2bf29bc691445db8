//! Packs: there, of the right size, and, if they are read, what index and header say.
//!
//! Invariant: a place of a blob is marked bad if and only if its bytes cannot be read as that
//! blob, as far as packs were read; suspicious packs are always read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{Listed, StorageError};

use super::ReadData;
use super::finding::{CheckFinding, PackDamage, chain};
use crate::catalogue::Catalogue;
use crate::codec::{LaneMemory, SealedBytes};
use crate::error::RepositoryError;
use crate::format::pack::{PackedBlob, header_in};
use crate::id::{PackId, sha256};
use crate::index::Location;
use crate::pack_reading::{header_of, pack_file, sealed_blob};
use crate::pack_runs::{Run, runs};
use crate::parallel::{for_each_with, lock};
use crate::repository::Repository;
use crate::tree_walk::BitSet;

/// What checking packs needs.
pub struct PackCheck<'a> {
    pub repository: &'a Repository,
    pub catalogue: &'a Catalogue,
    /// Rows that turn out to be lost are added.
    pub bad: &'a BitSet,
    pub threads: usize,
    pub counters: &'a Counters,
    pub cancel: &'a Cancel,
}

/// Memory of one thread.
#[derive(Default)]
struct Memory {
    stretch: Vec<u8>,
    lanes: LaneMemory,
}

/// What reading one pack showed.
#[derive(Default)]
struct Verdict {
    damages: Vec<PackDamage>,
    mismatch: Option<(u64, u64)>,
    bad_rows: Vec<u32>,
}

impl PackCheck<'_> {
    /// Checks all packs of the index; the findings, and how many bytes were read.
    pub fn run(
        &self,
        listed: &[Listed],
        read: ReadData,
    ) -> Result<(Vec<CheckFinding>, u64), RepositoryError> {
        let (mut findings, present, suspicious) = self.check_sizes(listed)?;
        let mut chosen: BTreeSet<usize> = select(self.catalogue.packs(), &present, read);
        chosen.extend(&suspicious);
        let mut chosen: Vec<usize> = chosen.into_iter().collect();
        // The longest first, so that no thread begins one when the others are through.
        chosen.sort_by_cached_key(|pack| std::cmp::Reverse(self.work_bytes(*pack)));
        let expected: u64 = chosen
            .iter()
            .map(|pack| self.catalogue.pack_size(*pack))
            .sum();
        Counters::add(&self.counters.bytes_expected, expected);
        let found = Mutex::new(Vec::new());
        let bytes_read = AtomicU64::new(0);
        for_each_with(&chosen, self.threads, |number, memory: &mut Memory| {
            self.cancel.check()?;
            let proven = match suspicious.binary_search(number).is_ok() {
                true => None,
                false => self.read_proven(*number, memory)?,
            };
            let (verdict, bytes) = match proven {
                Some(bytes) => (Verdict::default(), bytes),
                None => self.read_pack(*number, memory)?,
            };
            bytes_read.fetch_add(bytes, Ordering::Relaxed);
            Counters::add(&self.counters.bytes_done, bytes);
            let pack = self.catalogue.packs()[*number];
            let mut found = lock(&found);
            found.extend(
                verdict
                    .damages
                    .into_iter()
                    .map(|damage| CheckFinding::DamagedPack { pack, damage }),
            );
            found.extend(verdict.mismatch.map(|(index_only, header_only)| {
                CheckFinding::IndexMismatch {
                    pack,
                    index_only,
                    header_only,
                }
            }));
            self.mark_bad(&verdict.bad_rows);
            Ok(())
        })?;
        findings.append(&mut lock(&found));
        Ok((findings, bytes_read.into_inner()))
    }

    /// Compares the listing with the index: findings, the numbers of the packs that are there,
    /// and of those whose size is wrong.
    #[expect(clippy::type_complexity, reason = "three lists that are used at once")]
    fn check_sizes(
        &self,
        listed: &[Listed],
    ) -> Result<(Vec<CheckFinding>, Vec<usize>, Vec<usize>), RepositoryError> {
        let sizes: HashMap<[u8; 32], u64> = listed
            .iter()
            .map(|file| (*file.key.id(), file.size))
            .collect();
        let (mut findings, mut present, mut suspicious) = (Vec::new(), Vec::new(), Vec::new());
        for (number, pack) in self.catalogue.packs().iter().enumerate() {
            let found = match sizes.get(&pack.0) {
                Some(size) => Some(*size),
                // A listing may be short; only the file itself can be missing.
                None => self.repository.storage().size(&pack_file(*pack))?,
            };
            let expected = self.catalogue.pack_size(number);
            match found {
                None => {
                    findings.push(CheckFinding::MissingPack { pack: *pack });
                    self.mark_bad(self.catalogue.rows_of_pack(number));
                }
                Some(found) if found == expected => present.push(number),
                Some(found) => {
                    suspicious.push(number);
                    findings.push(CheckFinding::PackSize {
                        pack: *pack,
                        expected,
                        found,
                    });
                }
            }
        }
        Ok((findings, present, suspicious))
    }

    /// What there is to decrypt, decompress and hash in a pack: the length of its blobs, sealed and plain.
    fn work_bytes(&self, pack: usize) -> u64 {
        let rows = self.catalogue.rows_of_pack(pack).iter();
        let blobs = rows.map(|row| self.catalogue.rows()[*row as usize].blob());
        blobs
            .map(|blob| u64::from(blob.length) + u64::from(blob.uncompressed_length.unwrap_or(0)))
            .sum()
    }

    fn mark_bad(&self, rows: &[u32]) {
        for row in rows {
            let _newly = self.bad.insert(*row as usize);
        }
    }

    /// How many bytes were read, if the pack is what the index says to its last byte. If not, nothing is said yet:
    /// the transfer may have been bad (restic #5467).
    ///
    /// A pack has no bytes but those of its blobs and its header (their lengths give the size, which is the file's),
    /// and each of these has its tag. So all are proven, and the hash of the whole, which takes as long as that of its
    /// blobs, would show no more than whether it is under its own name (`docs/adr/0030-proof-of-packs.md`).
    fn read_proven(
        &self,
        number: usize,
        memory: &mut Memory,
    ) -> Result<Option<u64>, RepositoryError> {
        let blobs = self.catalogue.blobs_of_pack(number);
        let pack = self.catalogue.packs()[number];
        let runs = runs(blobs.iter().map(|blob| Location { pack, blob: *blob }));
        let size = self.catalogue.pack_size(number);
        let Some((last, others)) = runs.split_last() else {
            return Ok(None);
        };
        for run in others {
            if self.read_run(run, run.end(), memory)?.is_none() {
                return Ok(None);
            }
        }
        let Some(bytes) = self.read_run(last, size, memory)? else {
            return Ok(None);
        };
        let cipher = self.repository.codec().cipher();
        // Behind the last blob; a run that does not fit into memory was not read.
        let end = usize::try_from(last.bytes()).ok();
        let end = end.and_then(|start| bytes.get(start..));
        let header = end.map(|end| header_in(cipher, end, size));
        let is_the_index =
            matches!(header, Some(Ok(header)) if mismatch(&blobs, &header).is_none());
        Ok(is_the_index.then_some(size))
    }

    /// The bytes of a run and what follows up to this offset, if they are there and its blobs are proven.
    fn read_run<'m>(
        &self,
        run: &Run,
        end: u64,
        memory: &'m mut Memory,
    ) -> Result<Option<&'m [u8]>, RepositoryError> {
        let Memory { stretch, lanes } = memory;
        let bytes = match run.read_to(end, self.repository.storage(), stretch) {
            Ok(bytes) => &*bytes,
            Err(error) if error.is_of_the_storage() => return Err(error.into()),
            Err(_shows_again) => return Ok(None),
        };
        let sealed = run.sealed(bytes);
        let codec = self.repository.codec();
        let is_proven = sealed.is_some_and(|sealed| codec.verify_all(sealed, lanes).is_ok());
        Ok(is_proven.then_some(bytes))
    }

    /// Reads a pack and says what is wrong with it.
    fn read_pack(
        &self,
        number: usize,
        memory: &mut Memory,
    ) -> Result<(Verdict, u64), RepositoryError> {
        let pack = self.catalogue.packs()[number];
        // Not both at once.
        *memory = Memory::default();
        // As a whole, which storage hashes, and so reads again by itself.
        match self.repository.storage().read(&pack_file(pack)) {
            Ok(bytes) => {
                let verdict = self.judge(number, &bytes, &mut memory.lanes);
                Ok((verdict, bytes.len() as u64))
            }
            Err(error) if error.is_of_the_storage() => Err(error.into()),
            Err(error) => Ok((self.without_bytes(number, &error), 0)),
        }
    }

    /// Of a pack that storage does not give.
    fn without_bytes(&self, number: usize, error: &StorageError) -> Verdict {
        let cause = chain(error);
        let mut verdict = Verdict::default();
        if error.is_loss() {
            verdict.damages.push(PackDamage::Unreadable { cause });
            verdict.bad_rows = self.catalogue.rows_of_pack(number).to_vec();
        } else {
            verdict.damages.push(PackDamage::Withheld { cause });
        }
        verdict
    }

    fn judge(&self, number: usize, bytes: &[u8], lanes: &mut LaneMemory) -> Verdict {
        let codec = self.repository.codec();
        let mut verdict = Verdict::default();
        if sha256(bytes) != self.catalogue.packs()[number].0 {
            verdict.damages.push(PackDamage::Hash);
        }
        let blobs = self.catalogue.blobs_of_pack(number);
        match header_of(codec, bytes) {
            Ok(header) => verdict.mismatch = mismatch(&blobs, &header),
            Err(error) => verdict.damages.push(PackDamage::Header {
                cause: chain(&error),
            }),
        }
        for (row, blob) in self.catalogue.rows_of_pack(number).iter().zip(&blobs) {
            let cause = match sealed_blob(bytes, blob) {
                None => Some("the pack ends before it does".to_owned()),
                Some(sealed) => {
                    let verified = codec.verify_all([SealedBytes::of(blob, sealed)], lanes);
                    verified.err().map(|error| chain(&error))
                }
            };
            if let Some(cause) = cause {
                verdict.bad_rows.push(*row);
                verdict.damages.push(PackDamage::Blob {
                    kind: blob.kind,
                    blob: blob.id,
                    cause,
                });
            }
        }
        verdict
    }
}

/// How many blobs only one of the two lists; none if they are the same.
fn mismatch(index: &[PackedBlob], header: &[PackedBlob]) -> Option<(u64, u64)> {
    if index == header {
        return None;
    }
    let (index, header): (BTreeSet<_>, BTreeSet<_>) =
        (index.iter().collect(), header.iter().collect());
    let index_only = index.difference(&header).count() as u64;
    let header_only = header.difference(&index).count() as u64;
    (index_only + header_only > 0).then_some((index_only, header_only))
}

/// The numbers of the packs to be read.
fn select(packs: &[PackId], present: &[usize], read: ReadData) -> BTreeSet<usize> {
    let present = present.iter().copied();
    match read {
        ReadData::None => BTreeSet::new(),
        ReadData::All => present.collect(),
        ReadData::Part { number, of } => present
            .filter(|pack| packs[*pack].0[0] % of.max(1) == number.saturating_sub(1))
            .collect(),
        ReadData::Share { per_mille, seed } => {
            let mut ranked: Vec<(u64, usize)> = present
                .map(|pack| (rank(seed, &packs[pack]), pack))
                .collect();
            ranked.sort_unstable();
            let share = (ranked.len() * usize::from(per_mille)).div_ceil(1000);
            ranked
                .into_iter()
                .take(share)
                .map(|(_, pack)| pack)
                .collect()
        }
    }
}

/// A pack's place in the order of a seed.
fn rank(seed: u64, pack: &PackId) -> u64 {
    let mut salted = seed.to_le_bytes().to_vec();
    salted.extend_from_slice(&pack.0);
    let hash = sha256(&salted);
    hash.first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_packs_once_and_shares_are_of_the_size_asked_for() {
        let packs: Vec<PackId> = (0..200).map(|byte| PackId([byte; 32])).collect();
        let present: Vec<usize> = (0..200).collect();
        let mut all = BTreeSet::new();
        for number in 1..=7 {
            let part = select(&packs, &present, ReadData::Part { number, of: 7 });
            assert!((28..30).contains(&part.len()));
            assert_eq!(all.intersection(&part).count(), 0);
            all.extend(part);
        }
        assert_eq!(all.len(), 200);
        let share = |per_mille, seed| select(&packs, &present, ReadData::Share { per_mille, seed });
        assert_eq!(share(50, 1).len(), 10);
        assert_eq!(share(1, 1).len(), 1);
        assert_eq!(share(1000, 1).len(), 200);
        assert_eq!(share(50, 1), share(50, 1));
        assert!(share(50, 1) != share(50, 2));
    }
}
