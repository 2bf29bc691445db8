//! C3: the power goes at any moment of the real command, and what was not synchronised is lost, cut or
//! out of order.

mod ledger;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use refloat_model::secret::Secret;
use refloat_repository::{IndexedRepository, Repository, RepositoryError, SnapshotId};
use refloat_storage::SharedStorage;
use refloat_storage::local::LocalStorage;
use refloat_testkit::power_cut::{Recording, State};
use refloat_testkit::random::Random;
use refloat_testkit::swap::Swap;
use refloat_testkit::tier;
use refloat_testkit::zero_loss::{Witness, ZeroLoss, next_backup};

use crate::cli_env::CliEnv;

const PASSWORD: &str = "secret words";

fn storage(folder: &Path) -> SharedStorage {
    Arc::new(LocalStorage::new(folder))
}

fn open(storage: &SharedStorage, password: &str) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::clone(storage), &Secret::new(password))
}

fn library(env: &CliEnv) -> IndexedRepository {
    let opened = open(&storage(&env.path("repo")), PASSWORD);
    opened.unwrap().into_indexed().unwrap()
}

fn ids(repository: &Repository) -> BTreeSet<SnapshotId> {
    let listed = repository.snapshots().unwrap().snapshots;
    listed.into_iter().map(|(id, _)| id).collect()
}

/// A folder in memory, where nothing has to be synchronised to be judged.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// A day has passed since the cut: locks are dead, and what nobody names is old.
fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_hours(26)
}

fn change(env: &CliEnv, turn: u64) {
    let mut random = Random::new(turn);
    fs::create_dir_all(env.path("data/many")).unwrap();
    for number in 0..6 {
        let path = env.path(&format!("data/many/file-{number}"));
        fs::write(path, random.bytes(20_000)).unwrap();
    }
    // A pack of more than a MiB goes past the page cache where the file system lets it.
    if turn == 1 {
        fs::write(env.path("data/large"), random.bytes(1_200_000)).unwrap();
    }
}

/// Records a command, and judges all that a cut at any moment of it may leave.
fn cut_everywhere(env: &CliEnv, name: &str, line: &[&str], witness: &Witness) -> Option<usize> {
    let before = library(env);
    let before_ids = ids(&before);
    let before = ZeroLoss::of(&before);
    let (recording, output) = Recording::of(&env.path("repo"), &env.command(line))?;
    assert!(output.status.success(), "{name}: {}", env.show(&output));
    let after = library(env);
    let dropped: Vec<SnapshotId> = before_ids.difference(&ids(&after)).copied().collect();
    let before = before.leaving(dropped);
    // What the command reported is there, whatever was not synchronised.
    let after = ZeroLoss::of(&after);
    let states = recording.states(tier::by_tier(2, 12, 40) as usize, 11);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let swap = Swap::new(&storage(&env.path("repo")));
                let opened = open(&swap.shared(), PASSWORD).unwrap();
                let opened = opened.into_indexed().unwrap();
                while let Some(state) = states.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let oracle = if recording.is_end(state) {
                        &after
                    } else {
                        &before
                    };
                    judge(state, name, (&swap, &opened), oracle, witness);
                }
            });
        }
    });
    let ends = states
        .iter()
        .filter(|state| recording.is_end(state))
        .count();
    assert!(
        ends > 0 && recording.calls() > 4,
        "{name}: {}",
        recording.calls()
    );
    Some(states.len())
}

fn judge(
    state: &State,
    name: &str,
    (swap, opened): (&Arc<Swap>, &IndexedRepository),
    oracle: &ZeroLoss,
    witness: &Witness,
) {
    let what = format!("{name}: cut after call {}, {}", state.after, state.last);
    let folder = folder();
    state.write(folder.path(), long_ago());
    let place = storage(folder.path());
    swap.set(&place);
    let opened = opened.reload().unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert_eq!(opened.damaged_indexes(), [], "{what}");
    witness.see(&*place, &what);
    let _report = oracle.judge(&opened, &what);
    oracle.judge_next(&opened, jiff::Timestamp::now(), &what);
}

#[test]
fn after_a_power_cut_at_any_moment_nothing_that_was_reported_is_lost() {
    let started = Instant::now();
    let env = CliEnv::with_repository();
    let witness = Witness::new(PASSWORD);
    let source = format!("files:{}", env.path("data").display());
    let backup = ["backup", "--host", "testhost", "--source", &source];
    let mut states = 0;
    for (turn, name) in [
        (0, "first backup"),
        (1, "second backup"),
        (2, "third backup"),
    ] {
        change(&env, turn);
        let Some(count) = cut_everywhere(&env, name, &backup, &witness) else {
            return;
        };
        states += count;
    }
    for (name, line) in [
        ("a backup of what did not change", &backup[..]),
        ("forget", &["forget", "--keep-last", "2", "--yes"]),
        ("prune", &["prune", "--max-unused", "0%", "--yes"]),
        (
            "forget and prune",
            &["forget", "--keep-last", "1", "--prune", "--yes"],
        ),
    ] {
        states += cut_everywhere(&env, name, line, &witness).unwrap();
    }
    for turn in 3..6 {
        change(&env, turn);
        let name = "a backup after the prune";
        states += cut_everywhere(&env, name, &backup, &witness).unwrap();
    }
    for index in fs::read_dir(env.path("repo/index")).unwrap() {
        fs::remove_file(index.unwrap().path()).unwrap();
    }
    states += repair_everywhere(&env);
    states += keys_everywhere(&env);
    states += init_everywhere();
    let seen = witness.count();
    let what = format!("{states} states, {seen} of them seen by restic");
    tier::report("C3 power cuts", &what, started);
    assert!(states >= 500, "{states}");
}

/// A repair of the index that is cut off is repeated, and nothing is lost.
fn repair_everywhere(env: &CliEnv) -> usize {
    let line = ["repair", "index", "--yes"];
    let (recording, output) = Recording::of(&env.path("repo"), &env.command(&line)).unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    let sound = ZeroLoss::of(&library(env));
    let states = recording.states(2, 12);
    for state in &states {
        let what = format!(
            "repair index: cut after call {}, {}",
            state.after, state.last
        );
        let folder = folder();
        state.write(folder.path(), long_ago());
        let repository = folder.path().display().to_string();
        let again = [&["-r", &repository][..], &line].concat();
        assert_eq!(env.code(&again), 0, "{what}");
        let opened = open(&storage(folder.path()), PASSWORD).unwrap();
        let opened = opened.into_indexed().unwrap();
        let _report = sound.judge(&opened, &what);
        sound.judge_next(&opened, jiff::Timestamp::now(), &what);
    }
    states.len()
}

/// After a change of the password one of both opens, and after its end the new one does.
fn keys_everywhere(env: &CliEnv) -> usize {
    env.write("second", "another secret\n");
    let line = ["key", "passwd", "--new-password-file", "second"];
    let (recording, output) = Recording::of(&env.path("repo"), &env.command(&line)).unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    let states = recording.states(2, 13);
    for state in &states {
        let what = format!("key passwd: cut after call {}, {}", state.after, state.last);
        let folder = folder();
        state.write(folder.path(), long_ago());
        let place = storage(folder.path());
        let new = open(&place, "another secret");
        assert!(!recording.is_end(state) || new.is_ok(), "{what}: {new:?}");
        let opened = new.or_else(|_| open(&place, PASSWORD));
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let opened = opened.into_indexed().unwrap();
        ZeroLoss::of(&opened).judge_next(&opened, jiff::Timestamp::now(), &what);
    }
    states.len()
}

/// An `init` that is cut off is repeated, or was done.
fn init_everywhere() -> usize {
    let env = CliEnv::new();
    fs::create_dir(env.path("repo")).unwrap();
    let recorded = Recording::of(&env.path("repo"), &env.command(&["init"]));
    let (recording, output) = recorded.unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    let mut states = recording.states(1, 14);
    // Of the many folders of packs a few moments are enough: opening costs its time by design.
    let ends = states.split_off(states.len().saturating_sub(40));
    let mut chosen: Vec<State> = states.into_iter().step_by(60).collect();
    chosen.extend(ends);
    for state in &chosen {
        let what = format!("init: cut after call {}, {}", state.after, state.last);
        let folder = folder();
        state.write(folder.path(), long_ago());
        let place = storage(folder.path());
        let opened = open(&place, PASSWORD);
        assert!(!recording.is_end(state) || opened.is_ok(), "{what}");
        let opened = opened.or_else(|_| {
            Repository::init(
                Arc::clone(&place),
                &Secret::new(PASSWORD),
                Default::default(),
            )
        });
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let opened = opened.into_indexed().unwrap();
        next_backup(&opened, jiff::Timestamp::now())
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    chosen.len()
}
