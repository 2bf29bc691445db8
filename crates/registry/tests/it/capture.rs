//! Capturing from a real registry.

use std::fs;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::glob::Glob;
use refloat_model::outcome::Outcome;
use refloat_model::tree_path::TreePath;
use refloat_registry::{RegistryOptions, RegistrySource, Repositories};
use refloat_source::Source as _;

use crate::images::{Blob, DOCKER_MANIFEST, Remote, image, image_of, index, noise, referrer};
use crate::memory::{Node, back_up, capture};
use crate::server::Server;

pub fn source(server: &Server, options: RegistryOptions) -> RegistrySource {
    RegistrySource::connect("hub", &server.address(), options).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn file<'n>(root: &'n Node, text: &str) -> &'n [u8] {
    match root.at(&path(text)) {
        Some(Node::File(bytes)) => bytes,
        other => panic!("{text} is {other:?}"),
    }
}

#[test]
fn everything_is_captured_byte_for_byte_and_each_blob_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let base = noise(1, 3_000_000);
    let amd = image("amd64", &[base.clone(), noise(2, 10)]);
    let arm = image("arm64", &[base.clone(), noise(3, 0)]);
    let list = index(&[("amd64", &amd), ("arm64", &arm)]);
    for image in [&amd, &arm] {
        remote.push("team/app", &image.manifest.digest, image);
    }
    for tag in ["1.0", "latest"] {
        assert_eq!(remote.put_manifest("team/app", tag, &list), 201);
    }
    let docker = image_of(DOCKER_MANIFEST, "amd64", &[base]);
    remote.push("team/app", "docker", &docker);
    remote.push("other", "x", &amd);

    let run = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    assert_eq!(run.failures(), "");
    let root = &run.point.root;
    for blob in [&list, &amd.manifest, &arm.manifest, &docker.manifest]
        .into_iter()
        .chain(&amd.blobs)
        .chain(&arm.blobs)
        .chain(&docker.blobs)
    {
        let name = blob.digest.strip_prefix("sha256:").unwrap();
        let stored = file(root, &format!("/images/hub/team%2Fapp/blobs/sha256/{name}"));
        assert_eq!(stored, blob.bytes);
    }
    // 4 manifests, 3 configurations, 3 different layers; and 4 files of ours.
    assert_eq!(run.figures["team/app"].streamed.len(), 10 + 4);
    let index: serde_json::Value =
        serde_json::from_slice(file(root, "/images/hub/team%2Fapp/index.json")).unwrap();
    let named: Vec<(&str, &str, &str)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            let tag = m["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .unwrap();
            (
                tag,
                m["digest"].as_str().unwrap(),
                m["mediaType"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("1.0", &list),
        ("docker", &docker.manifest),
        ("latest", &list),
    ];
    let expected = expected.map(|(tag, m)| (tag, m.digest.as_str(), m.media_type.as_str()));
    assert_eq!(named, expected);
    let item = run
        .inventory
        .items
        .iter()
        .find(|item| item.title == "team/app")
        .unwrap();
    let provided: Vec<String> = item.provides.iter().map(|s| s.name.clone()).collect();
    let mut digests = [&list.digest, &docker.manifest.digest];
    digests.sort();
    assert_eq!(
        provided,
        digests.map(|digest| format!("{}/team/app@{digest}", server.host()))
    );
}

#[test]
fn an_unchanged_repository_costs_no_more_than_looking_at_tags() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let old = image("amd64", &[noise(1, 100_000)]);
    remote.push("app", "1", &old);
    let options = RegistryOptions::default;
    let first = back_up(&source(&server, options()), None).unwrap();

    // Were anything but tags and digests asked for, it would fail now.
    let layer = &old.blobs[1];
    fs::remove_file(server.blob_file(&layer.digest)).unwrap();
    let second = back_up(&source(&server, options()), Some(&first.point)).unwrap();
    assert_eq!(second.failures(), "");
    assert_eq!(second.figures["app"].streamed, [] as [String; 0]);
    assert_eq!(second.point.root, first.point.root);

    // A new tag: what the parent has is taken over, also what the registry has lost meanwhile.
    let new = image("arm64", &[noise(1, 100_000), noise(2, 1000)]);
    remote.push(
        "app",
        "2",
        &Image2 {
            of: &new,
            without: &layer.digest,
        }
        .pushed(&remote),
    );
    fs::remove_file(server.blob_file(&layer.digest)).unwrap();
    let third = back_up(&source(&server, options()), Some(&second.point)).unwrap();
    assert_eq!(third.failures(), "");
    let streamed = &third.figures["app"].streamed;
    assert!(
        streamed.contains(&new.blobs[2].digest[7..].to_owned()),
        "{streamed:?}"
    );
    assert!(
        !streamed.contains(&layer.digest[7..].to_owned()),
        "{streamed:?}"
    );
    assert!(
        third.figures["app"]
            .reused
            .contains(&layer.digest[7..].to_owned())
    );
    let stored = file(
        &third.point.root,
        &format!("/images/hub/app/blobs/sha256/{}", &layer.digest[7..]),
    );
    assert_eq!(stored, layer.bytes);
}

/// Pushes one blob again first, so that the registry accepts a manifest that names it.
struct Image2<'a> {
    of: &'a crate::images::Image,
    without: &'a str,
}

impl Image2<'_> {
    fn pushed(&self, remote: &Remote) -> crate::images::Image {
        let blob = self
            .of
            .blobs
            .iter()
            .find(|blob| blob.digest == self.without)
            .unwrap();
        remote.push_blob("app", blob);
        crate::images::Image {
            manifest: self.of.manifest.clone(),
            blobs: self
                .of
                .blobs
                .iter()
                .filter(|b| b.digest != self.without)
                .cloned()
                .collect(),
        }
    }
}

#[test]
fn signatures_come_along_by_both_tag_schemes_also_past_a_tag_filter() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let (wanted, other) = (
        image("amd64", &[noise(1, 50)]),
        image("arm64", &[noise(2, 50)]),
    );
    remote.push("app", "v1", &wanted);
    remote.push("app", "dev", &other);
    let hex = wanted.manifest.digest.replace(':', "-");
    let sbom = referrer(&wanted.manifest, "application/spdx+json", b"sbom");
    remote.push("app", &sbom.manifest.digest, &sbom);
    let list = index(&[("unknown", &sbom)]);
    assert_eq!(remote.put_manifest("app", &hex, &list), 201);
    let signature = referrer(&wanted.manifest, "cosign", b"signature");
    remote.push("app", &format!("{hex}.sig"), &signature);
    let foreign = referrer(&other.manifest, "cosign", b"other");
    let foreign_tag = format!("{}.sig", other.manifest.digest.replace(':', "-"));
    remote.push("app", &foreign_tag, &foreign);

    let options = RegistryOptions {
        select_tags: vec![refloat_model::glob::Glob::new("v*").unwrap()],
        ..RegistryOptions::default()
    };
    let run = back_up(&source(&server, options), None).unwrap();
    assert_eq!(run.failures(), "");
    let has = |blob: &Blob| {
        let text = format!("/images/hub/app/blobs/sha256/{}", &blob.digest[7..]);
        run.point.root.at(&path(&text)).is_some()
    };
    assert!(
        [&wanted.manifest, &sbom.manifest, &list, &signature.manifest]
            .into_iter()
            .all(has)
    );
    assert!(signature.blobs.iter().all(has) && sbom.blobs.iter().all(has));
    assert!(!has(&other.manifest) && !has(&foreign.manifest));
}

#[test]
fn chosen_platforms_and_listed_images_leave_the_rest_out_by_name() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let (amd, arm) = (
        image("amd64", &[noise(1, 50)]),
        image("arm64", &[noise(2, 50)]),
    );
    let list = index(&[("amd64", &amd), ("arm64", &arm)]);
    for image in [&amd, &arm] {
        remote.push("app", &image.manifest.digest, image);
    }
    assert_eq!(remote.put_manifest("app", "1", &list), 201);
    remote.push("app", "2", &arm);
    let options = RegistryOptions {
        repositories: Repositories::Images(vec!["app:1".parse().unwrap()]),
        platforms: vec!["linux/amd64".parse().unwrap()],
        config_file: Some(server.config()),
        ..RegistryOptions::default()
    };
    let run = back_up(&source(&server, options), None).unwrap();
    assert_eq!(run.failures(), "");
    let blob = |b: &Blob| path(&format!("/images/hub/app/blobs/sha256/{}", &b.digest[7..]));
    assert!(run.point.root.at(&blob(&amd.manifest)).is_some());
    assert!(run.point.root.at(&blob(&arm.manifest)).is_none());
    let record = String::from_utf8_lossy(file(&run.point.root, "/images/hub/app/repository.json"));
    let absent = format!("{} (linux/arm64, not chosen)", arm.manifest.digest);
    assert!(record.contains(&absent), "{record}");
    let config = file(&run.point.root, "/images/hub/_registry-config");
    assert_eq!(config, fs::read(server.config()).unwrap());
}

/// A slip in a policy must not look like a registry without images.
#[test]
fn choices_that_fit_nothing_are_told() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let amd = image("amd64", &[noise(1, 50)]);
    remote.push("app", &amd.manifest.digest, &amd);
    assert_eq!(
        remote.put_manifest("app", "1", &index(&[("amd64", &amd)])),
        201
    );
    let globs = ["app", "apt", "too*"].map(|pattern| Glob::new(pattern).unwrap());
    let options = RegistryOptions {
        select: globs.to_vec(),
        platforms: vec!["linux/amd46".parse().unwrap()],
        ..RegistryOptions::default()
    };
    let source = source(&server, options);
    let cancel = Cancel::default();
    let inventory = source.discover(&cancel).unwrap();
    let told: Vec<(Severity, &str)> = inventory
        .findings
        .iter()
        .map(|finding| (finding.severity, finding.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                Severity::Error,
                "the registry lists no repository apt, so none is saved"
            ),
            (
                Severity::Warning,
                "the registry lists no repository too*, so none is saved"
            ),
        ]
    );
    let (_, _, captured) = capture(&source, &inventory.items[0], None, &cancel).unwrap();
    let told: Vec<&str> = captured
        .findings
        .iter()
        .map(|f| f.message.as_str())
        .collect();
    assert_eq!(
        told,
        ["1 has none of the chosen platforms: nothing but its index is captured"]
    );
}

#[test]
fn what_the_registry_has_lost_is_named_and_the_rest_is_captured() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let (good, bad) = (
        image("amd64", &[noise(1, 500)]),
        image("arm64", &[noise(2, 500)]),
    );
    remote.push("app", "good", &good);
    remote.push("app", "bad", &bad);
    remote.push("empty", "x", &good);
    remote.delete_manifest("empty", &good.manifest.digest);
    let lost = &bad.blobs[1].digest;
    // Same length, other content.
    fs::write(server.blob_file(lost), noise(3, 500)).unwrap();
    let run = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    let found = refloat_registry::Digest::of(&noise(3, 500));
    assert_eq!(
        run.failures(),
        format!(
            "app/{}: the content is {found} and not {lost} (needed by bad)\n",
            &lost[7..]
        )
    );
    let empty = run
        .inventory
        .items
        .iter()
        .find(|item| item.title == "empty")
        .unwrap();
    assert!(matches!(&empty.skip, Some(Outcome::Skipped { rule, .. }) if rule == "empty"));
    // Not whole: no marker, so the next run asks again.
    let Some(Node::Directory(app)) = run.point.root.at(&path("/images/hub/app")) else {
        panic!()
    };
    let names: Vec<_> = app
        .keys()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(
        names,
        ["blobs", "index.json", "oci-layout", "repository.json"]
    );
    // Captured again from a registry that is well: the hole is filled, the rest taken over.
    fs::write(server.blob_file(lost), noise(2, 500)).unwrap();
    let again = back_up(
        &source(&server, RegistryOptions::default()),
        Some(&run.point),
    )
    .unwrap();
    assert_eq!(again.failures(), "");
    assert!(
        again.figures["app"]
            .streamed
            .contains(&lost[7..].to_owned())
    );
}
