//! The memory that commands may have, by the kernel's own limit: what cannot be taken back counts, as in a container.
//!
//! Usually 100,000 files and 100,000 blobs. The large tiers, some minutes and 15 GB of disk each, of an optimised build:
//! `REFLOAT_MEMORY_FILES=1000000`, and `REFLOAT_SYNTHETIC_BLOBS=10000000` with `REFLOAT_SYNTHETIC_SNAPSHOTS=10000`.
//!
//! Invariant: a command that needs more than its limit is killed, and the test fails.

use std::fs;
use std::time::{Duration, Instant};

use refloat_testkit::memory_limit::MemoryLimit;
use refloat_testkit::synthetic;

use crate::cli_env::CliEnv;

const MIB: u64 = 1 << 20;
const FILES_USUAL: u64 = 100_000;
const FILES_PER_DIRECTORY: u64 = 250;
const BLOBS_USUAL: u64 = 100_000;
/// How long a file has to be left alone before it is taken for unchanged, and a second.
const SETTLED: Duration = Duration::from_secs(61);

/// A number from the environment.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Runs a command with so much memory, on two processors, since memory follows the number of threads; its document.
fn within(group: &MemoryLimit, mib: u64, env: &CliEnv, args: &[&str]) -> serde_json::Value {
    assert!(group.set(mib * MIB), "a limit of {mib} MiB");
    let pinned = env.pinned(&[&["--json"], args].concat());
    let output = group.around(&pinned).output().unwrap();
    assert!(
        output.status.success(),
        "{args:?} in {mib} MiB: {}",
        env.show(&output)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Half of the files compress.
fn content(number: u64) -> Vec<u8> {
    let length = 100 + number.wrapping_mul(2_654_435_761) % 8092;
    let shift = if number.is_multiple_of(2) { 32 } else { 61 };
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> shift) as u8
    };
    (0..length).map(|_| byte()).collect()
}

fn path(number: u64) -> String {
    format!("directory{:06}/file{number}", number / FILES_PER_DIRECTORY)
}

fn write_files(env: &CliEnv, files: u64) {
    for directory in 0..files.div_ceil(FILES_PER_DIRECTORY) {
        fs::create_dir_all(env.path(&format!("data/directory{directory:06}"))).unwrap();
    }
    for number in 0..files {
        fs::write(env.path("data").join(path(number)), content(number)).unwrap();
    }
}

#[test]
fn many_small_files_take_no_more_than_their_limit() {
    let files = setting("REFLOAT_MEMORY_FILES", FILES_USUAL);
    let mib = if files <= FILES_USUAL { 160 } else { 512 };
    let Some(group) = MemoryLimit::new("files") else {
        return;
    };
    let env = CliEnv::with_repository();
    write_files(&env, files);
    let source = format!("files:{}", env.path("data").display());
    let written = Instant::now();
    let backup = || {
        within(
            &group,
            mib,
            &env,
            &["backup", "--host", "h", "--source", &source],
        )
    };
    let unchanged_files =
        |report: &serde_json::Value| report["points"][0]["figures"]["files_unchanged"].as_u64();
    let first = backup();
    assert_eq!(unchanged_files(&first), Some(0), "{first:#}");
    // What was changed within a minute before it was read is read once more.
    std::thread::sleep(SETTLED.saturating_sub(written.elapsed()));
    let _again = backup();
    let unchanged = backup();
    assert_eq!(unchanged_files(&unchanged), Some(files), "{unchanged:#}");
    within(&group, mib, &env, &["check", "--read-data"]);
    within(&group, mib, &env, &["restore", "latest", "--target", "out"]);
    let restored = env
        .path("out/files/local")
        .join(env.path("data").strip_prefix("/").unwrap());
    for number in [0, files / 2, files / 2 + 1, files - 1] {
        assert!(
            fs::read(restored.join(path(number))).unwrap() == content(number),
            "{number}"
        );
    }
}

#[test]
fn an_index_of_many_blobs_takes_no_more_than_its_limit() {
    let blobs = setting("REFLOAT_SYNTHETIC_BLOBS", BLOBS_USUAL);
    let snapshots = setting("REFLOAT_SYNTHETIC_SNAPSHOTS", 200);
    let is_large = blobs > BLOBS_USUAL;
    let [backup, others] = if is_large { [512, 1024] } else { [96, 112] };
    let Some(group) = MemoryLimit::new("blobs") else {
        return;
    };
    let mut env = CliEnv::new();
    env.set_password(synthetic::PASSWORD);
    synthetic::make(&env.path("repo"), blobs, snapshots);
    env.write("data/file", "one");
    let source = format!("files:{}", env.path("data").display());
    within(
        &group,
        backup,
        &env,
        &["backup", "--host", "h", "--source", &source],
    );
    within(&group, others, &env, &["check"]);
    within(&group, others, &env, &["prune", "--dry-run"]);
    let packs = || {
        let folders = fs::read_dir(env.path("repo/data")).unwrap();
        let packs = folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count());
        packs.sum::<usize>()
    };
    assert!(packs() as u64 > blobs / synthetic::BLOBS_PER_PACK);
    within(&group, others, &env, &["prune", "--yes"]);
    // What the backup stored is in a few: each thread begins one.
    let left = packs();
    assert!(
        left < 12,
        "what nobody needs is gone, {left} packs are there"
    );
    assert_eq!(
        env.json(&["points"])["points"].as_array().unwrap().len() as u64,
        snapshots + 1
    );
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}
