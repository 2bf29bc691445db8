//! What a point says of what it lacks.

use refloat_engine::stored::gaps;
use refloat_model::finding::Finding;
use refloat_model::item::{Item, ItemKind};
use refloat_model::point::PointRecord;
use refloat_model::tree_path::TreePath;

use crate::playground::{Behaviour, Playground, item, volume};

fn holds(content: &str) -> Behaviour {
    Behaviour::Holds(content.to_owned())
}

/// Of the newest point: `error: volume a: is not in …`.
fn told(ground: &Playground, record: &PointRecord, path: &str) -> Vec<String> {
    let path = TreePath::parse(path).unwrap();
    let found = gaps(&ground.newest(), record, &path).into_iter();
    found
        .map(|f| format!("{:?} {}: {}", f.severity, f.subject, f.message))
        .collect()
}

const GONE: &str = "Error volume a: is not in this point: cannot read a: it is gone";
const PART: &str = "Error volume b: is in this point in part only, 1 entries are missing: \
    b/secret: permission denied";
const UNSEEN: &str = "Error secrets: these credentials cannot list secrets";
const DOWN: &str = "Error source other: cannot be reached";

/// A folder of objects where clusters have them.
fn objects(resource: &str) -> Item {
    let path = format!("/fake/web/resources/core/v1/{resource}/shop");
    Item {
        path: TreePath::parse(path).unwrap(),
        ..item(ItemKind::Object, resource, None)
    }
}

#[test]
fn what_failed_or_was_not_seen_is_a_gap_of_every_place_that_it_belongs_to() {
    let mut ground = Playground::new();
    ground.findings = vec![Finding::error(
        "secrets",
        "these credentials cannot list secrets",
    )];
    let items = [
        (volume("a"), Behaviour::Fails),
        (volume("b"), Behaviour::FailsInPart),
        (volume("c"), holds("bytes")),
        (objects("secrets"), holds("the beginning of the list")),
        (objects("configmaps"), holds("all")),
    ];
    let mut record = ground.back_up(&items, &[]).unwrap().record;
    let down = Finding::error("source other", "cannot be reached");
    record.findings.push(down);
    let at = |path: &str| told(&ground, &record, path);
    assert_eq!(at("/"), [UNSEEN, DOWN, GONE, PART]);
    // Beside a source of this kind it may be one of another.
    let other = "Warning source other: cannot be reached";
    assert_eq!(at("/fake"), [UNSEEN, GONE, PART, other]);
    assert_eq!(at("/docker"), [DOWN]);
    assert_eq!(at("/fake/web"), [UNSEEN, GONE, PART]);
    // Of the one source, and of a kind of it that could be read in part.
    for (path, expected) in [
        ("/fake/web/volume/a", vec![GONE]),
        ("/fake/web/volume/b", vec![PART]),
        ("/fake/web/volume/b/secret", vec![PART]),
        ("/fake/web/volume/b/secret/below", vec![PART]),
        ("/fake/web/volume/b/secrets", vec![]),
        ("/fake/web/volume/b/file", vec![]),
        ("/fake/web/volume/c", vec![]),
        ("/fake/web/resources/core/v1/configmaps/shop", vec![]),
        ("/fake/web/resources/core/v1/secrets/shop/x", vec![UNSEEN]),
        ("/fake/web/resources", vec![UNSEEN]),
        ("/fake/another", vec![]),
        ("/manifest/web/items.jsonl", vec![]),
    ] {
        assert_eq!(at(path), expected, "{path}");
    }
}

#[test]
fn what_is_there_and_was_doubted_is_a_warning() {
    let mut ground = Playground::new();
    ground
        .back_up(&[(volume("a"), holds("bytes"))], &[])
        .unwrap();
    ground.quiesce_fails = true;
    let record = ground
        .back_up(&[(volume("a"), holds(""))], &[])
        .unwrap()
        .record;
    let doubt = "Warning volume a: is empty now; \
        the copy of 2026-09-21T15:13:20Z held 7 bytes in 2 files";
    let held = "Warning project shop: could not be made consistent: \
        cannot quiesce shop: its command failed";
    assert_eq!(told(&ground, &record, "/"), [held, doubt]);
    assert_eq!(told(&ground, &record, "/fake/web/volume/a"), [doubt]);
}

#[test]
fn a_point_that_cannot_tell_is_not_taken_for_whole() {
    let mut ground = Playground::new();
    let items = [(volume("a"), holds("bytes"))];
    let mut record = ground.back_up(&items, &[]).unwrap().record;
    assert_eq!(told(&ground, &record, "/"), [""; 0]);
    // Made before it was written down of which source an error is.
    let source = record.sources.get_mut("web").unwrap();
    source.errors = None;
    let unseen = Finding::error("secrets", "these credentials cannot list secrets");
    record.findings.push(unseen);
    assert_eq!(told(&ground, &record, "/"), [UNSEEN]);
    // Its manifest is not there.
    let lost = record.sources["web"].clone();
    record.sources.insert("lost".into(), lost);
    let told = told(&ground, &record, "/fake/lost");
    assert_eq!(
        told,
        [
            "Error source lost: nobody can tell what is missing: cannot read \
            /manifest/lost/items.jsonl: there is no /manifest/lost/items.jsonl"
        ]
    );
}
