//! Capture from real clusters.

use std::fs;
use std::path::Path;
use std::process::Command;

use refloat_etcd::{Access, Certificates, EtcdSource, Options};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::item::{Item, ItemKind};
use refloat_source::{Source as _, SourceError};

use crate::point::{Files, Point};
use refloat_testkit::etcd::{Server, Start, debian};

/// The source of a cluster without encryption.
pub fn source(endpoints: &[&str]) -> EtcdSource {
    source_with(endpoints, |_| {})
}

/// The same, with other options.
pub fn source_with(endpoints: &[&str], change: impl Fn(&mut Options)) -> EtcdSource {
    let mut options = Options {
        access: Access {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            ..Access::default()
        },
        scratch: Some(std::env::temp_dir()),
        control_plane: None,
    };
    change(&mut options);
    EtcdSource::connect("prod", options).unwrap()
}

/// What the source has of a kind.
pub fn item(source: &EtcdSource, kind: ItemKind) -> Item {
    let inventory = source.discover(&Cancel::default()).unwrap();
    inventory
        .items
        .into_iter()
        .find(|i| i.kind == kind)
        .unwrap()
}

/// Captures the snapshot: what arrived, and what was said.
pub fn snapshot(source: &EtcdSource) -> (Files, Vec<String>) {
    let item = item(source, ItemKind::Dump);
    let mut files = Files::default();
    let capture = source
        .capture(&item, &mut files, &Cancel::default())
        .unwrap();
    let findings = capture.findings.into_iter().map(|f| f.message).collect();
    (files, findings)
}

/// A point with all that a source captures.
pub fn point(source: &EtcdSource) -> Point {
    let mut point = Point::new(b"", None);
    for kind in [ItemKind::Dump, ItemKind::Host] {
        let item = item(source, kind);
        let mut files = Files::default();
        source
            .capture(&item, &mut files, &Cancel::default())
            .unwrap();
        point.add(&item, files);
    }
    point
}

/// Three members of one cluster.
pub fn three(programs: &refloat_testkit::etcd::Programs, root: &Path) -> Vec<Server> {
    let names = ["m1", "m2", "m3"];
    let folders: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    let mut starts: Vec<Start<'_>> = names
        .iter()
        .zip(&folders)
        .map(|(name, folder)| Start::new(programs, name, folder))
        .collect();
    let each = starts
        .iter()
        .map(|s| format!("{}={}", s.name, s.peer_url()));
    let cluster = each.collect::<Vec<_>>().join(",");
    for start in &mut starts {
        start.initial_cluster = Some(cluster.clone());
    }
    let servers: Vec<Server> = starts.into_iter().map(Start::spawn).collect();
    servers.iter().for_each(Server::wait);
    servers
}

#[test]
fn a_snapshot_is_what_etcdctl_reads_and_says_who_was_compared() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Start::new(&programs, "only", &root.path().join("data")).run();
    for n in 0..50 {
        server.ctl(&["put", &format!("/registry/k{n}"), &"v".repeat(n * 40)]);
    }
    let source = source(&[&server.client]);
    let (files, findings) = snapshot(&source);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(
        findings[0].starts_with("1 of 1 members have the hash "),
        "{findings:?}"
    );
    let path = root.path().join("saved.db");
    fs::write(&path, &files.files["snapshot.db"]).unwrap();
    let status = server.ctl(&["snapshot", "status", path.to_str().unwrap(), "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["revision"], 51);
    let folder = root.path().join("restored");
    let restored = server.try_ctl(&[
        "snapshot",
        "restore",
        path.to_str().unwrap(),
        "--data-dir",
        folder.to_str().unwrap(),
    ]);
    assert!(restored.status.success(), "{restored:?}");
}

#[test]
fn all_members_are_asked_and_one_that_is_down_is_named() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut servers = three(&programs, root.path());
    servers[0].ctl(&["put", "/registry/a", "1"]);
    let endpoint = servers[0].client.clone();
    let source = source(&[&endpoint]);
    let (files, findings) = snapshot(&source);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(
        findings[0].starts_with("3 of 3 members have the hash "),
        "{findings:?}"
    );
    drop(servers.pop());
    let inventory = source.discover(&Cancel::default()).unwrap();
    let warnings: Vec<_> = inventory
        .findings
        .iter()
        .map(|f| f.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["the member m3 did not answer: its history is not compared"]
    );
    let (files, findings) = snapshot(&source);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(
        findings[0].starts_with("2 of 3 members have the hash "),
        "{findings:?}"
    );
    // The last one knows no leader, and still gives what it has.
    drop(servers.pop());
    let leaderless = || {
        let inventory = source.discover(&Cancel::default()).unwrap();
        inventory
            .findings
            .iter()
            .any(|f| f.message.contains("knows no leader"))
    };
    let begun = std::time::Instant::now();
    while !leaderless() {
        assert!(begun.elapsed().as_secs() < 90);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let (files, findings) = snapshot(&source);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(
        findings[0].starts_with("1 of 3 members have the hash "),
        "{findings:?}"
    );
    drop(servers.pop());
    let error = source.discover(&Cancel::default()).unwrap_err();
    assert!(
        matches!(error, SourceError::Unavailable { .. }),
        "{error:?}"
    );
}

#[test]
fn an_alarm_is_a_finding() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Start::new(&programs, "only", &root.path().join("data")).run();
    let source = source(&[&server.client]);
    let inventory = source.discover(&Cancel::default()).unwrap();
    assert_eq!(inventory.findings, []);
    assert_eq!(inventory.versions["etcd only"], "3.4.23");
    drop(server);
    // A quota that the database has already: the next write raises the alarm.
    let data = root.path().join("data");
    let mut start = Start::new(&programs, "only", &data);
    start.quota_bytes = Some(16_384);
    let server = start.run();
    let refused = server.try_ctl(&["put", "/registry/a", &"x".repeat(100_000)]);
    assert!(!refused.status.success());
    let source = self::source(&[&server.client]);
    let inventory = source.discover(&Cancel::default()).unwrap();
    let alarm = inventory
        .findings
        .iter()
        .find(|f| f.message.contains("NOSPACE"))
        .unwrap();
    assert_eq!(alarm.severity, Severity::Warning);
    assert!(snapshot(&source).0.failures.is_empty());
}

/// An authority, a server's and a client's certificate.
fn certificates(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .current_dir(folder)
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let key = "-nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2";
    openssl(&format!(
        "req -x509 {key} -subj /CN=ca -keyout ca-key.pem -out ca.pem"
    ));
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1"),
        ("client", "extendedKeyUsage=clientAuth"),
    ] {
        openssl(&format!(
            "req -x509 -CA ca.pem -CAkey ca-key.pem {key} -subj /CN={name} -addext {extension} \
             -addext basicConstraints=critical,CA:false -keyout {name}-key.pem -out {name}.pem"
        ));
    }
}

#[test]
fn client_certificates_open_a_cluster_and_nothing_else_does() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let tls = root.path().join("tls");
    certificates(&tls);
    let mut start = Start::new(&programs, "only", Path::new("unused"));
    let data = root.path().join("data");
    start.data = &data;
    start.tls = Some(&tls);
    let server = start.run();
    server.ctl(&["put", "/registry/a", "1"]);
    let discover = |certificates: Option<Certificates>| {
        let access = Access {
            endpoints: vec![server.client.clone()],
            certificates,
            ..Access::default()
        };
        let options = Options {
            access,
            ..Options::default()
        };
        let source = EtcdSource::connect("prod", options)?;
        source.discover(&Cancel::default())?;
        let (files, _) = snapshot(&source);
        assert_eq!(files.failures, Vec::<String>::new());
        Ok::<_, SourceError>(())
    };
    let identity = Some((tls.join("client.pem"), tls.join("client-key.pem")));
    let ca = tls.join("ca.pem");
    discover(Some(Certificates {
        ca: ca.clone(),
        identity: identity.clone(),
    }))
    .unwrap();
    assert!(discover(Some(Certificates { ca, identity: None })).is_err());
    let wrong = root.path().join("wrong");
    certificates(&wrong);
    let ca = wrong.join("ca.pem");
    assert!(discover(Some(Certificates { ca, identity })).is_err());
    assert!(discover(None).is_err());
}
