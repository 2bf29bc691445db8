//! Walk → writer → an independent look: nothing may be lost.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use refloat_localfs::write::Resolution;
use refloat_localfs::{FolderWriter, Landing};

use crate::copier::copy;
use crate::manifest::{self, assert_equal, is_root};
use crate::nasty;

struct Folders {
    _base: tempfile::TempDir,
    source: std::path::PathBuf,
    target: std::path::PathBuf,
}

fn folders() -> Folders {
    let base = tempfile::tempdir().unwrap();
    let (source, target) = (base.path().join("source"), base.path().join("target"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    Folders {
        _base: base,
        source,
        target,
    }
}

fn check(writer: &FolderWriter, source: &Path, target: &Path, landing: Landing) {
    let (summary, failures) = copy(source, writer, landing);
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(
        (summary.failed, summary.vanished, summary.excluded),
        (0, 0, 0)
    );
    assert_eq!(writer.take_findings().into_list(""), []);
    assert_equal(&manifest::of(target), &manifest::of(source));
}

#[test]
fn nasty_tree_comes_back_and_again_over_itself() {
    let f = folders();
    nasty::plant(&f.source);
    let writer = FolderWriter::open(&f.target).unwrap();
    assert_eq!(
        writer.resolution(),
        Resolution::Kernel,
        "openat2 is expected here"
    );
    check(&writer, &f.source, &f.target, Landing::Atomic);
    let lines = manifest::of(&f.target);
    assert_eq!(lines["./setuid"].mode, 0o4755);
    assert_eq!(lines["./hard b"].same_as, lines["./hard a"].same_as);
    assert_eq!(lines["./hard a"].links, 3);
    assert_eq!(lines["./same link"].same_as, "./dangling");
    assert_eq!(lines["./plain"].modified, (1_000_000_000, 123_456_789));
    assert!(
        lines["./with acl"]
            .xattrs
            .contains_key(&b"system.posix_acl_access"[..])
    );
    if is_root() {
        assert_eq!(lines["./plain"].owner, (1234, 5678));
        assert_eq!(
            lines["./capable"].xattrs[&b"security.capability"[..]].len(),
            20
        );
    }
    // Over itself: every entry is in the way of its own like.
    check(&writer, &f.source, &f.target, Landing::Atomic);
    // In place: files are claimed, rewritten and given back.
    check(&writer, &f.source, &f.target, Landing::InPlace);
}

#[test]
fn nasty_tree_comes_back_without_openat2_and_in_place() {
    let f = folders();
    nasty::plant(&f.source);
    let writer = FolderWriter::open_with(&f.target, Resolution::PerName).unwrap();
    check(&writer, &f.source, &f.target, Landing::InPlace);
}

#[test]
fn holes_stay_holes() {
    let f = folders();
    nasty::plant(&f.source);
    let writer = FolderWriter::open(&f.target).unwrap();
    for landing in [Landing::Atomic, Landing::InPlace] {
        let (_, failures) = copy(&f.source, &writer, landing);
        assert_eq!(failures, Vec::<String>::new());
        let stat = fs::metadata(f.target.join("sparse")).unwrap();
        assert_eq!(stat.size(), 64 << 20);
        assert!(stat.blocks() * 512 < 100_000, "{} blocks", stat.blocks());
    }
}

#[test]
fn old_data_under_a_hole_is_punched_out() {
    let f = folders();
    let old = f.target.join("sparse");
    fs::write(&old, vec![1; 1 << 20]).unwrap();
    fs::write(f.source.join("sparse"), vec![0; 1 << 20]).unwrap();
    let writer = FolderWriter::open(&f.target).unwrap();
    check(&writer, &f.source, &f.target, Landing::InPlace);
    assert!(fs::metadata(&old).unwrap().blocks() * 512 < 100_000);
}

/// The manifest goes by path strings, which end at 4,096 bytes: here the count has to do.
#[test]
fn five_thousand_levels_come_back() {
    const LEVELS: u64 = 5_000;
    let f = folders();
    let writer = FolderWriter::open(&f.source).unwrap();
    let meta =
        refloat_model::entry::Metadata::synthetic(&refloat_model::entry::EntryKind::Directory);
    let mut path = refloat_localfs::RelativePath::root();
    for level in 0..LEVELS {
        // Siblings on the way make the walk come back to where it was.
        if level % 10 == 0 {
            writer
                .create_directory(&path.join(b"sibling").unwrap())
                .unwrap();
        }
        path = path.join(b"d").unwrap();
        writer.create_directory(&path).unwrap();
    }
    let file = writer
        .prepare_file(&path.join(b"bottom").unwrap(), 4, Landing::Atomic)
        .unwrap();
    file.write_at(0, b"deep").unwrap();
    writer
        .finish_file(
            file,
            &refloat_model::entry::Metadata {
                mode: 0o640,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                ..meta
            },
        )
        .unwrap();
    let writer = FolderWriter::open(&f.target).unwrap();
    let (summary, failures) = copy(&f.source, &writer, Landing::Atomic);
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(
        (summary.directories, summary.files),
        (LEVELS + LEVELS / 10, 1)
    );
    let bottom = writer
        .existing(&path.join(b"bottom").unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(bottom.metadata.mode, 0o640);
    for folder in [&f.source, &f.target] {
        let writer = FolderWriter::open(folder).unwrap();
        let removed = |name: &[u8]| {
            let path = refloat_localfs::RelativePath::root().join(name).unwrap();
            writer
                .remove(&path, &refloat_model::cancel::Cancel::default())
                .unwrap()
        };
        // All levels, all siblings but the one beside the first level, and the file.
        assert_eq!(removed(b"d"), LEVELS + LEVELS / 10 - 1 + 1);
        assert_eq!(removed(b"sibling"), 1);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }
}
