//! Copying the used blobs of partly used packs into new ones.
//!
//! Invariant: a blob is copied only after its bytes were opened and hashed to its id; the old pack
//! is not touched.

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKey, StorageErrorKind};

use super::choose::{Choice, Fate};
use super::survey::Survey;
use crate::codec::{LaneMemory, SealedBytes};
use crate::error::{Cause, RepositoryError};
use crate::format::pack::PackedBlob;
use crate::index::Location;
use crate::pack_runs::{Run, runs};
use crate::pack_writing::{PackWriter, Written};
use crate::parallel::{for_each_with, threads};
use crate::repository::Repository;

/// No pack is made larger, in bytes, whatever is asked for: its offsets have 32 bits, and it is held in memory.
const PACK_BYTES_LIMIT: u64 = 1 << 30;

/// Memory of one thread.
#[derive(Default)]
struct Memory {
    run: Vec<u8>,
    lanes: LaneMemory,
}

/// Repacks what was chosen; the new packs are indexed when this returns.
pub fn repack(
    repository: &Repository,
    survey: &Survey,
    choice: &Choice,
    pack_bytes_min: u64,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Written, RepositoryError> {
    let packs: Vec<usize> = choice.numbers(Fate::Repack).collect();
    let all = packs.iter().flat_map(|pack| wanted(survey, choice, *pack));
    Counters::add(&counters.bytes_expected, bytes_of(all));
    let pack_bytes_min = usize::try_from(pack_bytes_min.min(PACK_BYTES_LIMIT));
    let writer = PackWriter::new(repository, pack_bytes_min.unwrap_or(usize::MAX));
    for_each_with(&packs, threads(repository.storage()), |pack, memory| {
        for run in runs(wanted(survey, choice, *pack)) {
            cancel.check()?;
            copy_run(repository, &run, &writer, memory, cancel)?;
            let copied = run.locations().iter().copied();
            Counters::add(&counters.bytes_done, bytes_of(copied));
        }
        Ok(())
    })?;
    let written = writer.finish()?;
    Counters::add(&counters.bytes_stored, written.bytes());
    Ok(written)
}

fn bytes_of(locations: impl Iterator<Item = Location>) -> u64 {
    locations
        .map(|location| u64::from(location.blob.length))
        .sum()
}

/// The blobs of a pack that are kept, in the order in which they lie.
fn wanted<'s>(
    survey: &'s Survey,
    choice: &'s Choice,
    pack: usize,
) -> impl Iterator<Item = Location> + 's {
    let catalogue = &survey.catalogue;
    let rows = catalogue.rows_of_pack(pack).iter();
    let rows = rows.map(|row| *row as usize);
    let wanted = rows.filter(|row| choice.kept.contains(*row));
    wanted.map(move |row| Location {
        pack: catalogue.packs()[pack],
        blob: catalogue.rows()[row].blob(),
    })
}

fn copy_run(
    repository: &Repository,
    run: &Run,
    writer: &PackWriter<'_>,
    memory: &mut Memory,
    cancel: &Cancel,
) -> Result<(), RepositoryError> {
    let (codec, lanes) = (repository.codec(), &mut memory.lanes);
    let bytes = match run.read(repository.storage(), &mut memory.run) {
        Ok(bytes) => &*bytes,
        // Which of them is not there, each by itself tells.
        Err(error) if error.kind() == StorageErrorKind::ShortRead => &[],
        Err(error) => return Err(error.into()),
    };
    let all = run.sealed(bytes);
    let is_proven = all.is_some_and(|all| codec.verify_all(all, lanes).is_ok());
    for Location { blob, .. } in run.locations() {
        let sealed = bytes.get(run.range_of(blob));
        let mut opens = |sealed| {
            is_proven
                || codec
                    .verify_all([SealedBytes::of(blob, sealed)], lanes)
                    .is_ok()
        };
        match sealed {
            Some(sealed) if opens(sealed) => writer.add(*blob, sealed)?,
            _ => {
                cancel.check()?;
                copy_alone(repository, run.file(), blob, writer, lanes)?;
            }
        }
    }
    Ok(())
}

/// Copies a blob that did not come with its run: what broke on its way may come right now, and what is damaged is named.
fn copy_alone(
    repository: &Repository,
    pack: FileKey,
    blob: &PackedBlob,
    writer: &PackWriter<'_>,
    lanes: &mut LaneMemory,
) -> Result<(), RepositoryError> {
    let damaged = |cause: Cause| RepositoryError::DamagedBlob {
        blob: blob.id,
        pack,
        cause,
    };
    let (start, length) = (blob.offset.into(), blob.length as usize);
    let sealed = match repository.storage().read_range(&pack, start, length) {
        Err(error) if error.kind() == StorageErrorKind::ShortRead => {
            return Err(damaged("the pack ends before it does".into()));
        }
        other => other?,
    };
    let proven = [SealedBytes::of(blob, &sealed)];
    let proven = repository.codec().verify_all(proven, lanes);
    proven.map_err(|cause| damaged(cause.into()))?;
    writer.add(*blob, &sealed)
}
