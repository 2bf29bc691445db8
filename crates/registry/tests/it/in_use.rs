//! Images in use, looked for in a registry that says much or is asked for little.

use refloat_model::cancel::Cancel;
use refloat_model::item::{ImageUse, Inventory};
use refloat_model::subject::{Subject, SubjectKind};
use refloat_source::Source as _;
use serde_json::json;

use crate::images::{Blob, INDEX, Image, image, noise};
use crate::misbehaving::{Fake, Good};
use crate::misbehaviour::{options, source};

/// What is said of an image in use, and how many items bring it back.
fn find(good: Good, id: &str) -> (Vec<String>, usize) {
    let (told, providing) = find_on(good, id, &[], &[]);
    let told = told
        .into_iter()
        .filter(|text| text.contains("the tag moved"));
    (told.collect(), providing)
}

/// The same of one that runs on these platforms, where the policy chooses those.
fn find_on(good: Good, id: &str, runs_on: &[&str], chosen: &[&str]) -> (Vec<String>, usize) {
    let fake = Fake::start(move |asked, _| good.answer(asked));
    let host = fake.address::<refloat_registry::Address>();
    let mut options = options();
    options.platforms = chosen.iter().map(|text| text.parse().unwrap()).collect();
    let source = source(&fake, options);
    let cancel = Cancel::default();
    let mut inventory: Inventory = source.discover(&cancel).unwrap();
    let used = ImageUse {
        subject: Subject::new("", SubjectKind::Image, "x"),
        reference: format!("{}/app:1", host.to_string().trim_start_matches("http://")),
        digests: Vec::new(),
        id: id.to_owned(),
        platforms: runs_on.iter().map(|&text| text.to_owned()).collect(),
    };
    source
        .find_images(std::slice::from_ref(&used), &mut inventory, &cancel)
        .unwrap();
    let providing = inventory.items.iter();
    let providing = providing.filter(|item| item.provides.contains(&used.subject));
    let told = inventory.findings.iter().map(|f| f.message.clone());
    (told.collect(), providing.count())
}

/// Machines say no variant, whatever the policy chooses.
#[test]
fn a_platform_that_runs_and_is_not_chosen_is_told() {
    let wanted = image("amd64", &[noise(1, 10)]);
    let told = |runs_on: &[&str], chosen: &[&str]| {
        let arm = json!({"os": "linux", "architecture": "arm64"});
        let (registry, _) = list(&wanted, 1, &arm);
        find_on(registry, &wanted.blobs[0].digest, runs_on, chosen).0
    };
    let both = ["linux/amd64", "linux/arm64"];
    assert_eq!(
        told(&both, &["linux/amd64"]),
        [
            "it runs on linux/arm64 as well, which `platforms` does not choose: what an index has for \
          that is not captured"
        ]
    );
    assert!(told(&both, &[]).is_empty());
    assert!(told(&both, &["linux/amd64", "linux/arm64/v8"]).is_empty());
}

/// An index of one image behind so many others.
fn list(wanted: &Image, others: usize, platform: &serde_json::Value) -> (Good, Blob) {
    let mut registry = Good::of("other", wanted);
    let mut children = Vec::new();
    for seed in 0..others {
        let other = image("other", &[noise(seed as u64 + 10, 10)]);
        let mut child = other.manifest.descriptor();
        child["platform"] = platform.clone();
        children.push(child);
        registry.add(&other);
    }
    let mut child = wanted.manifest.descriptor();
    child["platform"] = json!({"os": "linux", "architecture": "amd64"});
    // The wanted one comes last: that is what a limit cuts off.
    children.insert(0, child);
    children.reverse();
    let list = Blob::new(
        INDEX,
        json!({"schemaVersion": 2, "manifests": children}).to_string(),
    );
    registry.tag("1", &list);
    (registry, list)
}

#[test]
fn attestations_do_not_hide_the_image_that_runs() {
    let wanted = image("amd64", &[noise(1, 10)]);
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let (registry, _) = list(&wanted, 70, &unknown);
    assert_eq!(find(registry, &wanted.blobs[0].digest), (Vec::new(), 1));
}

#[test]
fn what_was_not_looked_at_to_its_end_has_not_moved() {
    let wanted = image("amd64", &[noise(1, 10)]);
    let arm = json!({"os": "linux", "architecture": "arm64"});
    let (registry, _) = list(&wanted, 70, &arm);
    assert_eq!(find(registry, &wanted.blobs[0].digest), (Vec::new(), 1));
    // Looked at to its end, it has.
    let (registry, _) = list(&wanted, 3, &arm);
    let (told, providing) = find(registry, &Blob::new("", "strange").digest);
    assert_eq!((told.len(), providing), (1, 0));
}

#[test]
fn an_id_may_be_a_manifests_or_an_indexs() {
    let wanted = image("amd64", &[noise(1, 10)]);
    let arm = json!({"os": "linux", "architecture": "arm64"});
    for of_index in [true, false] {
        let (registry, index) = list(&wanted, 2, &arm);
        let id = if of_index { &index } else { &wanted.manifest };
        assert_eq!(find(registry, &id.digest), (Vec::new(), 1));
    }
}
