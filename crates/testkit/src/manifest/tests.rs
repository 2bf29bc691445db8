//! Every aspect of a node is seen, and named.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::tree::{self, TreeSpec};

fn lines(old: &Manifest, new: &Manifest, ignored: &[Aspect]) -> Vec<String> {
    let differences = old.differences(new, ignored);
    differences.iter().map(ToString::to_string).collect()
}

fn set_time(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
}

#[test]
fn each_change_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in [
        "content", "length", "mode", "gone", "kind", "linked", "twin",
    ] {
        fs::write(root.join(name), b"0123456789").unwrap();
        set_time(&root.join(name));
    }
    fs::hard_link(root.join("linked"), root.join("linked-too")).unwrap();
    fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("old", root.join("link")).unwrap();
    let old = Manifest::of(root);
    assert_eq!(lines(&old, &old, &[]), [""; 0]);

    fs::write(root.join("content"), b"012345678_").unwrap();
    fs::write(root.join("length"), b"0123").unwrap();
    fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.join("gone")).unwrap();
    fs::remove_file(root.join("kind")).unwrap();
    fs::create_dir(root.join("kind")).unwrap();
    fs::remove_file(root.join("linked-too")).unwrap();
    fs::write(root.join("linked-too"), b"0123456789").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    symlink("new", root.join("link")).unwrap();
    xattr::set(root.join("twin"), "user.new", b"1").unwrap();
    fs::write(root.join("added"), b"").unwrap();
    for name in ["content", "length", "linked-too"] {
        set_time(&root.join(name));
    }
    let ignored = [Aspect::Root, Aspect::TimesOfLinks];
    let found = lines(&old, &Manifest::of(root), &ignored);
    let (kind, rest): (Vec<_>, _) = found
        .into_iter()
        .partition(|line| line.contains("\"kind\""));
    assert!(kind[0].ends_with("became Folder"), "{kind:?}");
    assert_eq!(
        rest,
        [
            r#""content": 10 bytes have another SHA-256"#,
            r#""gone": file is missing"#,
            r#""length": 10 bytes became 4"#,
            r#""link": SymbolicLink("old") became SymbolicLink("new")"#,
            r#""linked": hard link to Some("linked") became None"#,
            r#""linked-too": hard link to Some("linked") became None"#,
            r#""mode": mode 0644 became 0600"#,
            r#""twin": attribute "user.new" was not in the original"#,
            r#""added": file was not in the original"#,
        ]
    );
}

#[test]
fn filled_holes_are_seen_and_more_holes_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let sparse = folder.path().join("sparse");
    let full = folder.path().join("full");
    for path in [&sparse, &full] {
        fs::create_dir(path).unwrap();
    }
    fs::File::create(sparse.join("file"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    fs::write(full.join("file"), vec![0; 1 << 20]).unwrap();
    let (sparse, full) = (Manifest::of(&sparse), Manifest::of(&full));
    let ignored = [Aspect::Times, Aspect::Root];
    assert_eq!(
        lines(&sparse, &full, &ignored),
        [r#""file": 0 bytes on disk became 1048576"#]
    );
    assert_eq!(lines(&full, &sparse, &ignored), [""; 0]);
}

#[test]
fn equal_specifications_build_equal_trees() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let built = tree::build(&first, &TreeSpec::small(7));
    for missing in &built.left_out {
        eprintln!("left out: {missing}");
    }
    let _second = tree::build(&second, &TreeSpec::small(7));
    let (one, two) = (Manifest::of(&first), Manifest::of(&second));
    one.assert_same(&two, &[]);
    assert!(one.nodes.len() > 600, "{} nodes", one.nodes.len());

    let changes = tree::change(&second, 1, 30);
    assert_eq!(changes.len(), 30);
    let changed = Manifest::of(&second);
    let touched = one.differences(&changed, &[]);
    assert!(touched.len() >= 30, "{} differences", touched.len());
}
