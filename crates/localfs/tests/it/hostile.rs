//! The path and link suite (T1): whatever is planted, and whatever a point holds, the canary
//! beside the target stays as it is and the rest is restored.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use refloat_localfs::write::Resolution;
use refloat_localfs::{FolderWriter, Landing, RelativePath, Restored, WriteError};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{EntryKind, Metadata, Xattr};

use crate::copier::write;
use crate::manifest::{Canary, is_root};
use crate::nasty::acl;
use crate::writer::{file, metadata, path};

/// A target with a canary beside it.
struct Scene {
    _base: tempfile::TempDir,
    target: PathBuf,
    canary: Canary,
}

impl Scene {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let target = base.path().join("target");
        fs::create_dir(&target).unwrap();
        let canary = Canary::plant(&base.path().join("canary"));
        Self {
            _base: base,
            target,
            canary,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.canary.directory.join(name)
    }
}

/// What waits in the target under the name that is restored.
const PLANTED: [&str; 12] = [
    "nothing",
    "link to a file outside",
    "link to a directory outside",
    "link to a link outside",
    "relative link outside",
    "link to a name that is free outside",
    "link to itself",
    "hard link to a file outside",
    "empty directory",
    "full directory",
    "pipe",
    "file",
];

fn plant(scene: &Scene, what: &str) {
    let at = scene.at("x");
    match what {
        "nothing" => {}
        "link to a file outside" => symlink(scene.outside("shadow"), at).unwrap(),
        "link to a directory outside" => symlink(scene.outside("sub"), at).unwrap(),
        "link to a link outside" => symlink(scene.outside("link"), at).unwrap(),
        "relative link outside" => symlink("../canary/shadow", at).unwrap(),
        "link to a name that is free outside" => symlink(scene.outside("free"), at).unwrap(),
        "link to itself" => symlink("x", at).unwrap(),
        "hard link to a file outside" => fs::hard_link(scene.outside("shadow"), at).unwrap(),
        "empty directory" => fs::create_dir(at).unwrap(),
        "full directory" => {
            fs::create_dir(&at).unwrap();
            fs::write(at.join("stranger"), b"stays").unwrap();
        }
        "pipe" => {
            let mode = rustix::fs::Mode::RWXU;
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, at, fifo, mode, 0).unwrap();
        }
        "file" => fs::write(at, b"old").unwrap(),
        other => panic!("{other}"),
    }
}

/// What is restored under the name.
const RESTORED: [&str; 9] = [
    "file",
    "file in place",
    "setuid file with attributes",
    "directory",
    "directory with a child",
    "link",
    "pipe",
    "socket",
    "hard link",
];

fn restore(writer: &FolderWriter, what: &str) -> Result<(), WriteError> {
    let x = path("x");
    match what {
        "file" => drop(write(writer, &x, &file(0o644), b"new", Landing::Atomic)?),
        "file in place" => drop(write(writer, &x, &file(0o644), b"new", Landing::InPlace)?),
        "setuid file with attributes" => {
            let mut entry = file(0o4777);
            entry.metadata.xattrs = vec![
                xattr("system.posix_acl_access", acl()),
                xattr("user.canary", b"dead".to_vec()),
            ];
            entry.metadata.mode = 0o4760;
            write(writer, &x, &entry, b"new", Landing::Atomic)?;
        }
        "directory" => {
            writer.create_directory(&x)?;
            writer.set_directory_metadata(&x, &metadata(0o2777))?;
        }
        "directory with a child" => {
            writer.create_directory(&x)?;
            let child = path("x/shadow");
            write(writer, &child, &file(0o666), b"new", Landing::InPlace)?;
            writer.create_node(&path("x/link"), &EntryKind::Fifo, &metadata(0o666))?;
            writer.set_directory_metadata(&x, &metadata(0o777))?;
        }
        "link" => {
            let target = b"../canary/shadow".to_vec();
            let kind = EntryKind::Symlink { target };
            // A mode for a link must not become the mode of what it leads to.
            writer.create_node(&x, &kind, &metadata(0o777))?;
        }
        "pipe" => drop(writer.create_node(&x, &EntryKind::Fifo, &metadata(0o666))?),
        "socket" => drop(writer.create_node(&x, &EntryKind::Socket, &metadata(0o666))?),
        "hard link" => {
            let restored = write(
                writer,
                &path("first"),
                &file(0o644),
                b"new",
                Landing::Atomic,
            )?;
            writer.hard_link(restored, &path("first"), &x)?;
        }
        other => panic!("{other}"),
    }
    Ok(())
}

fn xattr(name: &str, value: Vec<u8>) -> Xattr {
    Xattr {
        name: name.as_bytes().to_vec(),
        value,
    }
}

fn is_as_restored(at: &Path, what: &str) -> bool {
    let stat = fs::symlink_metadata(at).unwrap();
    let kind = stat.file_type();
    match what {
        "file" | "file in place" => fs::read(at).unwrap() == b"new" && stat.nlink() == 1,
        "setuid file with attributes" => stat.mode() & 0o7777 == 0o4760 && kind.is_file(),
        "directory" => kind.is_dir() && stat.mode() & 0o7777 == 0o2777,
        "directory with a child" => fs::read(at.join("shadow")).unwrap() == b"new",
        "link" => fs::read_link(at).unwrap() == Path::new("../canary/shadow"),
        "pipe" => kind.is_fifo() && stat.mode() & 0o7777 == 0o666,
        "socket" => kind.is_socket() && stat.mode() & 0o7777 == 0o666,
        "hard link" => kind.is_file() && stat.nlink() == 2,
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_planted_leads_outside() {
    let mut cases = 0;
    for resolution in [Resolution::Kernel, Resolution::PerName] {
        for planted in PLANTED {
            for restored in RESTORED {
                check_planted(resolution, planted, restored);
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 216);
    println!("{cases} cases of planted entries");
}

fn check_planted(resolution: Resolution, planted: &str, restored: &str) {
    let case = format!("{restored} over {planted} ({resolution:?})");
    let mut scene = Scene::new();
    // A planted hard link is itself replaced, which the canary's link count has to show. So it is
    // remembered without it.
    let is_hard_link = planted == "hard link to a file outside";
    plant(&scene, planted);
    scene.canary.remember();
    let shadow = fs::metadata(scene.outside("shadow")).unwrap();
    assert_eq!(shadow.nlink(), 1 + u64::from(is_hard_link));
    let writer = FolderWriter::open_with(&scene.target, resolution).unwrap();
    let result = restore(&writer, restored);
    if planted == "full directory" && !restored.starts_with("directory") {
        let error = result.expect_err(&case);
        assert!(matches!(error, WriteError::Occupied(_)), "{case}: {error}");
        assert_eq!(
            fs::read(scene.at("x/stranger")).unwrap(),
            b"stays",
            "{case}"
        );
    } else {
        result.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(is_as_restored(&scene.at("x"), restored), "{case}");
    }
    assert_eq!(writer.take_findings().into_list(""), [], "{case}");
    let leftovers = fs::read_dir(&scene.target)
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .as_bytes()
                .starts_with(b".")
        })
        .count();
    assert_eq!(leftovers, 0, "{case}");
    if is_hard_link {
        assert_eq!(
            fs::read(scene.outside("shadow")).unwrap(),
            b"root:secret",
            "{case}"
        );
        let after = fs::metadata(scene.outside("shadow")).unwrap();
        let seen = |stat: &fs::Metadata| (stat.mode(), stat.uid(), stat.gid(), stat.mtime_nsec());
        assert_eq!(seen(&after), seen(&shadow), "{case}");
        assert_eq!(after.nlink(), 1, "{case}: only the planted link is gone");
        let attributes = crate::manifest::xattrs(&scene.outside("shadow"));
        assert_eq!(attributes[&b"user.canary"[..]], b"alive", "{case}");
    } else {
        scene.canary.assert_untouched();
    }
}

/// Links where a directory was expected: first as they are, then replaced by real directories.
#[test]
fn nothing_is_written_through_a_link_on_the_way() {
    let mut cases = 0;
    for resolution in [Resolution::Kernel, Resolution::PerName] {
        for link in ["d", "d/e", "d/e/f"] {
            for to in ["", "sub"] {
                let mut scene = Scene::new();
                let parent = scene.at(link).parent().unwrap().to_owned();
                fs::create_dir_all(parent).unwrap();
                symlink(scene.outside(to), scene.at(link)).unwrap();
                scene.canary.remember();
                let writer = FolderWriter::open_with(&scene.target, resolution).unwrap();
                check_on_the_way(&writer, link);
                scene.canary.assert_untouched();
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 12);
}

fn check_on_the_way(writer: &FolderWriter, link: &str) {
    let inside = |name: &str| path(link).join(name.as_bytes()).unwrap();
    let refused = |error: WriteError| assert!(matches!(error, WriteError::System { .. }));
    refused(
        writer
            .prepare_file(&inside("shadow"), 3, Landing::Atomic)
            .unwrap_err(),
    );
    refused(
        writer
            .prepare_file(&inside("shadow"), 3, Landing::InPlace)
            .unwrap_err(),
    );
    refused(
        writer
            .create_node(&inside("p"), &EntryKind::Fifo, &metadata(0o666))
            .unwrap_err(),
    );
    refused(
        writer
            .set_directory_metadata(&path(link), &metadata(0o777))
            .unwrap_err(),
    );
    refused(
        writer
            .remove(&inside("shadow"), &Cancel::default())
            .unwrap_err(),
    );
    let made = write(writer, &path("z"), &file(0o600), b"z", Landing::Atomic).unwrap();
    refused(
        writer
            .hard_link(made, &path("z"), &inside("z"))
            .unwrap_err(),
    );
    refused(
        writer
            .hard_link(made, &inside("shadow"), &path("y"))
            .unwrap_err(),
    );
    assert_eq!(writer.existing(&inside("shadow")).unwrap(), None);
    assert!(writer.open_existing(&inside("shadow")).unwrap().is_none());

    check_beyond(writer, link, made);

    writer.create_directory(&inside("deeper")).unwrap();
    write(
        writer,
        &inside("shadow"),
        &file(0o600),
        b"new",
        Landing::Atomic,
    )
    .unwrap();
    writer
        .set_directory_metadata(&path(link), &metadata(0o777))
        .unwrap();
    assert!(writer.existing(&inside("shadow")).unwrap().is_some());
}

/// Where the link is not the last name on the way, but one in the middle of it: all that follows
/// it exists outside.
fn check_beyond(writer: &FolderWriter, link: &str, made: Restored) {
    let refused = |error: WriteError| assert!(matches!(error, WriteError::System { .. }));
    let (directory, beyond) = (format!("{link}/sub"), format!("{link}/sub/file"));
    let (directory, beyond) = (path(&directory), path(&beyond));
    refused(
        writer
            .prepare_file(&beyond, 3, Landing::Atomic)
            .unwrap_err(),
    );
    refused(
        writer
            .create_node(&beyond, &EntryKind::Fifo, &metadata(0o666))
            .unwrap_err(),
    );
    refused(
        writer
            .set_directory_metadata(&directory, &metadata(0o777))
            .unwrap_err(),
    );
    refused(writer.remove(&beyond, &Cancel::default()).unwrap_err());
    refused(writer.hard_link(made, &beyond, &path("y")).unwrap_err());
    assert_eq!(writer.existing(&beyond).unwrap(), None);
}

/// A point that itself brings a link and then writes below it, or says its name twice.
#[test]
fn links_of_the_point_itself_lead_nowhere() {
    let mut scene = Scene::new();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    let target = scene.canary.directory.as_os_str().as_bytes().to_vec();
    let link = EntryKind::Symlink { target };
    writer
        .create_node(&path("evil"), &link, &metadata(0o777))
        .unwrap();
    let below = path("evil/shadow");
    assert!(writer.prepare_file(&below, 3, Landing::Atomic).is_err());
    assert!(writer.create_node(&below, &link, &metadata(0o777)).is_err());
    // The same name again, as a directory: its mode and attributes go to a real directory.
    writer.create_directory(&path("evil")).unwrap();
    let mut wanted = metadata(0o777);
    wanted.xattrs = vec![xattr("user.canary", b"dead".to_vec())];
    writer
        .set_directory_metadata(&path("evil"), &wanted)
        .unwrap();
    write(&writer, &below, &file(0o600), b"new", Landing::Atomic).unwrap();
    // And again as a link: the directory is full by now.
    let error = writer
        .create_node(&path("evil"), &link, &metadata(0o777))
        .unwrap_err();
    assert!(matches!(error, WriteError::Occupied(_)), "{error}");
    // A file twice: the second one counts.
    write(
        &writer,
        &path("twice"),
        &file(0o600),
        b"one",
        Landing::Atomic,
    )
    .unwrap();
    write(
        &writer,
        &path("twice"),
        &file(0o600),
        b"two",
        Landing::Atomic,
    )
    .unwrap();
    assert_eq!(fs::read(scene.at("twice")).unwrap(), b"two");
    // Names that differ in case only are two names here.
    write(&writer, &path("Case"), &file(0o600), b"1", Landing::Atomic).unwrap();
    write(&writer, &path("case"), &file(0o600), b"2", Landing::Atomic).unwrap();
    assert_eq!(fs::read(scene.at("Case")).unwrap(), b"1");
    scene.canary.assert_untouched();
}

#[test]
fn hard_links_are_made_only_to_what_was_restored() {
    let mut scene = Scene::new();
    symlink(scene.outside("shadow"), scene.at("link")).unwrap();
    symlink(&scene.canary.directory, scene.at("through")).unwrap();
    fs::hard_link(scene.outside("sub/file"), scene.at("planted")).unwrap();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    let made = write(&writer, &path("made"), &file(0o600), b"1", Landing::Atomic).unwrap();
    for from in ["link", "through/shadow", "planted", "missing"] {
        assert!(
            writer.hard_link(made, &path(from), &path("new")).is_err(),
            "{from}"
        );
    }
    let error = writer
        .hard_link(made, &path("planted"), &path("new"))
        .unwrap_err();
    assert!(matches!(error, WriteError::Replaced(_)), "{error}");
    assert!(!scene.at("new").exists());
    // A link of our own may have two names; what it leads to has not.
    let kind = EntryKind::Symlink {
        target: scene.outside("shadow").as_os_str().as_bytes().to_vec(),
    };
    let symlinked = writer
        .create_node(&path("own"), &kind, &metadata(0o777))
        .unwrap();
    writer
        .hard_link(symlinked, &path("own"), &path("own too"))
        .unwrap();
    assert_eq!(
        fs::symlink_metadata(scene.at("own too")).unwrap().nlink(),
        2
    );
    scene.canary.assert_untouched();
}

#[test]
fn kept_file_that_is_shared_with_the_outside_is_not_touched() {
    let mut scene = Scene::new();
    fs::hard_link(scene.outside("shadow"), scene.at("x")).unwrap();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    let existing = writer.open_existing(&path("x")).unwrap().unwrap();
    let error = writer.keep_file(&existing, &metadata(0o777)).unwrap_err();
    assert!(matches!(error, WriteError::Shared(_)), "{error}");
    scene.canary.assert_untouched();
}

#[test]
fn removing_stays_inside() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.at("t/sub")).unwrap();
    symlink(&scene.canary.directory, scene.at("t/sub/link")).unwrap();
    symlink(scene.outside("shadow"), scene.at("t/file link")).unwrap();
    symlink(&scene.canary.directory, scene.at("top")).unwrap();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    assert_eq!(writer.remove(&path("t"), &Cancel::default()).unwrap(), 4);
    assert_eq!(writer.remove(&path("top"), &Cancel::default()).unwrap(), 1);
    scene.canary.assert_untouched();
}

/// Names that no file system here could hold never get as far as a call; strange ones are names.
#[test]
fn hostile_names_are_refused_and_strange_ones_are_names() {
    let mut scene = Scene::new();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    for name in [
        &b""[..],
        b".",
        b"..",
        b"/",
        b"/abs",
        b"a/b",
        b"../canary/shadow",
        b"a\0b",
    ] {
        assert!(RelativePath::root().join(name).is_err());
        assert!(path("d").join(name).is_err());
    }
    let strange: [&[u8]; 16] = [
        b"C:\\x",
        b"\\\\host\\share",
        b"..\\x",
        b"...",
        b".. ",
        b" ",
        b"\n",
        b"-rf",
        b"~",
        b"*",
        b"\xff\xfe",
        b".wh.",
        b".wh..wh..opq",
        b"CON",
        b"a:b",
        b"%2F",
    ];
    for name in strange {
        let path = RelativePath::root().join(name).unwrap();
        write(&writer, &path, &file(0o600), name, Landing::Atomic).unwrap();
        let at = scene.target.join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(at).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&scene.target).unwrap().count(), strange.len());
    for length in [256, 4097, 100_000] {
        let path = RelativePath::root().join(&vec![b'n'; length]).unwrap();
        let made = [
            write(&writer, &path, &file(0o600), b"x", Landing::Atomic).err(),
            write(&writer, &path, &file(0o600), b"x", Landing::InPlace).err(),
            writer.create_directory(&path).err(),
            writer
                .create_node(&path, &EntryKind::Fifo, &metadata(0o600))
                .err(),
            writer.existing(&path).err(),
        ];
        for error in made {
            let source = std::error::Error::source(error.as_ref().unwrap())
                .unwrap()
                .to_string();
            assert_eq!(source, "File name too long (os error 36)");
        }
    }
    assert_eq!(fs::read_dir(&scene.target).unwrap().count(), strange.len());
    scene.canary.assert_untouched();
}

#[test]
fn metadata_that_no_system_takes_is_an_error_or_a_finding() {
    let mut scene = Scene::new();
    scene.canary.remember();
    let writer = FolderWriter::open(&scene.target).unwrap();
    let with = |name: &str, value: &[u8]| Metadata {
        xattrs: vec![xattr(name, value.to_vec())],
        ..metadata(0o600)
    };
    for (number, wanted) in [
        with("", b"x"),
        with("no namespace", b"x"),
        with("user.with\0nul", b"x"),
        with("system.posix_acl_access", b"no acl"),
        with("user.large", &[0; 70_000]),
    ]
    .into_iter()
    .enumerate()
    {
        let at = path(&format!("f{number}"));
        let mut entry = file(0o600);
        entry.metadata = wanted;
        let restored = write(&writer, &at, &entry, b"x", Landing::Atomic);
        let findings = writer.take_findings().count();
        assert!(restored.is_err() || findings == 1, "{number}: said nothing");
    }
    for target in [&b""[..], b"a\0b", &[b'a'; 5000]] {
        let kind = EntryKind::Symlink {
            target: target.to_vec(),
        };
        assert!(
            writer
                .create_node(&path("link"), &kind, &metadata(0o777))
                .is_err()
        );
        assert!(fs::symlink_metadata(scene.at("link")).is_err());
    }
    let huge = writer.prepare_file(&path("huge"), u64::MAX, Landing::Atomic);
    assert!(huge.is_err(), "no file is that long");
    scene.canary.assert_untouched();
}

#[test]
fn devices_and_capabilities_come_back_for_root_only() {
    if !is_root() {
        println!("skipped: devices are for root");
        return;
    }
    let mut scene = Scene::new();
    symlink("/dev/null", scene.at("null")).unwrap();
    scene.canary.remember();
    let before = fs::metadata("/dev/null").unwrap();
    let writer = FolderWriter::open(&scene.target).unwrap();
    let kind = EntryKind::CharacterDevice { device: 0x103 };
    let mut wanted = metadata(0o640);
    (wanted.uid, wanted.gid) = (12, 34);
    writer.create_node(&path("null"), &kind, &wanted).unwrap();
    let made = fs::symlink_metadata(scene.at("null")).unwrap();
    assert!(made.file_type().is_char_device());
    assert_eq!((made.rdev(), made.mode() & 0o7777), (0x103, 0o640));
    assert_eq!((made.uid(), made.gid()), (12, 34));
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!(
        (before.mode(), before.ctime_nsec()),
        (after.mode(), after.ctime_nsec())
    );
    scene.canary.assert_untouched();
}
