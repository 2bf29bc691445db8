//! W2: real commands on one repository at the same time: writers, forget, prune, check, copy, of which some
//! are killed.
//!
//! Locks of killed commands are made as old as half an hour later, as W5 shows that time does. Whoever is
//! kept out by a lock says so with exit code 11 and tries again; nothing else may fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use refloat_model::secret::Secret;
use refloat_repository::format::lock::LockFile;
use refloat_repository::{IndexedRepository, Repository, SnapshotId};
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::random::Random;
use refloat_testkit::tier;
use refloat_testkit::zero_loss::{Witness, ZeroLoss, picture};
use sha2::{Digest as _, Sha256};

use crate::cli_env::CliEnv;

const PASSWORD: &str = "secret words";
/// How many of a writer's points `forget` keeps.
const KEPT: usize = 3;

/// What a writer was told: its points with what they hold, oldest first.
type Reported = Vec<(SnapshotId, BTreeMap<String, [u8; 32]>)>;

#[derive(Default)]
struct Tally {
    commands: BTreeMap<&'static str, u64>,
    /// Of them, those that ended with 0.
    done: BTreeMap<&'static str, u64>,
    kept_out: u64,
    killed: u64,
    /// By writer.
    reported: Vec<Reported>,
}

struct Stage {
    env: CliEnv,
    /// Opened once, to read locks.
    opened: Repository,
    end: Instant,
    tally: Mutex<Tally>,
}

fn open(folder: &Path) -> Repository {
    let storage: SharedStorage = Arc::new(LocalStorage::new(folder));
    Repository::open(storage, &Secret::new(PASSWORD)).unwrap()
}

impl Stage {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Runs a command, or kills it after so many milliseconds; its output if it was done.
    fn run(&self, name: &'static str, args: &[&str], lives: Option<u64>) -> Option<Output> {
        let mut command = self.env.command(args);
        command.env("REFLOAT_OTHER_PASSWORD", PASSWORD);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let process = child.id();
        if let Some(milliseconds) = lives {
            std::thread::sleep(Duration::from_millis(milliseconds));
            drop(child.kill());
        }
        let output = child.wait_with_output().unwrap();
        let mut tally = self.tally.lock().unwrap();
        *tally.commands.entry(name).or_default() += 1;
        match output.status.code() {
            Some(0) => {
                *tally.done.entry(name).or_default() += 1;
                return Some(output);
            }
            Some(11) => tally.kept_out += 1,
            None => {
                tally.killed += 1;
                drop(tally);
                self.age_locks_of(process);
            }
            Some(_) => {
                let shown = self.env.show(&output);
                // A plan that was made before somebody wrote is made again.
                assert!(shown.contains("hint: run it again"), "{args:?}: {shown}");
                tally.kept_out += 1;
            }
        }
        None
    }

    fn age_locks_of(&self, process: u32) {
        let old = SystemTime::now() - Duration::from_mins(40);
        for listed in self.opened.storage().list(FileKind::Lock).unwrap() {
            let Ok(lock) = self.opened.read_json::<LockFile>(&listed.key) else {
                continue;
            };
            let path = self.env.path("repo").join(listed.key.path());
            if lock.pid == i64::from(process)
                && let Ok(file) = fs::File::open(path)
            {
                file.set_modified(old).unwrap();
            }
        }
    }

    /// Changes its files and saves them, again and again.
    fn writer(&self, number: usize) {
        let mut random = Random::new(number as u64);
        let data = self.env.path(&format!("data-{number}"));
        fs::create_dir_all(&data).unwrap();
        let source = format!("files:{}", data.display());
        let host = format!("host-{number}");
        let line = ["backup", "--json", "--host", &host, "--source", &source];
        while self.goes_on() {
            let content = change(&data, &mut random);
            let lives = random.chance(150).then(|| 80 + random.below(500));
            if let Some(output) = self.run("backup", &line, lives) {
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                let id: SnapshotId = report["points"][0]["snapshot"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                self.tally.lock().unwrap().reported[number].push((id, content));
            }
            // Whoever deletes wants a moment without any writer.
            std::thread::sleep(Duration::from_millis(random.below(3_000)));
        }
    }

    /// Runs commands that delete, read or copy, in turn, with pauses.
    fn keeper(&self, pause: u64, lines: &[(&'static str, &[&str])], kills_per_mille: u64) {
        let mut random = Random::new(pause);
        let mut turn = 0;
        while self.goes_on() {
            let (name, args) = lines[turn % lines.len()];
            let lives = random
                .chance(kills_per_mille)
                .then(|| 80 + random.below(400));
            // Whoever was kept out or killed tries again.
            turn += usize::from(self.run(name, args, lives).is_some());
            std::thread::sleep(Duration::from_millis(random.below(pause)));
        }
    }
}

/// New content for some of the files; the hashes of all.
fn change(folder: &Path, random: &mut Random) -> BTreeMap<String, [u8; 32]> {
    for number in 0..8 {
        let path = folder.join(format!("file-{number}"));
        if !path.exists() || random.chance(400) {
            let length = 10_000 + random.index(60_000);
            fs::write(path, random.bytes(length)).unwrap();
        }
    }
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let hashed = entries.map(|path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, Sha256::digest(fs::read(path).unwrap()).into())
    });
    hashed.collect()
}

/// Whether a point holds these files.
fn holds(repository: &IndexedRepository, id: SnapshotId, files: &BTreeMap<String, [u8; 32]>) {
    let key = refloat_storage::FileKey::new(FileKind::Snapshot, id.0);
    let snapshot: refloat_repository::SnapshotFile = repository.read_json(&key).unwrap();
    let picture = picture(repository, snapshot.tree.unwrap()).unwrap();
    for (name, hash) in files {
        let end = format!("/{name}");
        let mut found = picture
            .iter()
            .filter(|(path, _)| path.ends_with(end.as_bytes()));
        assert!(found.any(|(_, (_, stored))| stored == hash), "{id}: {name}");
    }
}

/// Every point that was reported is whole, or had enough younger ones to be forgotten.
fn judge(repository: &IndexedRepository, reported: &Reported) -> usize {
    let listed = repository.snapshots().unwrap();
    assert_eq!(listed.unreadable.len(), 0);
    let mut there = 0;
    for (number, (id, files)) in reported.iter().enumerate() {
        let younger = reported.len() - number - 1;
        if listed.snapshots.iter().any(|(known, _)| known == id) {
            holds(repository, *id, files);
            there += 1;
        } else {
            assert!(
                younger >= KEPT,
                "{id}, with {younger} younger ones, is gone"
            );
        }
    }
    there
}

/// A place with a repository, and the path of another that copies go to.
fn two_repositories() -> (CliEnv, String) {
    let env = CliEnv::with_repository();
    let other = env.path("other").display().to_string();
    let mut init = env.command(&["init", "-r", &other, "--copy-chunker-params", "repo"]);
    let made = init
        .env("REFLOAT_OTHER_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", env.show(&made));
    (env, other)
}

#[test]
fn many_commands_at_once_of_which_some_are_killed_lose_nothing() {
    let started = Instant::now();
    let (env, other) = two_repositories();
    let writers = tier::by_tier(3, 8, 8) as usize;
    let seconds = tier::by_tier(45, 3_600, 24 * 3_600);
    let stage = Stage {
        opened: open(&env.path("repo")),
        env,
        end: Instant::now() + Duration::from_secs(seconds),
        tally: Mutex::new(Tally {
            reported: vec![Reported::new(); writers],
            ..Tally::default()
        }),
    };
    let copy = ["copy", "--to", &other];
    std::thread::scope(|scope| {
        for number in 0..writers {
            let stage = &stage;
            scope.spawn(move || stage.writer(number));
        }
        let prune: &[&str] = &["prune", "--max-unused", "0%", "--yes"];
        let forget: &[&str] = &["forget", "--keep-last", "3", "--yes"];
        scope.spawn(|| stage.keeper(900, &[("prune", prune), ("forget", forget)], 200));
        scope.spawn(|| stage.keeper(1_500, &[("copy", &copy), ("check", &["check"])], 100));
    });
    let tally = stage.tally.into_inner().unwrap();
    let repository = open(&stage.env.path("repo")).into_indexed().unwrap();
    let there: usize = tally
        .reported
        .iter()
        .map(|reported| judge(&repository, reported))
        .sum();
    let witness = Witness::new(PASSWORD);
    for place in [stage.env.path("repo"), stage.env.path("other")] {
        let opened = open(&place).into_indexed().unwrap();
        let sound = ZeroLoss::of(&opened);
        let _report = sound.judge(&opened, "at the end");
        witness.see(&**opened.storage(), "at the end");
    }
    // Nobody has to unlock or repair anything.
    for args in [&["prune", "--yes"][..], &["check", "--read-data"], &copy] {
        let mut command = stage.env.command(args);
        let output = command
            .env("REFLOAT_OTHER_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            stage.env.show(&output)
        );
    }
    let (commands, done) = (&tally.commands, &tally.done);
    let (kept_out, killed) = (tally.kept_out, tally.killed);
    let reported: usize = tally.reported.iter().map(Vec::len).sum();
    let what = format!(
        "{writers} writers, {commands:?}, of them done {done:?}, {kept_out} kept out, {killed} killed; {reported} points reported, \
         {there} of them still there"
    );
    tier::report("W2 concurrent commands", &what, started);
    assert!(reported > writers * KEPT, "{what}");
    let of = |name| done.get(name).copied().unwrap_or_default();
    assert!(
        of("prune") > 0 && of("forget") > 0 && of("copy") > 0,
        "{what}"
    );
    assert!(killed > 2 && there < reported, "{what}");
}
