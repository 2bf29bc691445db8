//! F1: whatever a registry says, or a point holds of it, is taken or refused without a panic; names
//! that are taken can stand in a URL and as a file's name.

use refloat_model::tree_path::TreePath;
use refloat_testkit::fuzz::{Target, run};
use ureq::http::{HeaderMap, HeaderValue, header};

use crate::address::Address;
use crate::digest::Digest;
use crate::http::{next_page, resolve};
use crate::layout::{self, RepositoryRecord};
use crate::manifest::{Descriptor, Manifest, index_text};
use crate::name::{EngineName, ImageName, RepositoryName, Tag};
use crate::platform::Platform;
use crate::restore::{ImageRecord, Index};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn json(value: serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(&value).unwrap()
}

fn descriptor(media_type: &str) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": format!("sha256:{HEX}"), "size": 12,
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        "annotations": {"org.opencontainers.image.ref.name": "1.0"},
    })
}

fn documents<'a>() -> Vec<Target<'a>> {
    let image = json(serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        "subject": descriptor("application/vnd.oci.image.manifest.v1+json"),
    }));
    let index = json(serde_json::json!({
        "schemaVersion": 2, "manifests": [descriptor("x"), descriptor("y")],
    }));
    let schema_1 = json(serde_json::json!({
        "schemaVersion": 1, "fsLayers": [{"blobSum": HEX}], "signatures": [],
    }));
    let record = json(serde_json::json!({
        "version": 1, "registry": "h:5000", "repository": "team/app",
        "absent": [format!("sha256:{HEX} (linux/arm64, not chosen)")],
    }));
    let image_record = json(serde_json::json!({
        "id": format!("sha256:{HEX}"), "tags": ["postgres:15", "h:5000/team/app:1.2"],
        "repo_digests": [format!("postgres@sha256:{HEX}")], "size_bytes": 7,
    }));
    vec![
        Target::new("manifest", [image, index.clone(), schema_1], |bytes| {
            let digest = Digest::of(bytes);
            for declared in ["", "application/vnd.oci.image.index.v1+json", "text/html"] {
                let Ok(manifest) = Manifest::parse(&digest, bytes, declared) else {
                    continue;
                };
                // What was read can be listed, and reads back the same.
                let text = index_text(&manifest.children);
                let again = Manifest::parse(&Digest::of(&text), &text, "").unwrap();
                assert_eq!(again.children, manifest.children);
            }
        }),
        Target::new("index of a layout", [index], |bytes| {
            if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
                // What was read can be written, and reads back the same.
                let text = serde_json::to_vec(&index.manifests).unwrap();
                let again: Vec<Descriptor> = serde_json::from_slice(&text).unwrap();
                assert_eq!(again, index.manifests);
            }
        }),
        Target::new("record of an engine's image", [image_record], |bytes| {
            if let Ok(image) = serde_json::from_slice::<ImageRecord>(bytes) {
                for name in &image.tags {
                    let _name = name.parse::<EngineName>();
                }
            }
        }),
        Target::new("record of a repository", [record], |bytes| {
            drop(serde_json::from_slice::<RepositoryRecord>(bytes));
        }),
    ]
}

fn names<'a>() -> Vec<Target<'a>> {
    let repository = |name: &RepositoryName| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
        assert!(name.as_str().bytes().all(plain), "{name}");
        // One component below the source's, and nothing above it.
        let path: TreePath = layout::repository("hub", name);
        assert_eq!(path.components().len(), 3, "{name}");
    };
    let image = format!("team/app@sha256:{HEX}");
    let engine = format!("registry.local:5000/team/app:1.2@sha256:{HEX}");
    let signature = format!("sha256-{HEX}.sig");
    vec![
        Target::text("repository", ["team/app_x.y-z", "a"], move |text| {
            if let Ok(name) = text.parse() {
                repository(&name);
            }
        }),
        Target::text("tag", ["1.2", &signature], |text| {
            if let Ok(tag) = text.parse::<Tag>() {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                assert!(tag.as_str().bytes().all(plain) && tag.as_str().len() <= 128);
                let _subject = tag.subject();
            }
        }),
        Target::text("image", ["team/app:1.2", &image], |text| {
            if let Ok(name) = text.parse::<ImageName>() {
                assert_eq!(name.to_string().parse(), Ok(name));
            }
        }),
        Target::text("image of an engine", ["postgres:15", &engine], |text| {
            if let Ok(name) = text.parse::<EngineName>() {
                assert_eq!(EngineName::host(&name.host), name.host);
            }
        }),
        Target::text("digest", [format!("sha256:{HEX}")], |text| {
            if let Ok(digest) = Digest::parse(text) {
                assert_eq!(digest.to_string(), text);
            }
        }),
        Target::text("platform", ["linux/arm64/v8", "windows/amd64"], |text| {
            if let Ok(platform) = text.parse::<Platform>() {
                assert_eq!(platform.to_string().parse(), Ok(platform));
            }
        }),
        Target::text(
            "address",
            ["https://h:5000", "docker.io", "http://[::1]:1/p"],
            |text| {
                if let Ok(address) = text.parse::<Address>() {
                    assert!(!address.to_string().contains('@'), "{address}");
                    let _loopback = address.is_loopback();
                }
            },
        ),
    ]
}

fn links<'a>() -> Vec<Target<'a>> {
    const BASE: &str = "https://h:5000/v2/_catalog?n=1";
    let is_ours = |url: &str| {
        let rest = url
            .strip_prefix("https://h:5000")
            .unwrap_or_else(|| panic!("{url}"));
        assert!(
            rest.is_empty() || rest.starts_with(['/', '?', '#']),
            "{url}"
        );
    };
    vec![
        Target::new(
            "link header",
            [
                "</v2/_catalog?last=b&n=1>; rel=\"next\"",
                "<https://h:5000/x>; rel=next, <y>",
            ],
            move |bytes| {
                let Ok(value) = HeaderValue::from_bytes(bytes) else {
                    return;
                };
                let headers = HeaderMap::from_iter([(header::LINK, value)]);
                if let Ok(Some(url)) = next_page(BASE, &headers) {
                    is_ours(&url);
                }
            },
        ),
        Target::text(
            "location",
            ["/v2/app/blobs/uploads/1?s=x", "https://cdn/x"],
            |text| {
                if let Ok(url) = resolve(BASE, text) {
                    assert!(url.starts_with("https://"), "{url}");
                }
            },
        ),
    ]
}

#[test]
fn nothing_a_registry_says_makes_a_parser_panic() {
    let mut targets = documents();
    targets.extend(names());
    targets.extend(links());
    run("F1 parsers of the registry", &targets);
}
