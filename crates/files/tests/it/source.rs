//! Discovery and capture, with the failures that must not look like success.

use std::error::Error;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use refloat_files::{Caches, FilesError, FilesOptions, FilesSource};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, ItemKind, Workload};
use refloat_model::outcome::Consistency;
use refloat_source::{Source, SourceError};

use crate::tree::Tree;

fn source(root: &Path) -> FilesSource {
    with(root, FilesOptions::default())
}

fn with(root: &Path, options: FilesOptions) -> FilesSource {
    FilesSource::new("web", [root.to_owned()], options).unwrap()
}

fn capture(source: &FilesSource) -> (Tree, Capture) {
    let inventory = source.discover(&Cancel::default()).unwrap();
    let mut tree = Tree::default();
    let capture = source
        .capture(&inventory.items[0], &mut tree, &Cancel::default())
        .unwrap();
    (tree, capture)
}

#[test]
fn item_lies_at_its_path_below_the_source() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("data");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("a"), "one").unwrap();
    fs::write(root.join("sub/b"), "two").unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
    let source = source(&root);
    let shown = root.display().to_string();
    assert_eq!(source.description().address, shown);
    assert_eq!(
        (source.description().kind, source.description().name),
        ("files", "web".into())
    );

    let inventory = source.discover(&Cancel::default()).unwrap();
    assert_eq!(inventory.findings, []);
    let workload = Workload {
        name: shown.clone(),
        kind: "folder".to_owned(),
        requires: vec![],
    };
    assert_eq!(inventory.workloads, std::slice::from_ref(&workload));
    assert_eq!(inventory.items.len(), 1);
    let item = &inventory.items[0];
    assert_eq!(
        (item.kind, &item.title, &item.skip),
        (ItemKind::Folder, &shown, &None)
    );
    assert_eq!(item.path.to_string(), format!("/files/web{shown}"));
    let held = source.quiesce(&workload, &Cancel::default()).unwrap();
    assert_eq!(held.resume(), []);

    let (tree, capture) = capture(&source);
    let entries: Vec<_> = tree
        .entries
        .iter()
        .map(|(p, w)| (p.as_str(), w.as_str()))
        .collect();
    assert_eq!(
        entries,
        [
            ("data", "directory 750"),
            ("data/a", "one"),
            ("data/sub", "directory 700"),
            ("data/sub/b", "two"),
        ]
    );
    assert_eq!(
        (capture.consistency, capture.findings),
        (Consistency::Crash, vec![])
    );
}

#[test]
fn single_file_is_an_item() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("settings.conf");
    fs::write(&root, "x = 1").unwrap();
    let source = source(&root);
    let item = source.discover(&Cancel::default()).unwrap().items.remove(0);
    assert_eq!(item.bytes_estimate, Some(5));
    let (tree, capture) = capture(&source);
    assert_eq!(
        tree.entries,
        [("settings.conf".to_owned(), "x = 1".to_owned())].into()
    );
    assert_eq!(capture.findings, []);
}

#[test]
fn root_directory_has_an_escaped_name() {
    let source = source(Path::new("/"));
    let item = source.discover(&Cancel::default()).unwrap().items.remove(0);
    assert_eq!(item.path.to_string(), "/files/web/%2F");
    assert_eq!(item.title, "/");
}

/// restic #4467: a source that is not there was an empty success.
#[test]
fn missing_root_is_an_error_with_a_hint() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("not/there");
    let error = source(&root).discover(&Cancel::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", root.display()));
    assert_eq!(
        error.source().unwrap().to_string(),
        "No such file or directory (os error 2)"
    );
    let SourceError::Unavailable { hint, .. } = error else {
        panic!("{error:?}")
    };
    let base = base.path().display();
    let expected = format!("{base} exists: check the path, and that all is mounted");
    assert_eq!(hint, Some(expected));
}

/// restic #5667: an unreadable source was an empty snapshot.
#[test]
fn unreadable_root_is_an_error() {
    if rustix::process::geteuid().is_root() {
        println!("skipped as root, who may read everything");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("closed");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o0)).unwrap();
    let error = source(&root).discover(&Cancel::default()).unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "Permission denied (os error 13)"
    );
}

#[test]
fn one_missing_root_of_two_is_a_finding_and_a_failed_item() {
    let base = tempfile::tempdir().unwrap();
    let (here, gone) = (base.path().join("here"), base.path().join("gone"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("a"), "1").unwrap();
    let roots = [gone.clone(), here];
    let source = FilesSource::new("web", roots, FilesOptions::default()).unwrap();
    let inventory = source.discover(&Cancel::default()).unwrap();
    let message = "cannot be read: No such file or directory (os error 2)";
    let gone = gone.display().to_string();
    assert_eq!(inventory.findings, [Finding::error(&gone, message)]);
    let mut tree = Tree::default();
    let error = source
        .capture(&inventory.items[0], &mut tree, &Cancel::default())
        .unwrap_err();
    assert!(matches!(error, SourceError::Item { .. }));
    assert_eq!(error.to_string(), format!("cannot open {gone}"));
    assert_eq!(tree.paths(), Vec::<&str>::new());
}

#[test]
fn empty_root_is_a_warning() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("empty");
    fs::create_dir(&root).unwrap();
    let source = source(&root);
    let shown = root.display().to_string();
    let warning = Finding::warning(&shown, "is empty: perhaps something is not mounted");
    let inventory = source.discover(&Cancel::default()).unwrap();
    assert_eq!(inventory.findings, std::slice::from_ref(&warning));
    let (tree, capture) = capture(&source);
    assert_eq!(tree.paths(), ["empty"]);
    assert_eq!(capture.findings, [warning]);
}

#[test]
fn link_as_root_is_followed_and_said() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("real")).unwrap();
    fs::write(base.path().join("real/a"), "1").unwrap();
    let root = base.path().join("data");
    symlink("real", &root).unwrap();
    let (tree, capture) = capture(&source(&root));
    assert_eq!(tree.paths(), ["data", "data/a"]);
    let shown = root.display().to_string();
    let note = Finding::note(shown, "is a symbolic link; captured is real");
    assert_eq!(capture.findings, [note]);
}

#[test]
fn rules_leave_out_and_say_so() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("data");
    for directory in ["logs", "cache/deep", "keep"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (path, text) in [
        ("a.tmp", "1"),
        ("keep/b.tmp", "2"),
        ("keep/c", "3"),
        ("logs/x.gz", "4"),
        (
            "cache/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n",
        ),
        ("cache/deep/thing", "5"),
        (
            "large",
            "51 bytes of text are one more than this test allows",
        ),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    let options = FilesOptions {
        exclude: vec!["*.tmp".into(), root.join("logs").display().to_string()],
        exclude_lines: vec!["# kept after all".into(), "!keep/b.tmp".into()],
        exclude_larger_than_bytes: Some(50),
        caches: Caches::TagOnly,
        ..FilesOptions::default()
    };
    let (tree, capture) = capture(&with(&root, options));
    assert_eq!(
        tree.paths(),
        [
            "data",
            "data/cache",
            "data/cache/CACHEDIR.TAG",
            "data/keep",
            "data/keep/b.tmp",
            "data/keep/c",
        ]
    );
    let note = Finding::note(root.display().to_string(), "4 entries left out by rules");
    assert_eq!(capture.findings, [note]);
}

#[test]
fn roots_that_cannot_be_are_refused() {
    let refused = |roots: &[&str]| {
        let roots = roots.iter().map(PathBuf::from);
        FilesSource::new("web", roots, FilesOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(&[]), "no folder is named");
    assert_eq!(
        refused(&["srv"]),
        "srv is not an absolute path without '..'"
    );
    assert_eq!(
        refused(&["/a/../b"]),
        "/a/../b is not an absolute path without '..'"
    );
    assert_eq!(
        refused(&["/a/b", "/a"]),
        "/a/b lies in /a, which is captured too"
    );
    assert_eq!(
        refused(&["/a", "/a/"]),
        "/a lies in /a, which is captured too"
    );
    assert_eq!(refused(&["/a", "/"]), "/a lies in /, which is captured too");
    let bad = FilesOptions {
        exclude: vec!["[".into()],
        ..FilesOptions::default()
    };
    let error = FilesSource::new("web", [PathBuf::from("/a")], bad).unwrap_err();
    assert!(matches!(error, FilesError::Pattern { .. }));
}

#[test]
fn cancelled_capture_says_so() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("a"), "1").unwrap();
    let source = source(base.path());
    let item = source.discover(&Cancel::default()).unwrap().items.remove(0);
    let cancel = Cancel::default();
    cancel.cancel();
    let error = source
        .capture(&item, &mut Tree::default(), &cancel)
        .unwrap_err();
    assert!(matches!(error, SourceError::Cancelled));
    let error = source.discover(&cancel).unwrap_err();
    assert!(matches!(error, SourceError::Cancelled));
}
