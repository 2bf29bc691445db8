//! Copying the used blobs of partly used packs into new ones.
//!
//! Invariant: a blob is copied only after its bytes were opened and hashed to its id; the old pack
//! is not touched.

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;

use super::choose::{Choice, Fate};
use super::survey::Survey;
use crate::codec::{LaneMemory, SealedBytes};
use crate::error::RepositoryError;
use crate::index::Location;
use crate::pack_runs::{Run, runs};
use crate::pack_writing::{PackWriter, Written};
use crate::parallel::{for_each_with, threads};
use crate::repository::Repository;

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
    let packs = choice.numbers(Fate::Repack);
    let runs = runs(packs.flat_map(|pack| wanted(survey, choice, pack)));
    let bytes = runs.iter().map(Run::bytes).sum();
    Counters::add(&counters.bytes_expected, bytes);
    let pack_bytes_min = usize::try_from(pack_bytes_min).unwrap_or(usize::MAX);
    let writer = PackWriter::new(repository, pack_bytes_min);
    for_each_with(&runs, threads(repository.storage()), |run, memory| {
        cancel.check()?;
        copy_run(repository, run, &writer, memory)?;
        Counters::add(&counters.bytes_done, run.bytes());
        Ok(())
    })?;
    let written = writer.finish()?;
    Counters::add(&counters.bytes_stored, written.bytes());
    Ok(written)
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
) -> Result<(), RepositoryError> {
    let bytes = match run.read(repository.storage(), &mut memory.run) {
        Ok(bytes) => &*bytes,
        Err(error) if error.is_of_the_storage() => return Err(error.into()),
        // Which of them it is, each by itself tells.
        Err(_shows_again) => &[],
    };
    let proven = run.sealed(bytes).filter(|sealed| {
        let proven = repository
            .codec()
            .verify_all(sealed.iter().copied(), &mut memory.lanes);
        proven.is_ok()
    });
    let Some(proven) = proven else {
        return copy_one_by_one(repository, run, writer, memory);
    };
    for (location, blob) in run.locations().iter().zip(proven) {
        writer.add(location.blob, blob.sealed)?;
    }
    Ok(())
}

/// Copies blobs that did not come as a run: what broke on its way may come right now, and what is damaged is named.
fn copy_one_by_one(
    repository: &Repository,
    run: &Run,
    writer: &PackWriter<'_>,
    memory: &mut Memory,
) -> Result<(), RepositoryError> {
    let pack = run.file();
    for location in run.locations() {
        let blob = location.blob;
        let (start, length) = (blob.offset.into(), blob.length as usize);
        let sealed = repository.storage().read_range(&pack, start, length)?;
        let proven = [SealedBytes::of(&blob, &sealed)];
        let proven = repository.codec().verify_all(proven, &mut memory.lanes);
        proven.map_err(|cause| RepositoryError::DamagedBlob {
            blob: blob.id,
            pack,
            cause: cause.into(),
        })?;
        writer.add(blob, &sealed)?;
    }
    Ok(())
}
