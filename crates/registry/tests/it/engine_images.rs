//! Images of engines' own stores beside those of registries, restored into a folder.

use refloat_model::finding::Severity;
use refloat_model::item::{Item, ItemKind};
use refloat_model::plan::{RestorePlan, RestoreRequest};
use refloat_model::tree_path::TreePath;
use refloat_registry::LayoutTarget;
use refloat_source::{Description, Target as _};
use serde_json::{Value, json};

use crate::images::{Image, image, noise};
use crate::memory::Point;
use crate::roundtrip::{actions, restore};

fn text(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}

fn item(title: &str, path: &[&str]) -> Item {
    let path = path
        .iter()
        .fold(TreePath::root(), |path, name| path.child(name));
    Item::new(ItemKind::Image, title.to_owned(), path)
}

fn layout(image: &Image, tag: Option<&str>) -> Vec<(String, Vec<u8>)> {
    let mut root = image.manifest.descriptor();
    if let Some(tag) = tag {
        root["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    }
    let blobs = image.blobs.iter().chain([&image.manifest]);
    let blobs = blobs.map(|b| (format!("blobs/sha256/{}", &b.digest[7..]), b.bytes.clone()));
    let index = text(&json!({"schemaVersion": 2, "manifests": [root]}));
    blobs.chain([("index.json".to_owned(), index)]).collect()
}

fn add(point: &mut Point, source: (&str, &str), item: Item, files: Vec<(String, Vec<u8>)>) {
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    point.add(source, item, &files);
}

/// An image of an engine, with its names.
fn of_engine(point: &mut Point, image: &Image, names: &[&str]) {
    let mut files = layout(image, None);
    let record = json!({"tags": names, "repo_digests": []});
    files.push(("image.json".to_owned(), text(&record)));
    let hex = &image.blobs[0].digest[7..];
    let item = item(names[0], &["docker", "host", "images", hex]);
    add(point, ("host", "docker"), item, files);
}

/// `team/app:1` of the registry `registry.local:5000`.
fn of_registry(point: &mut Point, image: &Image) {
    let mut files = layout(image, Some("1"));
    let record = json!({
        "version": 1, "registry": "registry.local:5000", "repository": "team/app", "absent": [],
    });
    files.push(("repository.json".to_owned(), text(&record)));
    let item = item("team/app", &["images", "hub", "team/app"]);
    add(point, ("hub", "registry"), item, files);
}

fn point() -> Point {
    Point::empty(&Description {
        name: "empty".to_owned(),
        kind: "files",
        address: String::new(),
    })
}

fn images() -> (Image, Image) {
    let made = |seed| image("amd64", &[noise(seed, 100)]);
    (made(1), made(2))
}

fn warnings(plan: &RestorePlan) -> Vec<String> {
    let findings = plan.findings.iter();
    let warnings = findings.filter(|f| f.severity == Severity::Warning && f.subject.contains(':'));
    warnings
        .map(|f| format!("{}: {}", f.subject, f.message))
        .collect()
}

fn only(words: &[&str]) -> RestoreRequest {
    RestoreRequest {
        only: words.iter().map(|word| (*word).to_owned()).collect(),
        ..RestoreRequest::default()
    }
}

#[test]
fn another_image_of_the_same_name_in_another_registry_is_told_and_not_dropped() {
    let (ours, theirs) = images();
    let folder = tempfile::tempdir().unwrap();
    let target = LayoutTarget::new("out", folder.path());
    let mut point = point();
    of_registry(&mut point, &ours);
    of_engine(&mut point, &theirs, &["ghcr.io/team/app:1"]);
    let (plan, report) = restore(&target, &point, &RestoreRequest::default()).unwrap();
    assert_eq!(actions(&plan), ["create team/app:1", "skip team/app:1"]);
    assert!(report.is_complete());
    let [told] = warnings(&plan).try_into().unwrap();
    let begin =
        "ghcr.io/team/app:1: it is another image than registry.local:5000/team/app:1 of hub";
    assert!(told.starts_with(begin), "{told}");
    assert!(told.ends_with("--only image:ghcr.io/team/app:1"), "{told}");
    // By its whole name each is the one that is meant.
    for (host, expected) in [("ghcr.io", &theirs), ("registry.local:5000", &ours)] {
        let folder = tempfile::tempdir().unwrap();
        let target = LayoutTarget::new("out", folder.path());
        let request = only(&[&format!("image:{host}/team/app:1")]);
        let (plan, _) = restore(&target, &point, &request).unwrap();
        assert_eq!(actions(&plan), ["create team/app:1"], "{host}");
        let index = std::fs::read_to_string(folder.path().join("team%2Fapp/index.json")).unwrap();
        assert!(index.contains(&expected.manifest.digest), "{host}: {index}");
    }
    let request = only(&["image:quay.io/team/app:1"]);
    assert!(target.plan(&point, &request).is_err());
}

#[test]
fn the_same_image_from_an_engine_and_a_registry_is_restored_once() {
    let (ours, _) = images();
    let folder = tempfile::tempdir().unwrap();
    let target = LayoutTarget::new("out", folder.path());
    let mut point = point();
    of_registry(&mut point, &ours);
    of_engine(&mut point, &ours, &["ghcr.io/team/app:1"]);
    let plan = target.plan(&point, &RestoreRequest::default()).unwrap();
    assert_eq!(actions(&plan), ["create team/app:1"]);
    assert_eq!(warnings(&plan), [] as [String; 0]);
}

#[test]
fn images_of_engines_with_one_name_do_not_refuse_the_whole_restore() {
    let (ours, theirs) = images();
    let folder = tempfile::tempdir().unwrap();
    let target = LayoutTarget::new("out", folder.path());
    let mut point = point();
    of_engine(&mut point, &ours, &["quay.io/team/app:1", "own:1"]);
    of_engine(&mut point, &theirs, &["ghcr.io/team/app:1", "other:1"]);
    let (plan, report) = restore(&target, &point, &RestoreRequest::default()).unwrap();
    let mut done = actions(&plan);
    done.sort();
    let expected = [
        "create other:1",
        "create own:1",
        "create team/app:1",
        "skip team/app:1",
    ];
    assert_eq!(done, expected);
    assert!(report.is_complete());
    assert_eq!(warnings(&plan).len(), 1);
}

#[test]
fn an_image_that_cannot_be_read_is_named_and_the_others_are_restored() {
    let (ours, theirs) = images();
    let folder = tempfile::tempdir().unwrap();
    let target = LayoutTarget::new("out", folder.path());
    let mut point = point();
    of_engine(&mut point, &ours, &["own:1"]);
    let mut files = layout(&theirs, None);
    files.push(("image.json".to_owned(), b"{\"tags\": rot".to_vec()));
    let broken = item(
        "ghcr.io/team/broken:1",
        &["docker", "host", "images", "broken"],
    );
    add(&mut point, ("host", "docker"), broken, files);
    let (plan, report) = restore(&target, &point, &RestoreRequest::default()).unwrap();
    assert_eq!(
        actions(&plan),
        ["create own:1", "skip ghcr.io/team/broken:1"]
    );
    assert!(folder.path().join("own/index.json").exists());
    // What is missing of what was asked for makes the restore incomplete.
    let [finding] = report.findings.as_slice() else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(
        (finding.severity, finding.subject.as_str()),
        (Severity::Error, "ghcr.io/team/broken:1")
    );
    let begin = "missing in the recovery point: cannot read";
    assert!(finding.message.starts_with(begin), "{}", finding.message);
    // Who asks for something else is not told of it.
    let plan = target.plan(&point, &only(&["image:own:1"])).unwrap();
    assert_eq!(actions(&plan), ["reuse own:1"]);
    for word in [
        "image:team/broken:1",
        "image:ghcr.io/team/broken:1",
        "repository:team/broken",
    ] {
        let plan = target.plan(&point, &only(&[word])).unwrap();
        assert_eq!(actions(&plan), ["skip ghcr.io/team/broken:1"], "{word}");
    }
}
