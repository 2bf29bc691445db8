//! Exports in every form engines give them.

use refloat_model::entry::{Content, SinkError};
use refloat_testkit::fuzz::{Target, run};

use super::*;
use crate::capture::kept::Kept;

/// Keeps blobs by name.
#[derive(Default)]
struct Blobs {
    kept: BTreeMap<String, Vec<u8>>,
    failures: Vec<String>,
}

impl TreeSink for Blobs {
    fn enter(&mut self, _: Entry) -> Result<(), SinkError> {
        panic!("blobs only")
    }
    fn leave(&mut self) -> Result<(), SinkError> {
        panic!("blobs only")
    }
    fn file(&mut self, _: Entry, _: Box<dyn Content>) -> Result<(), SinkError> {
        panic!("streams only")
    }
    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        let name = String::from_utf8(file.name).unwrap();
        match content.read_to_end(&mut bytes) {
            Ok(_) => drop(self.kept.insert(name, bytes)),
            Err(error) => self.failures.push(error.to_string()),
        }
        Ok(())
    }
    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
        panic!("blobs only")
    }
    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }
    fn fail(&mut self, _: &[u8], reason: String) {
        self.failures.push(reason);
    }
}

fn tar(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Runs passes as capture does.
fn export(members: &[(&str, &str)], wanted: &[&str], reused: &[&str]) -> (Blobs, Exported) {
    let digests = |contents: &[&str]| {
        let list = contents
            .iter()
            .map(|content| digest_hex(content.as_bytes()));
        list.collect::<BTreeSet<_>>()
    };
    let reused = digests(reused);
    let mut pass = Pass {
        reused: &reused,
        learnt: BTreeMap::new(),
        wanted: digests(wanted),
        exported: Exported::default(),
    };
    let tar = tar(members);
    let mut blobs = Blobs::default();
    pass.run(&tar[..], &mut blobs, &Cancel::default()).unwrap();
    if pass.unstored() {
        pass.run(&tar[..], &mut blobs, &Cancel::default()).unwrap();
    }
    (blobs, pass.exported)
}

fn kept(blobs: &Blobs) -> BTreeSet<&str> {
    blobs
        .kept
        .values()
        .map(|bytes| std::str::from_utf8(bytes).unwrap())
        .collect()
}

#[test]
fn every_form_of_export_gives_the_same_blobs() {
    let hex = |content: &str| digest_hex(content.as_bytes());
    let old_docker = [
        ("1f/VERSION".to_owned(), "1.0"),
        ("1f/layer.tar".to_owned(), "base"),
        ("2e/layer.tar".to_owned(), "top"),
        (format!("{}.json", hex("config")), "config"),
        ("manifest.json".to_owned(), "[]"),
    ];
    let new_docker = [
        (format!("blobs/sha256/{}", hex("base")), "base"),
        (format!("blobs/sha256/{}", hex("config")), "config"),
        (format!("blobs/sha256/{}", hex("top")), "top"),
        ("index.json".to_owned(), "{}"),
        ("oci-layout".to_owned(), "{}"),
    ];
    let podman = [
        (format!("{}.tar", hex("base")), "base"),
        (format!("{}.tar", hex("top")), "top"),
        (format!("{}.json", hex("config")), "config"),
        ("repositories".to_owned(), "{}"),
        ("manifest.json".to_owned(), "[]"),
    ];
    for members in [&old_docker, &new_docker, &podman] {
        let members: Vec<_> = members.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        let (blobs, exported) = export(&members, &["config", "base", "top"], &[]);
        assert_eq!(kept(&blobs), BTreeSet::from(["base", "config", "top"]));
        assert_eq!(exported.sizes.len(), 3);
        assert_eq!(exported.sizes[&hex("config")], 6);
        assert!(blobs.failures.is_empty());
        // The base is in the parent: its size is told, its content is not read into the tree.
        let (blobs, exported) = export(&members, &["config", "base", "top"], &["base"]);
        assert_eq!(kept(&blobs), BTreeSet::from(["config", "top"]));
        assert_eq!(exported.sizes[&hex("base")], 4);
    }
}

#[test]
fn forged_blobs_and_hostile_names_are_not_kept() {
    let forged = format!("blobs/sha256/{}", digest_hex(b"base"));
    let short = format!("blobs/sha256/{}", &digest_hex(b"top")[..60]);
    let (blobs, exported) = export(
        &[
            (&forged, "evil"),
            (&short, "top"),
            ("../../etc/layer.tar", "evil"),
            ("/blobs/sha256/x", "evil"),
            ("x/layer.tar", "stranger"),
        ],
        &["base", "top"],
        &[],
    );
    assert_eq!(kept(&blobs), BTreeSet::new());
    assert_eq!(exported.sizes, BTreeMap::new());
    assert_eq!(
        exported.refused,
        [r#""../../etc/layer.tar""#, r#""/blobs/sha256/x""#]
    );
    let why = format!("the content is not sha256:{}", digest_hex(b"base"));
    assert_eq!(blobs.failures, [why]);
}

#[test]
fn no_export_makes_capture_panic_or_keep_what_is_not_what_its_name_says() {
    let hex = |content: &str| digest_hex(content.as_bytes());
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}"#;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"sha256:{}","size":{}}},"layers":[{{"digest":"sha256:{}","size":4}}]}}"#,
        hex(config),
        config.len(),
        hex("base"),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"sha256:{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        hex(&manifest),
        manifest.len(),
    );
    let blob = |content: &str| format!("blobs/sha256/{}", hex(content));
    let kept = tar(&[
        (&blob("base"), "base"),
        (&blob(config), config),
        (&blob(&manifest), &manifest),
        (&blob(&index), &index),
        ("index.json", "{}"),
    ]);
    let old = tar(&[
        ("1f/layer.tar", "base"),
        (&format!("{}.json", hex(config)), config),
        ("manifest.json", "[]"),
    ]);
    let image = ImageDefinition::from_inspect(
        serde_json::from_str(&format!(
            r#"{{"Id":"sha256:{}","Os":"linux","Architecture":"amd64"}}"#,
            hex(&index)
        ))
        .unwrap(),
    );
    let target = Target::new("export of an engine", [kept, old], |bytes| {
        let reused = BTreeSet::new();
        let mut pass = Pass {
            reused: &reused,
            learnt: BTreeMap::new(),
            wanted: BTreeSet::from([hex("base")]),
            exported: Exported::default(),
        };
        let mut blobs = Blobs::default();
        if pass.run(bytes, &mut blobs, &Cancel::default()).is_ok() && pass.unstored() {
            drop(pass.run(bytes, &mut blobs, &Cancel::default()));
        }
        for (name, content) in &blobs.kept {
            assert_eq!(*name, digest_hex(content));
        }
        let whole = Kept::of(&image, &pass.exported);
        assert_eq!(whole.index.is_some(), whole.missing.is_empty());
        if whole.index.is_some() {
            assert!(blobs.kept.contains_key(&hex("base")) && blobs.kept.contains_key(&hex(config)));
        }
    });
    run("F1 exports of engines", &[target]);
}
