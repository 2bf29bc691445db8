//! C2, C4 and C5: the real command is killed, asked to stop at a random moment, or runs out of memory.

mod memory;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::secret::Secret;
use refloat_repository::{IndexedRepository, Repository};
use refloat_storage::SharedStorage;
use refloat_storage::local::LocalStorage;
use refloat_testkit::manifest::Manifest;
use refloat_testkit::random::Random;
use refloat_testkit::tier;
use refloat_testkit::zero_loss::{ZeroLoss, next_prune};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli_env::CliEnv;

fn library(env: &CliEnv) -> IndexedRepository {
    let storage: SharedStorage = Arc::new(LocalStorage::new(env.path("repo")));
    let opened = Repository::open(storage, &Secret::new("secret words"));
    opened.unwrap().into_indexed().unwrap()
}

/// A place with some points of a few megabytes.
fn filled() -> CliEnv {
    let env = CliEnv::with_data();
    for turn in 0..3_u64 {
        change(&env, turn);
        env.back_up();
    }
    env
}

/// Other content in some of the files.
fn change(env: &CliEnv, turn: u64) {
    let mut random = Random::new(turn);
    for number in 0..12 {
        if turn == 0 || random.chance(500) {
            let path = env.path("data").join(format!("file-{number}"));
            fs::write(path, random.bytes(400_000)).unwrap();
        }
    }
}

/// What the command of this moment says of itself.
const SAID: &str = "stderr";

/// Starts a command and lets it live for a while.
fn start(env: &CliEnv, args: &[&str], lives: Duration) -> Child {
    let mut command = env.command(args);
    let said = fs::File::create(env.path(SAID)).unwrap();
    command.stdout(Stdio::null()).stderr(said);
    let child = command.spawn().unwrap();
    std::thread::sleep(lives);
    child
}

fn commands(env: &CliEnv) -> [Vec<String>; 3] {
    let source = format!("files:{}", env.path("data").display());
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["backup", "--host", "testhost", "--source", &source]),
        words(&["forget", "--keep-last", "2", "--prune", "--yes"]),
        words(&["prune", "--max-unused", "0%", "--yes"]),
    ]
}

/// Makes locks that were left as old as a dead run's.
fn age_locks(env: &CliEnv) {
    let old = std::time::SystemTime::now() - Duration::from_mins(40);
    for lock in fs::read_dir(env.path("repo/locks")).unwrap() {
        let lock = fs::File::open(lock.unwrap().path()).unwrap();
        lock.set_modified(old).unwrap();
    }
}

/// What must be whole after a command that may forget all but the last two points.
fn points_before(env: &CliEnv) -> ZeroLoss {
    let repository = library(env);
    let listed = repository.snapshots().unwrap().snapshots;
    let older = listed.len().saturating_sub(2);
    let leaving = listed.iter().take(older).map(|(id, _)| *id);
    ZeroLoss::of(&repository).leaving(leaving)
}

/// After the end of a command nothing is lost, and the next ones work without anybody unlocking
/// anything.
fn judge_and_go_on(env: &CliEnv, before: &ZeroLoss, what: &str) {
    let _report = before.judge(&library(env), what);
    age_locks(env);
    let forget = ["forget", "--keep-last", "2", "--yes"];
    assert_eq!(env.code(&forget), 0, "{what}");
    env.back_up();
    assert_eq!(env.code(&["prune", "--yes"]), 0, "{what}");
    assert_eq!(env.code(&["check"]), 0, "{what}");
}

#[test]
fn a_command_that_is_killed_loses_nothing_and_the_next_one_works() {
    let started = Instant::now();
    let env = filled();
    let kills = tier::by_tier(24, 1_000, 10_000);
    let (mut died, mut random) = (0, Random::new(7));
    for turn in 0..kills {
        change(&env, 100 + turn);
        let before = points_before(&env);
        let line = &commands(&env)[(turn % 3) as usize];
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let mut child = start(&env, &line, Duration::from_millis(20 + random.below(180)));
        let _gone = child.kill();
        if child.wait().unwrap().signal() == Some(9) {
            died += 1;
        }
        let what = format!("kill {turn}, {line:?}");
        judge_and_go_on(&env, &before, &what);
    }
    next_prune(&library(&env), jiff_now(), None).unwrap();
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    let stored = format!("latest:/files/local{}", env.path("data").display());
    env.succeed(&["restore", &stored, "--target", "out"]);
    Manifest::of(&env.path("data")).assert_same(&Manifest::of(&env.path("out")), &[]);
    tier::report(
        "C2 kills",
        &format!("{kills} runs, {died} of them died"),
        started,
    );
    assert!(died * 3 >= kills, "{died} of {kills}");
}

fn jiff_now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

#[test]
fn a_command_that_is_asked_to_stop_stops_soon_and_leaves_no_lock() {
    let started = Instant::now();
    let env = filled();
    let signals = tier::by_tier(24, 200, 1_000);
    let (mut stopped, mut random) = (0, Random::new(8));
    for turn in 0..signals {
        change(&env, 500 + turn);
        let line = &commands(&env)[(turn % 3) as usize];
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let mut child = start(&env, &line, Duration::from_millis(90 + random.below(250)));
        let (signal, code) = [(Signal::INT, 130), (Signal::TERM, 143)][(turn % 2) as usize];
        // It may have ended by itself.
        let _ended = kill_process(Pid::from_child(&child), signal);
        let asked = Instant::now();
        let status = child.wait().unwrap();
        let said = fs::read_to_string(env.path(SAID)).unwrap();
        let what = format!("signal {turn}, {line:?}: {status:?}: {said}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{what}");
        match status.code() {
            Some(0) => {}
            Some(found) => {
                assert_eq!(found, code, "{what}");
                stopped += 1;
            }
            // Before the program listens, the system ends it.
            None => assert_eq!(status.signal(), Some(signal.as_raw()), "{what}"),
        }
        let locks = fs::read_dir(env.path("repo/locks")).unwrap().count();
        assert_eq!(locks, 0, "{what}");
        if turn % 8 == 7 {
            assert_eq!(env.code(&["check", "--read-data"]), 0, "{what}");
        }
    }
    env.back_up();
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    tier::report(
        "C4 signals",
        &format!("{signals} runs, {stopped} stopped early"),
        started,
    );
}
