//! Images as OCI layouts, taken over from the parent where nothing changed.

use std::collections::BTreeSet;
use std::process::Command;

use refloat_docker::definition::{ImageDefinition, from_bytes};
use refloat_docker::{ImageSelection, Options};
use refloat_model::entry::EntryKind;

use crate::estate::{IMAGE, capture, connect, discover, engine, item, rule, try_capture};
use crate::tree::Tree;

/// Writes a captured tree to disk, as `restic restore` would.
fn write(tree: &Tree, folder: &std::path::Path) {
    for (path, node) in &tree.nodes {
        match node.kind {
            EntryKind::Directory => std::fs::create_dir_all(folder.join(path)).unwrap(),
            _ => std::fs::write(folder.join(path), &node.content).unwrap(),
        }
    }
}

#[test]
fn an_image_is_a_layout_other_tools_read_and_its_id_is_kept() {
    let Some(engine) = engine() else { return };
    let id = engine.build("demo/app:1", "FROM demo/box:1\nRUN echo one > /one\n", &[]);
    engine.docker(["tag", "demo/app:1", "demo/app:stable"]);
    engine.docker(["create", "--name", "app", "demo/app:stable"]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let path = "/images/web/demo%2Fapp/1";
    let provides: Vec<_> = item(&inventory, path)
        .provides
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        provides,
        [
            format!("image:demo/app:1@{id}"),
            format!("image:demo/app:stable@{id}")
        ]
    );
    assert_eq!(
        rule(item(&inventory, "/images/web/demo%2Fbox/1")),
        "not-in-use"
    );

    let (tree, _) = capture(&source, &inventory, path);
    let image: ImageDefinition = from_bytes(&tree.node("1/image.json").content).unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.tags, ["demo/app:1", "demo/app:stable"]);
    assert_eq!(image.diff_ids.len(), 2);
    for diff_id in &image.diff_ids {
        tree.node(&format!("1/blobs/sha256/{}", &diff_id[7..]));
    }

    let folder = tempfile::tempdir().unwrap();
    write(&tree, folder.path());
    let archive = folder.path().join("a.tar");
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("oci:{}", folder.path().join("1").display()))
        .arg(format!("docker-archive:{}:again:1", archive.display()))
        .output();
    let Ok(copied) = copied else {
        refloat_testkit::skip("skopeo is not installed");
        return;
    };
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    engine.docker(["rm", "app"]);
    engine.docker(["rmi", "demo/app:1", "demo/app:stable"]);
    engine.docker(["load", "-i", &archive.display().to_string()]);
    assert_eq!(
        engine.docker(["image", "inspect", "-f", "{{.Id}}", "again:1"]),
        id
    );
}

#[test]
fn only_what_the_parent_does_not_have_is_exported() {
    let Some(engine) = engine() else { return };
    let dockerfile = "FROM demo/box:1\nRUN echo one > /one\n";
    engine.build("demo/app:1", dockerfile, &[]);
    let options = || Options {
        images: ImageSelection::All,
        ..Options::default()
    };
    let source = connect(&engine, options());
    let path = "/images/web/demo%2Fapp/1";
    let (first, _) = capture(&source, &discover(&source), path);

    // Unchanged: the whole layout is taken over.
    let inventory = discover(&source);
    let mut again = Tree::with_parent(&first);
    try_capture(&source, &inventory, path, &mut again).unwrap();
    again.assert_whole();
    assert_eq!(again.nodes, first.nodes);
    assert!(
        again.reused.contains(&"1/blobs".to_owned()),
        "{:?}",
        again.reused
    );

    // A new build on the same base: the base's layer is taken over, the rest is new.
    let changed = format!("{dockerfile}RUN echo two > /two\n");
    let id = engine.build("demo/app:1", &changed, &[]);
    let inventory = discover(&source);
    let mut second = Tree::with_parent(&first);
    try_capture(&source, &inventory, path, &mut second).unwrap();
    second.assert_whole();
    let image: ImageDefinition = from_bytes(&second.node("1/image.json").content).unwrap();
    assert_eq!((image.id.as_str(), image.diff_ids.len()), (id.as_str(), 3));
    let reused: BTreeSet<_> = second.reused.iter().cloned().collect();
    let base: BTreeSet<_> = image.diff_ids[..2]
        .iter()
        .map(|id| format!("1/blobs/sha256/{}", &id[7..]))
        .collect();
    assert_eq!(reused, base);
    let (fresh, _) = capture(&source, &inventory, path);
    assert_eq!(
        second.nodes, fresh.nodes,
        "taken over or exported: the same tree"
    );
}

#[test]
fn images_that_are_not_captured_are_missing_and_untagged_ones_are_found() {
    let Some(engine) = engine() else { return };
    engine.docker(["create", "--name", "old", IMAGE]);
    let id = engine.docker(["image", "inspect", "-f", "{{.Id}}", IMAGE]);
    engine.build(IMAGE, "FROM demo/box:1\nRUN echo new > /new\n", &[]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let path = format!("/images/web/_untagged/{}", &id[7..]);
    let untagged = item(&inventory, &path);
    assert_eq!(rule(untagged), "");
    let requires = &item(&inventory, "/docker/web/containers/old.json").requires;
    assert!(
        untagged.provides.iter().any(|p| requires.contains(p)),
        "{untagged:?} {requires:?}"
    );

    let options = Options {
        images: ImageSelection::None,
        ..Options::default()
    };
    let source = connect(&engine, options);
    let inventory = discover(&source);
    let left_out = item(&inventory, &path);
    assert_eq!(rule(left_out), "not-selected");
    // Whoever needs it is told by which rule it is missing.
    assert_eq!(left_out.provides, untagged.provides);
}
