//! How much memory the program takes, allocator included: two large files, on two processors.
//!
//! Invariant: peaks are queues and buffers. (That what is dropped goes back to the system, the allocator's own test
//! shows; here it would be 20 MiB in one run and nothing in the next.)

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::process::Child;
use std::time::Duration;

use crate::cli_env::CliEnv;

/// In each of the files.
const BYTES: usize = 400 << 20;

/// The most anonymous memory that a process had while it was looked at, in MiB; it must succeed.
///
/// How much of the program's own file is in memory besides, which in a build for tests is a quarter of all, depends
/// on what else ran.
fn peak_mib(mut child: Child) -> u64 {
    let mut peak_kib = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        // A process that has ended has none.
        let held = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = held.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{ended}");
            assert!(peak_kib > 0, "its memory was never seen");
            return peak_kib >> 10;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// On two processors: memory follows the number of threads.
fn peak_of(env: &CliEnv, args: &[&str]) -> u64 {
    peak_mib(env.pinned(args).spawn().unwrap())
}

fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Random bytes, and lines that compress, in chunks of all lengths.
fn write_files(env: &CliEnv) {
    fs::create_dir(env.path("data")).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut random = BufWriter::new(File::create(env.path("data/random")).unwrap());
    for _ in 0..BYTES / 8 {
        random.write_all(&noise(&mut state).to_le_bytes()).unwrap();
    }
    let mut lines = BufWriter::new(File::create(env.path("data/lines")).unwrap());
    for number in 0..BYTES / 64 {
        let (one, other) = (noise(&mut state), noise(&mut state) % 1000);
        writeln!(
            lines,
            "{number:012} request {one:016x} took {other:03} ms of the time"
        )
        .unwrap();
    }
    random.flush().unwrap();
    lines.flush().unwrap();
}

#[test]
fn peaks_follow_queues_and_not_the_size_of_files() {
    let env = CliEnv::with_repository();
    write_files(&env);
    let source = format!("files:{}", env.path("data").display());
    let quiet = |args: &[&str]| peak_of(&env, &[&["--quiet"], args].concat());
    let backup = quiet(&["backup", "--source", &source]);
    let check = quiet(&["check", "--read-data"]);
    let restore = quiet(&["restore", "latest", "--target", "out"]);
    println!("peaks in MiB: backup {backup}, check {check}, restore {restore}");
    assert!(backup <= 112, "{backup} MiB");
    // Each of two threads: a run of a pack of up to 8.5 MiB, and the plaintexts of two chunks of up to 8.
    assert!(check <= 50, "{check} MiB");
    assert!(restore <= 48, "{restore} MiB");
}
