//! The calls of a restore, one by one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use refloat_localfs::write::{DirectoryState, LEFT_OUT};
use refloat_localfs::{FolderWriter, Landing, Privileges, RelativePath, WriteError};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, Xattr};
use refloat_model::time::Timestamp;

use crate::copier::write;
use crate::manifest::{is_root, set_xattr, xattrs};

pub fn path(text: &str) -> RelativePath {
    RelativePath::parse(text.as_bytes()).unwrap()
}

/// Owned by whoever runs the test, so that nobody has to be root.
pub fn metadata(mode: u32) -> Metadata {
    Metadata {
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Timestamp {
            seconds: 1_500_000_000,
            nanoseconds: 987_654_321,
        },
        ..Metadata::synthetic(&EntryKind::Fifo)
    }
}

pub fn file(mode: u32) -> Entry {
    Entry {
        name: b"f".to_vec(),
        kind: EntryKind::File { size: 0 },
        metadata: metadata(mode),
    }
}

fn folder() -> (tempfile::TempDir, FolderWriter) {
    let folder = tempfile::tempdir().unwrap();
    let writer = FolderWriter::open(folder.path()).unwrap();
    (folder, writer)
}

#[test]
fn file_appears_complete_or_not_at_all() {
    let (folder, writer) = folder();
    let content: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let file = writer
        .prepare_file(&path("f"), content.len() as u64, Landing::Atomic)
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (file, content) = (&file, &content);
            scope.spawn(move || {
                for (number, piece) in content.chunks(77_777).enumerate() {
                    if number % 4 == thread {
                        file.write_at(number as u64 * 77_777, piece).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing has a name yet"
    );
    let mut memory = Vec::new();
    let mut holds = |at: usize, bytes: &[u8]| {
        let verified = file.verify(at as u64, bytes, &mut memory);
        verified.map_err(|error| error.to_string())
    };
    assert_eq!(holds(1_000_000, &content[1_000_000..1_700_001]), Ok(()));
    // One byte of the last piece, and one behind the end.
    let mut other = content[1_000_000..1_700_001].to_vec();
    other[700_000] ^= 1;
    let refused = "what was written to f at byte 1655360 does not read back equal";
    assert_eq!(holds(1_000_000, &other), Err(refused.to_owned()));
    assert_eq!(holds(3_999_999, &content[3_999_999..]), Ok(()));
    assert!(holds(3_999_999, &[content[3_999_999], 0]).is_err());
    writer.finish_file(file, &metadata(0o644)).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), content);
    let stat = fs::metadata(folder.path().join("f")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o644, 1));
    assert_eq!(
        (stat.mtime(), stat.mtime_nsec()),
        (1_500_000_000, 987_654_321)
    );
    drop(writer.prepare_file(&path("g"), 9, Landing::Atomic).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    writer.sync().unwrap();
}

#[test]
fn a_file_has_its_length_whatever_was_written_of_it() {
    let (folder, writer) = folder();
    let zeros = vec![0; 8192];
    for (size, parts) in [
        (10_000_u64, &[][..]),
        (10_000, &[(0, &b"start"[..])]),
        (10_000, &[(0, &zeros[..]), (9_995, b"ended")]),
        (20_000, &[(3, b"data"), (8192, &zeros)]),
        (3 << 20, &[((3 << 20) - 1, b"x"), (0, b"y")]),
    ] {
        let file = writer
            .prepare_file(&path("f"), size, Landing::Atomic)
            .unwrap();
        let mut expected = vec![0; usize::try_from(size).unwrap()];
        for (offset, bytes) in parts {
            file.write_at(*offset, bytes).unwrap();
            let at = usize::try_from(*offset).unwrap();
            expected[at..at + bytes.len()].copy_from_slice(bytes);
            // What was written reads back at once, holes included.
            file.verify(*offset, bytes, &mut Vec::new()).unwrap();
        }
        writer.finish_file(file, &metadata(0o600)).unwrap();
        assert!(std::fs::read(folder.path().join("f")).unwrap() == expected);
    }
}

#[test]
fn bytes_beyond_the_length_are_refused() {
    let (_folder, writer) = folder();
    let file = writer
        .prepare_file(&path("f"), 10, Landing::Atomic)
        .unwrap();
    for (offset, length) in [(10, 1), (0, 11), (u64::MAX, 1), (u64::MAX - 3, 8)] {
        let error = file.write_at(offset, &vec![1; length]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write f beyond its length of 10 bytes"
        );
    }
    file.write_at(10, b"").unwrap();
    file.write_at(9, b"x").unwrap();
}

#[test]
fn old_file_is_changed_in_place_and_private_meanwhile() {
    let (folder, writer) = folder();
    let old = folder.path().join("f");
    fs::write(&old, [1; 10_000]).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o4755)).unwrap();
    let inode = fs::metadata(&old).unwrap().ino();
    let file = writer
        .prepare_file(&path("f"), 9_000, Landing::InPlace)
        .unwrap();
    assert!(file.holds_old_content());
    assert_eq!(fs::metadata(&old).unwrap().mode() & 0o7777, 0o600);
    file.verify(8_999, &[1], &mut Vec::new()).unwrap();
    file.write_at(4_000, &[0; 100]).unwrap();
    file.write_at(5_000, &[2; 100]).unwrap();
    writer.finish_file(file, &metadata(0o4755)).unwrap();
    let mut expected = [1; 9_000];
    expected[4_000..4_100].fill(0);
    expected[5_000..5_100].fill(2);
    assert_eq!(fs::read(&old).unwrap(), expected);
    let stat = fs::metadata(&old).unwrap();
    assert_eq!((stat.ino(), stat.mode() & 0o7777), (inode, 0o4755));
    assert!(
        !writer
            .prepare_file(&path("new"), 1, Landing::InPlace)
            .unwrap()
            .holds_old_content()
    );
}

#[test]
fn file_with_other_links_is_replaced_and_not_changed() {
    let (folder, writer) = folder();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&a, b"shared").unwrap();
    fs::hard_link(&a, &b).unwrap();
    let file = writer
        .prepare_file(&path("a"), 3, Landing::InPlace)
        .unwrap();
    assert!(!file.holds_old_content(), "it is another inode");
    file.write_at(0, b"new").unwrap();
    writer.finish_file(file, &metadata(0o600)).unwrap();
    assert_eq!(
        (fs::read(&a).unwrap(), fs::read(&b).unwrap()),
        (b"new".into(), b"shared".into())
    );
}

#[test]
fn equal_file_is_kept_and_only_its_metadata_set() {
    let (folder, writer) = folder();
    let at = folder.path().join("f");
    fs::write(&at, b"content").unwrap();
    set_xattr(&at, "user.old", b"x");
    let inode = fs::metadata(&at).unwrap().ino();
    let seen = writer.existing(&path("f")).unwrap().unwrap();
    assert_eq!(
        (seen.kind, seen.metadata.inode),
        (EntryKind::File { size: 7 }, inode)
    );
    assert_eq!(seen.metadata.xattrs[0].name, b"user.old");
    let file = writer.open_existing(&path("f")).unwrap().unwrap();
    let mut content = [0; 20];
    assert_eq!(
        (file.size(), file.read_at(0, &mut content).unwrap()),
        (7, 7)
    );
    assert_eq!(&content[..7], b"content");
    let mut wanted = metadata(0o640);
    wanted.xattrs = vec![Xattr {
        name: b"user.new".to_vec(),
        value: b"y".to_vec(),
    }];
    writer.keep_file(&file, &wanted).unwrap();
    let stat = fs::metadata(&at).unwrap();
    assert_eq!((stat.ino(), stat.mode() & 0o7777), (inode, 0o640));
    assert_eq!(stat.mtime_nsec(), 987_654_321);
    assert_eq!(xattrs(&at), [(b"user.new".to_vec(), b"y".to_vec())].into());

    // With a second link it may be kept only as it is.
    fs::hard_link(&at, folder.path().join("g")).unwrap();
    let before = fs::metadata(&at).unwrap();
    writer.keep_file(&file, &wanted).unwrap();
    let refused = writer.keep_file(&file, &metadata(0o600)).unwrap_err();
    assert!(matches!(refused, WriteError::Shared(_)), "{refused}");
    let after = fs::metadata(&at).unwrap();
    assert_eq!(
        (before.ctime(), before.ctime_nsec()),
        (after.ctime(), after.ctime_nsec())
    );

    fs::rename(folder.path().join("g"), folder.path().join("elsewhere")).unwrap();
    fs::remove_file(&at).unwrap();
    fs::write(&at, b"content").unwrap();
    let refused = writer.keep_file(&file, &wanted).unwrap_err();
    assert!(matches!(refused, WriteError::Replaced(_)), "{refused}");
}

#[test]
fn nothing_exists_where_nothing_is() {
    let (folder, writer) = folder();
    symlink("/etc", folder.path().join("link")).unwrap();
    fs::write(folder.path().join("f"), b"").unwrap();
    for absent in ["a", "a/b", "link/passwd", "f/x", ""] {
        assert_eq!(writer.existing(&path(absent)).unwrap(), None, "{absent}");
        assert!(
            writer.open_existing(&path(absent)).unwrap().is_none(),
            "{absent}"
        );
    }
    let link = writer.existing(&path("link")).unwrap().unwrap();
    let target = b"/etc".to_vec();
    assert_eq!(link.kind, EntryKind::Symlink { target });
    assert!(writer.open_existing(&path("link")).unwrap().is_none());
    symlink("f", folder.path().join("link to file")).unwrap();
    assert!(
        writer
            .open_existing(&path("link to file"))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        writer
            .open_existing(&path("f"))
            .unwrap()
            .map(|file| file.size()),
        Some(0)
    );
}

#[test]
fn directories_are_made_with_all_above_them() {
    let (folder, writer) = folder();
    assert_eq!(
        writer.create_directory(&path("a/b/c")).unwrap(),
        DirectoryState::Created
    );
    assert_eq!(
        writer.create_directory(&path("a/b")).unwrap(),
        DirectoryState::Existing
    );
    assert_eq!(
        writer.create_directory(&path("")).unwrap(),
        DirectoryState::Existing
    );
    assert_eq!(
        fs::metadata(folder.path().join("a")).unwrap().mode() & 0o7777,
        0o700
    );
    let missing = writer
        .prepare_file(&path("x/f"), 0, Landing::Atomic)
        .unwrap_err();
    assert_eq!(missing.to_string(), "cannot open the directory of x/f");
    let itself = writer
        .prepare_file(&path(""), 0, Landing::Atomic)
        .unwrap_err();
    assert!(matches!(itself, WriteError::Kind { .. }), "{itself}");
    let kind = EntryKind::Directory;
    let wrong = writer
        .create_node(&path("y"), &kind, &metadata(0o700))
        .unwrap_err();
    assert_eq!(wrong.to_string(), "cannot create y: it is of another kind");
}

#[test]
fn removing_takes_a_tree_and_leaves_what_links_lead_to() {
    let (folder, writer) = folder();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("alive"), b"").unwrap();
    fs::create_dir_all(folder.path().join("t/a/b")).unwrap();
    fs::create_dir_all(folder.path().join("t/c")).unwrap();
    fs::write(folder.path().join("t/a/b/f"), b"").unwrap();
    fs::write(folder.path().join("t/f"), b"").unwrap();
    symlink(outside.path(), folder.path().join("t/c/link")).unwrap();
    symlink(outside.path(), folder.path().join("link")).unwrap();
    let remove = |name| writer.remove(&path(name), &Cancel::default());
    assert_eq!(remove("t").unwrap(), 7);
    assert_eq!(remove("link").unwrap(), 1);
    assert_eq!(remove("link").unwrap(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(outside.path().join("alive").exists());
    let error = writer.remove(&path(""), &Cancel::default()).unwrap_err();
    assert!(
        matches!(error, WriteError::Kind { .. }),
        "the root itself stays"
    );
}

#[test]
fn folder_that_is_missing_or_a_link_is_refused() {
    let (folder, _writer) = folder();
    let link = folder.path().join("link");
    symlink(folder.path(), &link).unwrap();
    let slash = PathBuf::from(format!("{}/", link.display()));
    for refused in [&link, &slash, &folder.path().join("missing")] {
        let error = FolderWriter::open(refused).unwrap_err();
        let expected = format!(
            "cannot open the folder {} to restore into",
            refused.display()
        );
        assert_eq!(error.to_string(), expected);
    }
}

/// As somebody who is not root: no owner can be set, and a set-id bit would lend our own rights.
#[test]
fn refused_owner_is_a_finding_and_takes_set_id_bits_along() {
    if is_root() {
        println!("skipped as root, to whom no owner is refused; as_user runs it as uid 1000");
        return;
    }
    let (folder, writer) = folder();
    let mut wanted = file(0o6755);
    (wanted.metadata.uid, wanted.metadata.gid) = (0, 0);
    write(&writer, &path("f"), &wanted, b"x", Landing::Atomic).unwrap();
    assert_eq!(
        fs::metadata(folder.path().join("f")).unwrap().mode() & 0o7777,
        0o755
    );
    let messages: Vec<String> = writer
        .take_findings()
        .first()
        .iter()
        .map(|finding| format!("{}: {}", finding.subject, finding.message))
        .collect();
    let refused = "Operation not permitted (os error 1)";
    assert_eq!(
        messages,
        [
            format!("f: cannot set the owner of it: {refused}"),
            format!("f: cannot set the group of it: {refused}"),
            "f: set-id bits are left out because its owner could not be restored".to_owned(),
        ]
    );
    let kind = EntryKind::CharacterDevice { device: 0x103 };
    let error = writer
        .create_node(&path("null"), &kind, &metadata(0o600))
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot create null");
}

/// A small file system of its own; none where this is not allowed.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(at)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: a tmpfs cannot be mounted here");
        }
        mounted.then(|| Self::at(at))
    }

    /// What somebody has mounted there.
    pub fn at(at: &Path) -> Self {
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        let mut stderr = std::io::stderr();
        writeln!(stderr, "umount: {unmounted:?}").unwrap();
    }
}

#[test]
fn full_file_system_is_told_from_other_trouble() {
    let (folder, _writer) = folder();
    let Some(_mounted) = Mounted::tmpfs(folder.path(), "64k") else {
        return;
    };
    let writer = FolderWriter::open(folder.path()).unwrap();
    let error = write(
        &writer,
        &path("f"),
        &file(0o600),
        &[1; 100_000],
        Landing::Atomic,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "no space left to write f");
    assert!(error.is_out_of_space());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Once there is room, the same goes well.
    write(
        &writer,
        &path("f"),
        &file(0o600),
        &[1; 10_000],
        Landing::Atomic,
    )
    .unwrap();
    let missing = writer
        .prepare_file(&path("x/f"), 0, Landing::Atomic)
        .unwrap_err();
    assert!(!missing.is_out_of_space());
}

#[test]
fn what_lends_rights_is_left_out_and_named_unless_it_is_asked_for() {
    if !is_root() {
        return;
    }
    let (folder, writer) = folder();
    let writer = writer.with_privileges(Privileges::LeftOut);
    // cap_net_raw, as the kernel writes it.
    let mut capability = vec![1, 0, 0, 2, 0, 0x20];
    capability.resize(20, 0);
    let capable = Metadata {
        xattrs: vec![Xattr {
            name: b"security.capability".to_vec(),
            value: capability,
        }],
        ..metadata(0o755)
    };
    let make = |name: &str, metadata: &Metadata| {
        let file = writer
            .prepare_file(&path(name), 0, Landing::Atomic)
            .unwrap();
        writer.finish_file(file, metadata).unwrap();
    };
    make("suid", &metadata(0o6755));
    make("capable", &capable);
    make("plain", &metadata(0o755));
    writer.create_directory(&path("shared")).unwrap();
    writer
        .set_directory_metadata(&path("shared"), &metadata(0o2775))
        .unwrap();
    let device = EntryKind::CharacterDevice { device: 0x103 };
    let refused = writer.create_node(&path("null"), &device, &metadata(0o666));
    assert!(
        matches!(refused, Err(WriteError::Withheld(_))),
        "{refused:?}"
    );
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("suid"), mode("plain"), mode("shared")),
        (0o755, 0o755, 0o2775)
    );
    assert!(xattrs(&folder.path().join("capable")).is_empty());
    assert!(!folder.path().join("null").exists());
    let said = |writer: &FolderWriter| -> Vec<String> {
        let findings = writer.take_findings();
        let findings = findings.first().iter();
        findings
            .map(|f| format!("{}: {}", f.subject, f.message))
            .collect()
    };
    let expected = [
        format!("suid: set-id bits: {LEFT_OUT}"),
        format!("capable: file capabilities: {LEFT_OUT}"),
    ];
    assert_eq!(said(&writer), expected);
    // A repeated restore keeps what is there, and names it again.
    let kept = writer.open_existing(&path("suid")).unwrap().unwrap();
    writer.keep_file(&kept, &metadata(0o6755)).unwrap();
    assert_eq!(said(&writer), expected[..1]);
    assert_eq!(mode("suid"), 0o755);
}
