//! Swaps of directories and links while we restore (T2) and walk (T3).
//!
//! A thread exchanges `d`, a real directory, with `l`, a symbolic link to the canary, as fast as
//! it can. `REFLOAT_TEST_TIER=N` makes it a million swaps instead of some thousands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use refloat_localfs::write::Resolution;
use refloat_localfs::{FolderWriter, Landing, WalkOptions, walk_contents};
use refloat_model::cancel::Cancel;
use refloat_model::entry::EntryKind;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::copier::write;
use crate::manifest::Canary;
use crate::recorder::Recorder;
use crate::writer::{file, metadata, path};

fn swaps_wanted() -> u64 {
    match std::env::var("REFLOAT_TEST_TIER").as_deref() {
        Ok("N" | "R") => 1_000_000,
        _ => 5_000,
    }
}

/// Rounds of our own work at least: an attacker alone proves nothing.
const ROUNDS_MIN: u64 = 200;

/// How long rounds go on until each outcome was seen. Beside other tests the attacker may win, or
/// lose, hundreds of rounds in a row.
const OUTCOMES_WAIT: Duration = Duration::from_secs(60);

struct Attack {
    a: PathBuf,
    b: PathBuf,
    swaps: AtomicU64,
    stop: AtomicBool,
}

impl Attack {
    fn new(a: PathBuf, b: PathBuf) -> Self {
        Self {
            a,
            b,
            swaps: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Swaps until told to stop, and now and then plants anew what the other side replaced: each
    /// time would be slower than the swapping.
    fn run(&self, replant: impl Fn()) {
        let mut turn = 0u64;
        while !self.stop.load(Ordering::Relaxed) {
            let swapped = renameat_with(CWD, &self.a, CWD, &self.b, RenameFlags::EXCHANGE);
            self.swaps
                .fetch_add(u64::from(swapped.is_ok()), Ordering::Relaxed);
            turn += 1;
            if swapped.is_err() || turn.is_multiple_of(16) {
                replant();
            }
        }
    }

    /// Does `round` while the attack runs, until there were enough swaps and rounds and the last
    /// round said that all outcomes were seen, for which it waits [`OUTCOMES_WAIT`] at most.
    fn against(&self, replant: impl Fn() + Sync, mut round: impl FnMut(u64) -> bool) -> u64 {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (mut rounds, mut seen) = (0, false);
        std::thread::scope(|scope| {
            // Also when a round panics: else the attack goes on for ever.
            let _stop = Stop(&self.stop);
            scope.spawn(|| self.run(&replant));
            let mut enough_since = None;
            loop {
                let swaps = self.swaps.load(Ordering::Relaxed);
                if rounds >= ROUNDS_MIN && swaps >= swaps_wanted() {
                    let since = *enough_since.get_or_insert_with(Instant::now);
                    if seen || since.elapsed() > OUTCOMES_WAIT {
                        break;
                    }
                }
                seen = round(rounds);
                rounds += 1;
            }
        });
        rounds
    }
}

/// Makes sure that of `d` and `l` one is a link to `outside`, the other a directory or free.
fn replant(d: &Path, l: &Path, outside: &Path) {
    let is_link = |at: &Path| at.is_symlink();
    if !is_link(d) && !is_link(l) && symlink(outside, l).is_err() {
        // Both are directories now: take one away.
        let _full = fs::remove_dir_all(l);
    }
    if is_link(d) && is_link(l) {
        let _gone = fs::remove_file(l);
    }
    if fs::symlink_metadata(l).is_err() {
        let _taken = fs::create_dir(l);
    }
    if fs::symlink_metadata(d).is_err() {
        let _taken = fs::create_dir(d);
    }
    for directory in [d, l] {
        if !is_link(directory) {
            let _taken = fs::create_dir(directory.join("sub"));
        }
    }
}

#[test]
fn restoring_never_follows_a_swapped_link() {
    for resolution in [Resolution::Kernel, Resolution::PerName] {
        let start = Instant::now();
        let base = tempfile::tempdir().unwrap();
        let target = base.path().join("target");
        fs::create_dir_all(target.join("d")).unwrap();
        let mut canary = Canary::plant(&base.path().join("canary"));
        symlink(&canary.directory, target.join("l")).unwrap();
        canary.remember();
        let attack = Attack::new(target.join("d"), target.join("l"));
        let planting = || replant(&target.join("d"), &target.join("l"), &canary.directory);
        let mut done = [0u64; 6];
        let rounds = attack.against(planting, |round| {
            // A new writer each time: an old one has its directories open.
            let writer = FolderWriter::open_with(&target, resolution).unwrap();
            for (count, worked) in done.iter_mut().zip(restore(&writer, round)) {
                *count += u64::from(worked);
            }
            done.iter().all(|count| *count > 0)
        });
        let swaps = attack.swaps.load(Ordering::Relaxed);
        let took = start.elapsed();
        println!("T2 {resolution:?}: {swaps} swaps, {rounds} rounds, worked {done:?}, {took:?}");
        assert!(swaps >= swaps_wanted());
        assert!(
            done.iter().all(|count| *count > 0),
            "each call must work at times: {done:?}"
        );
        canary.assert_untouched();
    }
}

/// All that a restore does, without caring what works: much must not.
fn restore(writer: &FolderWriter, round: u64) -> [bool; 6] {
    // Mostly without replacing the link, so that it stays a trap.
    let directory = round.is_multiple_of(16) && writer.create_directory(&path("d")).is_ok();
    let landing = [Landing::Atomic, Landing::InPlace][usize::from(round.is_multiple_of(2))];
    let entry = file(0o4777);
    // Two names deep, with the trap in the middle: 'sub/file' exists outside, too.
    if round % 4 == 1 {
        let _trapped = write(writer, &path("d/sub/file"), &entry, b"overwritten", landing);
        let _trapped = writer.remove(&path("d/sub/file"), &Cancel::default());
        let _trapped = writer.set_directory_metadata(&path("d/sub"), &metadata(0o777));
    }
    let made = write(writer, &path("d/shadow"), &entry, b"overwritten", landing);
    let linked = made.as_ref().is_ok_and(|made| {
        writer
            .hard_link(*made, &path("d/shadow"), &path("d/hard"))
            .is_ok()
    });
    let node = writer.create_node(&path("d/link"), &EntryKind::Fifo, &metadata(0o666));
    let removed = writer.remove(&path("d/sub"), &Cancel::default());
    let set = writer.set_directory_metadata(&path("d"), &metadata(0o777));
    [
        directory || !round.is_multiple_of(16),
        made.is_ok(),
        linked,
        node.is_ok(),
        removed.is_ok(),
        set.is_ok(),
    ]
}

/// The swapped directory is one of several in the tree that is removed: so there is time between
/// its listing as a directory and its opening.
#[test]
fn removing_never_follows_a_swapped_link() {
    let base = tempfile::tempdir().unwrap();
    let target = base.path().join("target");
    let (swapped, link) = (target.join("t/d5"), target.join("l"));
    fs::create_dir_all(&swapped).unwrap();
    let mut canary = Canary::plant(&base.path().join("canary"));
    symlink(&canary.directory, &link).unwrap();
    canary.remember();
    let attack = Attack::new(swapped.clone(), link.clone());
    let planting = || replant(&swapped, &link, &canary.directory);
    let (mut whole, mut refused) = (0, 0);
    let writer = FolderWriter::open(&target).unwrap();
    let rounds = attack.against(planting, |_| {
        for number in 0..10 {
            // The attacker may be quicker, or have a link there.
            let _raced = fs::create_dir_all(target.join(format!("t/d{number}/sub")));
        }
        match writer.remove(&path("t"), &Cancel::default()) {
            Ok(_) => whole += 1,
            Err(_) => refused += 1,
        }
        canary.assert_untouched();
        whole > 0 && refused > 0
    });
    let swaps = attack.swaps.load(Ordering::Relaxed);
    println!("T2 remove: {swaps} swaps, {rounds} rounds, {whole} whole, {refused} refused");
    assert!(whole > 0 && refused > 0);
}

#[test]
fn walking_never_reads_through_a_swapped_link() {
    let start = Instant::now();
    let base = tempfile::tempdir().unwrap();
    let (root, outside) = (base.path().join("root"), base.path().join("outside"));
    for folder in [&root.join("d/deep"), &outside.join("deep")] {
        fs::create_dir_all(folder).unwrap();
    }
    for (folder, text) in [(root.join("d"), "inside"), (outside.clone(), "CANARY")] {
        for name in ["a", "b", "deep/c", text] {
            fs::write(folder.join(name), text).unwrap();
            crate::manifest::set_xattr(&folder.join(name), "user.where", text.as_bytes());
        }
    }
    symlink(&outside, root.join("l")).unwrap();
    let attack = Attack::new(root.join("d"), root.join("l"));
    let (mut files, mut links) = (0, 0);
    let options = WalkOptions::default();
    let rounds = attack.against(
        || {},
        |_| {
            let mut sink = Recorder::new();
            sink.may_repeat = true;
            walk_contents(&root, &options, &mut sink, &Cancel::default()).unwrap();
            assert_eq!(sink.depth(), 0);
            for (path, entry) in &sink.entries {
                assert!(!path.contains("CANARY"), "{path} is outside");
                assert!(
                    entry
                        .metadata
                        .xattrs
                        .iter()
                        .all(|xattr| xattr.value != b"CANARY")
                );
                links += u64::from(matches!(entry.kind, EntryKind::Symlink { .. }));
            }
            for (path, content) in &sink.contents {
                assert_eq!(content, b"inside", "{path}");
                files += 1;
            }
            files > 0 && links > 0
        },
    );
    let swaps = attack.swaps.load(Ordering::Relaxed);
    println!(
        "T3: {swaps} swaps, {rounds} walks, {files} files, {links} links, {:?}",
        start.elapsed()
    );
    assert!(swaps >= swaps_wanted());
    assert!(files > 0 && links > 0);
}

#[test]
fn content_is_never_read_through_a_swapped_file() {
    let base = tempfile::tempdir().unwrap();
    let (root, outside) = (base.path().join("root"), base.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::write(&outside, "CANARY").unwrap();
    fs::write(root.join("f"), "inside").unwrap();
    symlink(&outside, root.join("l")).unwrap();
    let attack = Attack::new(root.join("f"), root.join("l"));
    let (mut read, mut refused) = (0, 0);
    let options = WalkOptions::default();
    let rounds = attack.against(
        || {},
        |_| {
            let mut sink = Recorder::new();
            sink.may_repeat = true;
            walk_contents(&root, &options, &mut sink, &Cancel::default()).unwrap();
            refused += sink.failures.len();
            for content in sink.contents.values() {
                assert_eq!(content, b"inside");
                read += 1;
            }
            read > 0
        },
    );
    let swaps = attack.swaps.load(Ordering::Relaxed);
    println!("T3 files: {swaps} swaps, {rounds} walks, {read} read, {refused} refused");
    assert!(read > 0);
}
