//! Making a repository, and its keys.
//!
//! Each state costs several key derivations, so the states are judged by who can open what.

use std::sync::Arc;
use std::time::Instant;

use refloat_model::secret::Secret;
use refloat_repository::escrow::{Escrow, EscrowError, KeyChoice};
use refloat_repository::format::key::KeyOrigin;
use refloat_repository::lock::LockMode;
use refloat_repository::{InitOptions, Repository, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Mutation, MutationEffect};
use refloat_testkit::zero_loss::ZeroLoss;

use super::commands::two_points;
use super::{is_lock, place};
use crate::support::*;

const OTHER: &str = "another";

fn try_open(storage: &SharedStorage, password: &str) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::clone(storage), &Secret::new(password))
}

/// A command on a storage.
type Run<'a> = dyn Fn(&SharedStorage) -> Result<(), RepositoryError> + 'a;
/// Judges a state, with the file that is torn in it.
type Judge<'a> = dyn Fn(&Arc<MemoryStorage>, Option<FileKey>, &str) + 'a;

/// Calls `judge` for every state that a command can leave; how many there were.
fn everywhere(original: &MemoryStorage, run: &Run<'_>, judge: &Judge<'_>) -> usize {
    let copy: SharedStorage = Arc::new(original.duplicate());
    let counting = Arc::new(FaultyStorage::new(copy, FaultPlan::default()));
    run(&(Arc::clone(&counting) as SharedStorage)).unwrap();
    let mut states = 0;
    for at in 1..=counting.mutations().len() as u64 {
        for effect in MutationEffect::ALL {
            let memory = Arc::new(original.duplicate());
            let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
            let faulty = Arc::new(FaultyStorage::crashing(shared, at, effect));
            let ended = run(&(Arc::clone(&faulty) as SharedStorage));
            let last = faulty.mutations()[at as usize - 1];
            let torn = match (effect, last) {
                (MutationEffect::Torn, Mutation::Write(file)) => Some(file),
                (MutationEffect::Torn, _) => continue,
                _ => None,
            };
            let what = format!("{effect:?} at {at}, {last}");
            assert!(ended.is_err() || is_lock(&last), "{what}: reported as done");
            judge(&memory, torn, &what);
            states += 1;
        }
    }
    states
}

#[test]
fn an_init_that_dies_anywhere_can_be_repeated() {
    let started = Instant::now();
    let (empty, _, _) = place();
    let init_with = |storage: &SharedStorage, password: &str| {
        let options = InitOptions::default();
        Repository::init(Arc::clone(storage), &Secret::new(password), options)
    };
    let run = |storage: &SharedStorage| init_with(storage, PASSWORD).map(drop);
    let states = everywhere(&empty, &run, &|memory, _torn, what| {
        let storage: SharedStorage = Arc::clone(memory) as SharedStorage;
        let opened = try_open(&storage, PASSWORD);
        // Either it is there, or it is made by trying again.
        let repository = opened
            .or_else(|_| init_with(&storage, PASSWORD))
            .unwrap_or_else(|error| panic!("{what}: {error:?}"))
            .into_indexed()
            .unwrap();
        let now = jiff::Timestamp::from_second(memory_now(memory)).unwrap();
        refloat_testkit::zero_loss::next_backup(&repository, now).unwrap();
        drop(try_open(&storage, PASSWORD).unwrap());
        // And nobody makes another one over it.
        let again = init_with(&storage, PASSWORD);
        assert!(matches!(
            again,
            Err(RepositoryError::AlreadyInitialized { .. })
        ));
    });
    refloat_testkit::tier::report("C1 init", &format!("{states} states"), started);
    assert!(states >= 7, "{states}");
}

/// The storage's clock, in seconds.
fn memory_now(memory: &Arc<MemoryStorage>) -> i64 {
    let storage: &dyn refloat_storage::Storage = &**memory;
    let key = FileKey::new(FileKind::Lock, [9; 32]);
    storage.write(&key, b"tick").unwrap();
    let listed = storage.list(FileKind::Lock).unwrap();
    let found = listed.iter().find(|file| file.key == key).unwrap();
    storage.delete(&key).unwrap();
    found.modified.unwrap().seconds
}

#[test]
fn a_key_import_that_dies_anywhere_can_be_repeated() {
    let started = Instant::now();
    let (memory, storage, start) = two_points();
    let repository = open(&storage);
    let _other = repository
        .add_key(&Secret::new(OTHER), KeyOrigin::default())
        .unwrap();
    let escrow = Escrow::of(&repository).unwrap();
    let sound = ZeroLoss::of(&repository.into_indexed().unwrap());
    // Deleted, or overwritten with zeros.
    let destroyed = |bytes: Option<&[u8]>| {
        let memory = memory.duplicate();
        let mut files = storage.list(FileKind::Key).unwrap();
        files.extend(storage.list(FileKind::Config).unwrap());
        let place: &dyn refloat_storage::Storage = &memory;
        for file in files {
            place.delete(&file.key).unwrap();
            if let Some(bytes) = bytes {
                place.write(&file.key, bytes).unwrap();
            }
        }
        memory
    };
    let import = |storage: &SharedStorage| {
        let put = escrow.put_back(storage, &Secret::new(PASSWORD), KeyChoice::All);
        put.map(drop).map_err(|error| match error {
            EscrowError::Repository(error) => error,
            other => panic!("{other:?}"),
        })
    };
    let mut states = 0;
    for bytes in [None, Some(&[0; 64][..])] {
        states += everywhere(&destroyed(bytes), &import, &|memory, torn, what| {
            let storage: SharedStorage = Arc::clone(memory) as SharedStorage;
            import(&storage).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            drop(try_open(&storage, OTHER).unwrap());
            let repository = open(&storage).into_indexed().unwrap();
            let later = start + jiff::SignedDuration::from_hours(25);
            memory.set_clock(later.into());
            // What was torn is put back by the repetition.
            assert!(torn.is_none_or(|file| file.kind() != FileKind::Lock));
            sound.judge_next(&repository, later, what);
        });
    }
    refloat_testkit::tier::report("C1 key import", &format!("{states} states"), started);
    assert!(states >= 12, "{states}");
}

#[test]
fn a_change_of_keys_that_dies_anywhere_locks_nobody_out() {
    let started = Instant::now();
    let (memory, storage, start) = two_points();
    let repository = open(&storage);
    let _other = repository
        .add_key(&Secret::new(OTHER), KeyOrigin::default())
        .unwrap();
    let sound = ZeroLoss::of(&repository.into_indexed().unwrap());
    let clock = || Hands::at(start).clock();
    let exclusive =
        |repository: &Repository| repository.lock(LockMode::Exclusive, owner("key"), clock());
    let new = Secret::new("the new one");
    let add = |storage: &SharedStorage| {
        let repository = try_open(storage, PASSWORD)?;
        repository.add_key(&new, KeyOrigin::default()).map(drop)
    };
    let passwd = |storage: &SharedStorage| {
        let repository = try_open(storage, PASSWORD)?;
        let lock = exclusive(&repository)?;
        let changed = repository.change_password(&new, KeyOrigin::default(), &lock);
        changed.map(drop)
    };
    let remove = |storage: &SharedStorage| {
        let other = try_open(storage, OTHER)?.key_id();
        let repository = try_open(storage, PASSWORD)?;
        let lock = exclusive(&repository)?;
        repository.remove_key(other, &lock)
    };
    let mut states = 0;
    let runs: [(&str, &Run<'_>, &str); 3] = [
        ("key add", &add, PASSWORD),
        ("key passwd", &passwd, "the new one"),
        ("key remove", &remove, PASSWORD),
    ];
    for (name, run, after) in runs {
        states += everywhere(&memory, run, &|memory, torn, what| {
            let storage: SharedStorage = Arc::clone(memory) as SharedStorage;
            let what = format!("{name}: {what}");
            let opened = try_open(&storage, PASSWORD).or_else(|_| try_open(&storage, after));
            let repository = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let repository = repository.into_indexed().unwrap();
            let sound = sound.clone().torn(torn);
            let later = start + jiff::SignedDuration::from_hours(25);
            memory.set_clock(later.into());
            sound.judge_next(&repository, later, &what);
        });
    }
    refloat_testkit::tier::report("C1 keys", &format!("{states} states"), started);
    assert!(states >= 20, "{states}");
}
