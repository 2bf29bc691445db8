//! Threads that look ahead: they change nothing of what is told, open nothing that is left out,
//! hold little, and believe nothing old.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use refloat_localfs::walk::{Caches, Candidate, CandidateKind, LookAhead};
use refloat_localfs::{WalkError, WalkOptions, WalkSummary, walk_contents};
use refloat_model::cancel::Cancel;
use rustix::fs::inotify;

use crate::hook::Hook;
use crate::manifest::set_xattr;
use crate::nasty;
use crate::recorder::Recorder;

/// Reproducible numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Adds a few of everything, and subdirectories that get fewer with depth.
fn grow(folder: &Path, depth: u64, dice: &mut Dice) {
    for number in 0..dice.roll(12) {
        let path = folder.join(format!("{number}-{}", dice.roll(1000)));
        match dice.roll(8) {
            0 => symlink("somewhere", &path).unwrap(),
            1 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap(),
            2 => {
                fs::write(&path, b"tagged").unwrap();
                set_xattr(&path, "user.kind", b"one that has attributes");
            }
            _ => fs::write(&path, vec![0; usize::try_from(dice.roll(100)).unwrap()]).unwrap(),
        }
    }
    if dice.roll(12) == 0 {
        let tag = "Signature: 8a477f597d28d172789f06886806bc55";
        fs::write(folder.join("CACHEDIR.TAG"), tag).unwrap();
    }
    for number in 0..dice.roll(12).saturating_sub(2 * depth) {
        let below = folder.join(format!("d{number}"));
        fs::create_dir(&below).unwrap();
        set_xattr(&below, "user.number", number.to_string().as_bytes());
        grow(&below, depth + 1, dice);
    }
}

/// Wide, deep and large: more than every bound there is.
fn plant(root: &Path) {
    let mut dice = Dice(0x5eed);
    for number in 0..12 {
        let below = root.join(format!("random{number}"));
        fs::create_dir(&below).unwrap();
        grow(&below, 0, &mut dice);
    }
    let mut deep = root.join("deep");
    for level in 0..150 {
        fs::create_dir_all(deep.join("beside")).unwrap();
        fs::write(deep.join(format!("f{level}")), b"").unwrap();
        deep.push("d");
    }
    for (name, files) in [("large/below", 3000), ("medium", 700), ("piece", 256)] {
        let large = root.join(name);
        fs::create_dir_all(&large).unwrap();
        for number in 0..files {
            fs::write(large.join(number.to_string()), b"").unwrap();
        }
    }
    for number in 0..40 {
        let below = root.join(format!("wide/{number}/below"));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("f"), b"").unwrap();
    }
    fs::create_dir_all(root.join("closed/d")).unwrap();
    fs::create_dir_all(root.join("unsearchable/d")).unwrap();
    fs::write(root.join("unsearchable/f"), b"").unwrap();
    nasty::set_mode(&root.join("closed"), 0o300);
    nasty::set_mode(&root.join("unsearchable"), 0o600);
}

fn walk(root: &Path, options: &WalkOptions<'_>) -> (Recorder, WalkSummary) {
    let mut sink = Recorder::default();
    let summary = walk_contents(root, options, &mut sink, &Cancel::default()).unwrap();
    assert_eq!(sink.depth(), 0, "every directory is left again");
    (sink, summary)
}

#[test]
fn threads_change_nothing_of_what_is_told() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    // Reading a link renews its access time, once.
    drop(walk(folder.path(), &WalkOptions::default()));
    let exclude = |candidate: &Candidate<'_>| match candidate.kind {
        CandidateKind::Directory => candidate.path.ends_with(b"/d1"),
        CandidateKind::File { size } => size == 7 || candidate.path.ends_with(b"/33"),
        CandidateKind::Node => candidate.path.ends_with(b"5"),
    };
    for exclude in [None, Some(&exclude as &dyn Fn(&Candidate<'_>) -> bool)] {
        for caches in [Caches::Capture, Caches::TagOnly] {
            let options = |threads| WalkOptions {
                exclude,
                caches,
                look_ahead: LookAhead::Threads(threads),
                ..WalkOptions::default()
            };
            let (expected, summary) = walk(folder.path(), &options(0));
            assert!(summary.files > 4000 && summary.nodes > 20, "{summary:?}");
            assert_eq!(
                summary.excluded > 0,
                exclude.is_some() || caches == Caches::TagOnly
            );
            for threads in [1, 4, 4] {
                let (sink, found) = walk(folder.path(), &options(threads));
                assert_eq!(found, summary);
                assert_eq!(sink.order, expected.order);
                assert_eq!(sink.failures, expected.failures);
                assert!(sink.entries == expected.entries, "entries differ");
            }
        }
    }
    nasty::set_mode(&folder.path().join("closed"), 0o700);
    nasty::set_mode(&folder.path().join("unsearchable"), 0o700);
}

/// Gives the threads time to do what they should not.
fn walk_slowly(root: &Path, options: &WalkOptions<'_>) -> WalkSummary {
    let mut sink = Hook::new(|_| {
        std::thread::sleep(Duration::from_millis(3));
        Ok(())
    });
    walk_contents(root, options, &mut sink, &Cancel::default()).unwrap()
}

#[test]
fn what_is_left_out_is_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    for number in 0..30 {
        let below = folder.path().join(format!("{number}/out"));
        fs::create_dir_all(&below).unwrap();
        fs::write(folder.path().join(format!("{number}/f")), b"").unwrap();
        inotify::add_watch(&watch, &below, inotify::WatchFlags::OPEN).unwrap();
        let beside = folder.path().join(format!("out{number}"));
        fs::create_dir(&beside).unwrap();
        inotify::add_watch(&watch, &beside, inotify::WatchFlags::OPEN).unwrap();
    }
    let opened = || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        std::iter::from_fn(|| reader.next().ok().map(drop)).count()
    };
    let exclude = |candidate: &Candidate<'_>| {
        let name = candidate.path.rsplit(|b| *b == b'/').next().unwrap();
        name.starts_with(b"out")
    };
    for threads in [1, 2, 4] {
        let look_ahead = LookAhead::Threads(threads);
        let options = WalkOptions {
            exclude: Some(&exclude),
            look_ahead,
            ..WalkOptions::default()
        };
        let summary = walk_slowly(folder.path(), &options);
        assert_eq!((summary.excluded, summary.directories), (60, 30));
        assert_eq!(opened(), 0);
        let options = WalkOptions {
            look_ahead,
            ..WalkOptions::default()
        };
        let summary = walk_slowly(folder.path(), &options);
        assert_eq!(summary.directories, 90);
        assert_eq!(opened(), 60, "the watch sees what is opened");
    }
}

#[test]
fn few_directories_are_open_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/b/a", "a/b/b"] {
        for number in 0..20 {
            let below = folder.path().join(path).join(number.to_string());
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("f"), b"").unwrap();
        }
    }
    let root = fs::canonicalize(folder.path()).unwrap();
    let mut most = 0;
    let mut sink = Hook::new(|_| {
        // Other tests may run in this process.
        let open = fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
            let link = fs::read_link(entry.as_ref().unwrap().path());
            link.is_ok_and(|target| target.starts_with(&root))
        });
        most = most.max(open.count());
        Ok(())
    });
    let options = WalkOptions {
        look_ahead: LookAhead::Threads(4),
        ..WalkOptions::default()
    };
    walk_contents(folder.path(), &options, &mut sink, &Cancel::default()).unwrap();
    // Five levels, sixteen ahead, and as many as there are threads in the making.
    let bound = 5 + 16 + 4;
    assert!(most > 5 && most <= bound, "{most} are open");
}

#[test]
fn old_answers_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (large, next) = (folder.path().join("0"), folder.path().join("1"));
    for (directory, files) in [(&large, 2000), (&next, 10)] {
        fs::create_dir(directory).unwrap();
        for number in 0..files {
            let name = format!("{number} of {files}");
            fs::write(directory.join(name), b"").unwrap();
        }
    }
    let mut files = 0;
    let mut sink = Hook::new(|name| {
        files += 1;
        if files == 5 {
            // Everything ahead was looked at by the time that this returns.
            std::thread::sleep(Duration::from_millis(200));
            for path in files_of(&large).into_iter().chain(files_of(&next)) {
                if path.file_name().unwrap().as_encoded_bytes() != name {
                    fs::remove_file(path).unwrap();
                }
            }
            // Longer than answers are believed, and one look may have taken until then.
            std::thread::sleep(Duration::from_millis(600));
        }
        Ok(())
    });
    let options = WalkOptions {
        look_ahead: LookAhead::Threads(2),
        ..WalkOptions::default()
    };
    let summary = walk_contents(folder.path(), &options, &mut sink, &Cancel::default()).unwrap();
    assert_eq!((summary.files, summary.failed), (5, 0));
    let listed = summary.files + summary.vanished;
    // Whichever of the two came first was listed in full, the other when all was gone.
    assert!(listed == 2000 || listed == 10, "{summary:?}");
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn walk_ends_promptly_however_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    let options = WalkOptions {
        look_ahead: LookAhead::Threads(4),
        ..WalkOptions::default()
    };
    for stop_at in [1, 2, 10, 100, 1000, 2000] {
        let cancel = Cancel::default();
        let begin = Instant::now();
        let mut files = 0;
        let mut sink = Hook::new(|_| {
            files += 1;
            if files == stop_at {
                cancel.cancel();
            }
            Ok(())
        });
        let error = walk_contents(folder.path(), &options, &mut sink, &cancel).unwrap_err();
        assert!(matches!(error, WalkError::Cancelled(_)));
        assert_eq!(files, stop_at);
        let mut sink = Hook::new(|_| {
            files -= 1;
            if files == 0 {
                return Err("the sink is full".into());
            }
            Ok(())
        });
        let error =
            walk_contents(folder.path(), &options, &mut sink, &Cancel::default()).unwrap_err();
        assert_eq!(error.to_string(), "the sink is full");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut sink = Hook::new(|_| panic!("on purpose"));
            walk_contents(folder.path(), &options, &mut sink, &Cancel::default())
        }));
        assert!(panicked.is_err());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    nasty::set_mode(&folder.path().join("closed"), 0o700);
    nasty::set_mode(&folder.path().join("unsearchable"), 0o700);
}

/// Changes names to something else, or to nothing, until it is told to end.
fn mutate(root: &Path, ended: &AtomicBool) {
    let mut dice = Dice(0xbad);
    let outside = tempfile::tempdir().unwrap();
    while !ended.load(Ordering::Relaxed) {
        let path = root.join(format!("{}/live{}", dice.roll(20), dice.roll(10)));
        // Whatever it was, it is out of the way.
        let away = outside.path().join(dice.0.to_string());
        let _absent = fs::rename(&path, &away);
        let made = match dice.roll(4) {
            0 => fs::write(&path, b"live"),
            1 => fs::create_dir(&path).and_then(|()| fs::write(path.join("f"), b"")),
            2 => symlink("..", &path),
            _ => Ok(()),
        };
        made.unwrap();
    }
}

#[test]
fn live_folder_neither_hangs_the_walk_nor_hides_what_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut stays = BTreeSet::new();
    for number in 0..20 {
        fs::create_dir(folder.path().join(number.to_string())).unwrap();
        for file in 0..20 {
            let path = format!("{number}/stays{file}");
            fs::write(folder.path().join(&path), b"").unwrap();
            stays.insert(path);
        }
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| mutate(folder.path(), &ended));
        for round in 0..300 {
            let options = WalkOptions {
                look_ahead: LookAhead::Threads(1 + round % 4),
                ..WalkOptions::default()
            };
            let mut sink = Recorder::default();
            sink.may_repeat = true;
            let walked = walk_contents(folder.path(), &options, &mut sink, &Cancel::default());
            let summary = walked.unwrap_or_else(|error| {
                ended.store(true, Ordering::Relaxed);
                panic!("{error}")
            });
            let pushed = summary.files + summary.directories + summary.nodes;
            let found: BTreeSet<_> = sink.paths().into_iter().map(str::to_owned).collect();
            if sink.order.len() as u64 != pushed
                || sink.failures.len() as u64 != summary.failed
                || !stays.is_subset(&found)
            {
                ended.store(true, Ordering::Relaxed);
                panic!("round {round}: {summary:?} {:?}", sink.failures);
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
}
