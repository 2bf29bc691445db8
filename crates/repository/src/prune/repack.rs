//! Copying the used blobs of partly used packs into new ones.
//!
//! Invariant: a blob is copied only after its bytes were opened and hashed to its id; the old pack
//! is not touched.

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;

use super::choose::{Choice, Fate};
use super::survey::Survey;
use crate::error::RepositoryError;
use crate::pack_reading::{open_sealed, pack_file, sealed_blob};
use crate::pack_writing::{PackWriter, Written};
use crate::parallel::{for_each, threads};
use crate::repository::Repository;

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
    let pack_bytes_min = usize::try_from(pack_bytes_min).unwrap_or(usize::MAX);
    let writer = PackWriter::new(repository, pack_bytes_min);
    for_each(&packs, threads(repository.storage()), |pack| {
        cancel.check()?;
        copy_pack(repository, survey, choice, *pack, &writer)?;
        Counters::add(&counters.bytes_done, survey.catalogue.pack_size(*pack));
        Ok(())
    })?;
    let written = writer.finish()?;
    Counters::add(&counters.bytes_stored, written.bytes());
    Ok(written)
}

fn copy_pack(
    repository: &Repository,
    survey: &Survey,
    choice: &Choice,
    pack: usize,
    writer: &PackWriter<'_>,
) -> Result<(), RepositoryError> {
    let catalogue = &survey.catalogue;
    let file = pack_file(catalogue.packs()[pack]);
    let rows = catalogue.rows_of_pack(pack).iter();
    let wanted: Vec<usize> = rows
        .map(|row| *row as usize)
        .filter(|row| choice.kept.contains(*row))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let bytes = repository.storage().read(&file)?;
    let (mut spoilt, mut plaintext) = (Vec::new(), Vec::new());
    for row in wanted {
        let blob = catalogue.rows()[row].blob();
        let damaged = |cause: crate::error::Cause| RepositoryError::DamagedBlob {
            blob: blob.id,
            pack: file,
            cause,
        };
        let sealed = sealed_blob(&bytes, &blob)
            .ok_or_else(|| damaged("the pack ends before it does".into()))?;
        spoilt.clear();
        spoilt.extend_from_slice(sealed);
        open_sealed(repository.codec(), &blob, &mut spoilt, &mut plaintext)
            .map_err(|error| damaged(error.into()))?;
        writer.add(blob, sealed)?;
    }
    Ok(())
}
