//! Taking an index up again: nothing is read if nothing changed, and every change is seen.

use std::sync::Arc;

use refloat_repository::{ChunkerChoice, IndexedRepository, PackId};
use refloat_storage::counting::{CountingStorage, Operation};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::support::*;

fn one_file(seed: u64) -> Files {
    [("file".to_owned(), (seed as i64, noise(1000, seed)))].into()
}

/// Index files that were read for it, and the packs it knows.
fn renew(
    counting: &CountingStorage,
    repository: &IndexedRepository,
) -> (u64, IndexedRepository, Vec<PackId>) {
    drop(counting.take());
    let renewed = repository.renewed().unwrap();
    let read = counting.take().of(Operation::Read, FileKind::Index).calls;
    let mut packs = renewed.index().packs().to_vec();
    packs.sort();
    (read, renewed, packs)
}

#[test]
fn an_index_is_read_again_only_if_files_came_or_went_or_were_damaged() {
    let memory: SharedStorage = Arc::new(MemoryStorage::new());
    let counting = Arc::new(CountingStorage::new(Arc::clone(&memory)));
    let storage: SharedStorage = Arc::clone(&counting) as SharedStorage;
    drop(init(&storage, ChunkerChoice::Gear));
    let _first = backup(&storage, &one_file(1));
    let before = open(&storage).into_indexed().unwrap();
    let (read, same, packs) = renew(&counting, &before);
    assert_eq!(read, 0);
    assert_eq!(packs, before.index().packs());

    // Somebody else's backup.
    let _second = backup(&storage, &one_file(2));
    let (read, both, all) = renew(&counting, &same);
    assert_eq!(read, 2);
    assert!(packs.iter().all(|pack| all.contains(pack)) && all.len() > packs.len());

    // A pack that is gone: of two places of a blob it would have to be the other.
    let gone = FileKey::new(FileKind::Pack, packs[0].0);
    let bytes = memory.read(&gone).unwrap();
    memory.delete(&gone).unwrap();
    let (read, without, _) = renew(&counting, &both);
    assert_eq!(read, 2);
    // And back, but cut off.
    memory.write(&gone, &bytes[..bytes.len() - 1]).unwrap();
    let (read, short, _) = renew(&counting, &without);
    assert_eq!(read, 2);

    // An index file that does not read: it is tried again each time.
    let index = memory.list(FileKind::Index).unwrap()[0].key;
    let sound = memory.read(&index).unwrap();
    memory.delete(&index).unwrap();
    memory.write(&index, &sound[1..]).unwrap();
    let (_, damaged, _) = renew(&counting, &short);
    assert_eq!(damaged.damaged_indexes().len(), 1);
    let (read, damaged, _) = renew(&counting, &damaged);
    assert!(read >= 2, "{read}");
    memory.delete(&index).unwrap();
    memory.write(&index, &sound).unwrap();
    let (read, healed, packs) = renew(&counting, &damaged);
    assert_eq!((read, packs), (2, all));
    assert_eq!(healed.damaged_indexes(), []);
}
