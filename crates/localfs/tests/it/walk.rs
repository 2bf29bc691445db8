//! Walking: what is told of each entry, what is left out, what fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use refloat_localfs::walk::{Caches, Candidate, CandidateKind, Mounts};
use refloat_localfs::{WalkError, WalkOptions, WalkSummary, walk_contents, walk_entry};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{EntryKind, Opened, Reader};

use crate::hook::Hook;
use crate::manifest::{self, is_root, set_xattr};
use crate::nasty;
use crate::queue::Queue;
use crate::recorder::Recorder;
use crate::writer::Mounted;

fn walk(folder: &Path, options: &WalkOptions<'_>) -> (Recorder, WalkSummary) {
    let mut sink = Recorder::new();
    let summary = walk_contents(folder, options, &mut sink, &Cancel::default()).unwrap();
    assert_eq!(sink.depth(), 0, "every directory is left again");
    (sink, summary)
}

#[test]
fn walks_a_hundred_thousand_files_quickly() {
    let folder = tempfile::tempdir().unwrap();
    for d in 0..100 {
        let directory = folder.path().join(format!("d{d}"));
        fs::create_dir(&directory).unwrap();
        for f in 0..1000 {
            fs::write(directory.join(format!("f{f}")), b"").unwrap();
        }
    }
    let mut files = 0;
    let mut sink = Hook::new(|_| {
        files += 1;
        Ok(())
    });
    let (start, cpu) = (Instant::now(), cpu_time());
    let options = WalkOptions::default();
    let summary = walk_contents(folder.path(), &options, &mut sink, &Cancel::default()).unwrap();
    let elapsed = start.elapsed();
    println!(
        "100,000 files walked in {elapsed:?}, of which CPU {:?}",
        cpu_time() - cpu
    );
    assert_eq!(
        (summary.files, summary.directories, summary.failed),
        (100_000, 100, 0)
    );
    assert_eq!(files, 100_000);
    // Generous: shared machines are slow at times. The aim is well under one second.
    assert!(elapsed.as_secs() < 10, "{elapsed:?}");
}

/// Of all threads, those that look ahead among them: what a walk costs, however busy the machine is.
fn cpu_time() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::try_from(now).unwrap()
}

#[test]
fn nasty_tree_is_told_in_full() {
    let folder = tempfile::tempdir().unwrap();
    nasty::plant(folder.path());
    let expected = manifest::of(folder.path());
    let (sink, summary) = walk(folder.path(), &WalkOptions::default());
    assert_eq!(sink.failures, Vec::<String>::new());
    assert_eq!(sink.entries.len(), expected.len() - 1, "all but the root");
    assert_eq!(
        (summary.failed, summary.vanished, summary.findings.count()),
        (0, 0, 0)
    );
    let total = summary.files + summary.directories + summary.nodes;
    assert_eq!(total, sink.entries.len() as u64);
    for (path, entry) in &sink.entries {
        let line = &expected[&format!("./{path}")];
        let metadata = &entry.metadata;
        assert_eq!(metadata.mode, line.mode, "{path}");
        assert_eq!((metadata.uid, metadata.gid), line.owner, "{path}");
        let modified = (
            metadata.modified.seconds,
            i64::from(metadata.modified.nanoseconds),
        );
        assert_eq!(modified, line.modified, "{path}");
        let xattrs = metadata
            .xattrs
            .iter()
            .map(|x| (x.name.clone(), x.value.clone()));
        assert_eq!(xattrs.collect::<BTreeMap<_, _>>(), line.xattrs, "{path}");
        match &entry.kind {
            EntryKind::File { size } => {
                assert_eq!(line.kind, format!("file of {size} bytes"), "{path}");
                assert!(sink.contents[path] == line.content, "{path}");
                assert_eq!(metadata.links, line.links, "{path}");
            }
            EntryKind::Symlink { target } => assert_eq!(target, &line.content, "{path}"),
            EntryKind::Directory => assert_eq!(line.kind, "directory", "{path}"),
            EntryKind::Fifo => assert_eq!(line.kind, "fifo", "{path}"),
            EntryKind::Socket => assert_eq!(line.kind, "socket", "{path}"),
            EntryKind::BlockDevice { device } => {
                assert_eq!(line.kind, format!("device true {device:x}"), "{path}");
            }
            EntryKind::CharacterDevice { device } => {
                assert_eq!(line.kind, format!("device false {device:x}"), "{path}");
            }
        }
    }
    let name = rustix::process::geteuid().is_root().then_some("root");
    if let Some(name) = name {
        assert_eq!(&*sink.entry("large").metadata.user, name);
        assert_eq!(
            &*sink.entry("plain").metadata.user,
            "",
            "nobody is called 1234"
        );
    }
}

#[test]
fn access_times_are_told_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, file) = (folder.path().join("d"), folder.path().join("d/f"));
    fs::create_dir(&directory).unwrap();
    fs::write(&file, b"x").unwrap();
    // Older than the modification: reading would renew them under relatime, too.
    nasty::set_times(&file, 1_000, 1);
    nasty::set_times(&directory, 2_000, 2);
    let (sink, _) = walk(folder.path(), &WalkOptions::default());
    assert_eq!(sink.contents["d/f"], b"x");
    let times = |path: &Path| {
        let stat = fs::metadata(path).unwrap();
        (stat.atime(), stat.atime_nsec())
    };
    assert_eq!((times(&file), times(&directory)), ((1_000, 1), (2_000, 2)));
    let accessed = sink.entry("d/f").metadata.accessed;
    assert_eq!((accessed.seconds, accessed.nanoseconds), (1_000, 1));
}

#[test]
fn excluded_entries_are_asked_about_once_and_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/hidden"), b"").unwrap();
    fs::write(folder.path().join("a/b/file"), b"123").unwrap();
    symlink("x", folder.path().join("a/link")).unwrap();
    let asked = RefCell::new(Vec::new());
    let exclude = |candidate: &Candidate<'_>| {
        let path = String::from_utf8(candidate.path.to_vec()).unwrap();
        asked.borrow_mut().push((path.clone(), candidate.kind));
        path == "out" || path == "a/link" || path == "a/b/file"
    };
    let options = WalkOptions {
        exclude: Some(&exclude),
        ..WalkOptions::default()
    };
    let (sink, summary) = walk(folder.path(), &options);
    assert_eq!(sink.paths(), ["a", "a/b", "a/b/c"]);
    assert_eq!(summary.excluded, 3);
    let mut asked = asked.into_inner();
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    let directory = CandidateKind::Directory;
    let expected = [
        ("a", directory),
        ("a/b", directory),
        ("a/b/c", directory),
        ("a/b/file", CandidateKind::File { size: 3 }),
        ("a/link", CandidateKind::Node),
        ("out", directory),
    ];
    assert_eq!(asked, expected.map(|(path, kind)| (path.to_owned(), kind)));
}

#[test]
fn caches_are_reduced_to_their_tag() {
    let folder = tempfile::tempdir().unwrap();
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n# by this test";
    for (name, tag) in [("cache", signature), ("fake", "Signature: none")] {
        fs::create_dir_all(folder.path().join(name).join("sub")).unwrap();
        fs::write(folder.path().join(name).join("CACHEDIR.TAG"), tag).unwrap();
        fs::write(folder.path().join(name).join("data"), "x").unwrap();
    }
    // A tag that is a link could lead anywhere.
    fs::create_dir(folder.path().join("linked")).unwrap();
    symlink(
        "../cache/CACHEDIR.TAG",
        folder.path().join("linked/CACHEDIR.TAG"),
    )
    .unwrap();
    let options = WalkOptions {
        caches: Caches::TagOnly,
        ..WalkOptions::default()
    };
    let (sink, summary) = walk(folder.path(), &options);
    let expected = [
        "cache",
        "cache/CACHEDIR.TAG",
        "fake",
        "fake/CACHEDIR.TAG",
        "fake/data",
        "fake/sub",
        "linked",
        "linked/CACHEDIR.TAG",
    ];
    assert_eq!(sink.paths(), expected);
    assert_eq!(summary.excluded, 2);
    let (sink, _) = walk(folder.path(), &WalkOptions::default());
    assert_eq!(sink.paths().len(), 10);
}

#[test]
fn other_file_systems_are_empty_directories_if_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).unwrap();
    fs::write(folder.path().join("f"), b"").unwrap();
    let Some(_mounted) = Mounted::tmpfs(&mount, "1m") else {
        return;
    };
    fs::write(mount.join("inside"), b"").unwrap();
    let options = WalkOptions {
        mounts: Mounts::Skip,
        ..WalkOptions::default()
    };
    let (sink, summary) = walk(folder.path(), &options);
    assert_eq!(sink.paths(), ["f", "mount"]);
    assert_eq!((summary.mounts_skipped, summary.directories), (1, 1));
    let (sink, summary) = walk(folder.path(), &WalkOptions::default());
    assert_eq!(sink.paths(), ["f", "mount", "mount/inside"]);
    assert_eq!(summary.mounts_skipped, 0);
}

#[test]
fn content_is_the_listed_inode_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let names = [
        "same",
        "grown",
        "cut",
        "gone",
        "link",
        "pipe",
        "other",
        "directory",
    ];
    for name in names {
        fs::write(at(name), b"listed content").unwrap();
    }
    let mut queue = Queue::new();
    walk_contents(
        folder.path(),
        &WalkOptions::default(),
        &mut queue,
        &Cancel::default(),
    )
    .unwrap();
    fs::write(at("grown"), vec![7; 300_000]).unwrap();
    fs::write(at("cut"), b"").unwrap();
    for name in ["gone", "link", "pipe", "directory"] {
        fs::remove_file(at(name)).unwrap();
    }
    symlink("same", at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("new"), b"other content").unwrap();
    fs::rename(at("new"), at("other")).unwrap();

    assert_eq!(queue.open("same").unwrap(), b"listed content");
    assert_eq!(queue.open("grown").unwrap(), vec![7; 300_000]);
    assert_eq!(queue.open("cut").unwrap(), b"");
    let replaced = "it was replaced by something else after it was listed";
    for name in ["link", "pipe", "other", "directory"] {
        assert_eq!(
            queue.open(name).unwrap_err().to_string(),
            replaced,
            "{name}"
        );
    }
    assert_eq!(
        queue.open("gone").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn what_has_become_of_a_file_since_it_was_listed_is_told_to_who_can_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["same", "gone", "link", "other"] {
        fs::write(at(name), b"listed content").unwrap();
    }
    let (options, mut queue) = (WalkOptions::default(), Queue::new());
    walk_contents(folder.path(), &options, &mut queue, &Cancel::default()).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("same", at("link")).unwrap();
    fs::write(at("new"), b"its own").unwrap();
    fs::set_permissions(at("new"), fs::Permissions::from_mode(0o604)).unwrap();
    set_xattr(&at("new"), "user.own", b"yes");
    fs::rename(at("new"), at("other")).unwrap();

    let read = |mut reader: Box<dyn Reader + Send>| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    };
    match queue.open_now("same").unwrap() {
        Opened::Listed(reader) => assert_eq!(read(reader), b"listed content"),
        _ => panic!("it is the same"),
    }
    assert!(matches!(queue.open_now("gone").unwrap(), Opened::Gone));
    assert!(queue.open_now("link").is_err(), "it is no file");
    let (entry, content) = match queue.open_now("other").unwrap() {
        Opened::Replaced(entry, reader) => (entry, read(reader)),
        _ => panic!("it is another one"),
    };
    assert_eq!(content, b"its own");
    let now = fs::metadata(at("other")).unwrap();
    let metadata = &entry.metadata;
    assert_eq!(
        (entry.name.as_slice(), &entry.kind),
        (&b"other"[..], &EntryKind::File { size: 7 })
    );
    assert_eq!((metadata.mode, metadata.inode), (0o604, now.ino()));
    assert_eq!(metadata.modified.seconds, now.mtime());
    assert_eq!(metadata.xattrs.len(), 1);
    assert_eq!(metadata.xattrs[0].name, b"user.own");
    let user = WalkOptions::default().owners.user(metadata.uid);
    assert_eq!(metadata.user, user);
}

/// Whether holes can be told from data there: not everywhere, and ZFS is not asked.
fn tells_holes(folder: &Path) -> bool {
    const ZFS: rustix::fs::FsWord = 0x2fc1_2fc1;
    let hole = fs::File::create(folder.join("probe")).unwrap();
    hole.set_len(1 << 20).unwrap();
    let system = rustix::fs::fstatfs(&hole).unwrap().f_type;
    let data = rustix::fs::seek(&hole, rustix::fs::SeekFrom::Data(0));
    system != ZFS && data == Err(rustix::io::Errno::NXIO)
}

#[test]
fn holes_are_zeros_wherever_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let block = 1 << 16;
    for (name, written) in [
        ("all hole", &[][..]),
        ("at start", &[3, 4]),
        ("at end", &[0, 1]),
        ("between", &[0, 2, 5]),
        ("none", &[0, 1, 2, 3, 4, 5]),
    ] {
        let mut expected = vec![0; 6 * block];
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_len(expected.len() as u64).unwrap();
        for place in written {
            let start = place * block;
            expected[start..start + block].fill(9);
            file.write_all_at(&vec![9; block], start as u64).unwrap();
        }
        let walked = || {
            let (mut queue, options) = (Queue::new(), WalkOptions::default());
            walk_contents(folder.path(), &options, &mut queue, &Cancel::default()).unwrap();
            queue
        };
        assert!(walked().open(name).unwrap() == expected, "{name}");
        let holes = expected.len() - written.len() * block;
        for max in [u64::MAX, 5000] {
            let (bytes, passed) = walked().open_passing_holes(name, max).unwrap();
            assert!(bytes == expected, "{name}, {max}");
            let expected = if tells_holes(folder.path()) { holes } else { 0 };
            assert_eq!(passed, expected as u64, "{name}, {max}");
        }
    }
}

#[test]
fn what_may_not_be_read_fails_by_name() {
    if is_root() {
        println!("skipped as root, who may read all; as_user runs it as uid 1000");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for directory in ["closed", "unsearchable"] {
        fs::create_dir(folder.path().join(directory)).unwrap();
        fs::write(folder.path().join(directory).join("f"), b"").unwrap();
    }
    fs::write(folder.path().join("secret"), b"").unwrap();
    nasty::set_mode(&folder.path().join("closed"), 0o300);
    nasty::set_mode(&folder.path().join("unsearchable"), 0o600);
    nasty::set_mode(&folder.path().join("secret"), 0o200);
    let (mut sink, summary) = walk(folder.path(), &WalkOptions::default());
    sink.failures.sort();
    let denied = "Permission denied (os error 13)";
    assert_eq!(
        sink.failures,
        [
            format!("closed: cannot open it: {denied}"),
            format!("secret: {denied}"),
            format!("unsearchable/f: cannot stat it: {denied}"),
        ]
    );
    assert_eq!(summary.failed, 2, "content is opened by the sink");
    nasty::set_mode(&folder.path().join("closed"), 0o700);
    nasty::set_mode(&folder.path().join("unsearchable"), 0o700);
}

#[test]
fn one_entry_is_pushed_under_the_name_given() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/f"), b"content").unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        folder.path().join("p"),
        rustix::fs::Mode::RWXU,
    )
    .unwrap();
    symlink("d/f", folder.path().join("l")).unwrap();
    let one = |path: &str| {
        let mut sink = Recorder::new();
        let path = folder.path().join(path);
        let options = WalkOptions::default();
        let summary = walk_entry(&path, b"name", &options, &mut sink, &Cancel::default()).unwrap();
        (sink, summary)
    };
    let (sink, summary) = one("d");
    assert_eq!(sink.order, ["name", "name/f"]);
    assert_eq!(
        (summary.directories, summary.files, summary.bytes),
        (1, 1, 7)
    );
    for file in ["d/f", "l"] {
        let (sink, summary) = one(file);
        assert_eq!(sink.contents["name"], b"content");
        assert_eq!(
            (summary.files, summary.bytes, summary.findings.count()),
            (1, 7, 0)
        );
    }
    let (sink, summary) = one("p");
    assert_eq!(sink.entry("name").kind, EntryKind::Fifo);
    assert_eq!((summary.nodes, summary.findings.count()), (1, 0));
}

#[test]
fn root_that_cannot_be_walked_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let mut sink = Recorder::new();
    let options = WalkOptions::default();
    for (root, cause) in [
        (
            folder.path().join("missing"),
            "No such file or directory (os error 2)",
        ),
        (file, "Not a directory (os error 20)"),
    ] {
        let error = walk_contents(&root, &options, &mut sink, &Cancel::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open {}", root.display()));
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            cause
        );
    }
    assert_eq!(sink.order, Vec::<String>::new());
}

#[test]
fn sink_and_user_can_stop_a_walk() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..10 {
        fs::write(folder.path().join(number.to_string()), b"").unwrap();
    }
    let options = WalkOptions::default();
    let mut queue = Queue::new();
    queue.room = 3;
    let error = walk_contents(folder.path(), &options, &mut queue, &Cancel::default()).unwrap_err();
    assert_eq!(error.to_string(), "the sink is full");
    let mut queue = Queue::new();
    queue.cancel_at = 4;
    let cancel = queue.cancel.clone();
    let error = walk_contents(folder.path(), &options, &mut queue, &cancel).unwrap_err();
    assert!(matches!(error, WalkError::Cancelled(_)));
    assert_eq!(queue.contents.len(), 4);
}
