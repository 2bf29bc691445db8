//! Clusters that ask for a user and a password.

use std::sync::Arc;

use refloat_etcd::{EtcdSource, Login};
use refloat_model::cancel::Cancel;
use refloat_model::item::ItemKind;
use refloat_model::secret::Secret;
use refloat_source::{Source as _, SourceError};

use crate::capture::{item, snapshot, source, source_with};
use crate::point::Files;
use refloat_testkit::etcd::{Programs, Server, Start, debian, newer};

const PASSWORD: &str = "hunter2 with words";

fn source_of(server: &Server, user: &str, password: &str) -> EtcdSource {
    source_with(&[&server.client], |options| {
        options.access.login = Some(Arc::new(Login {
            user: user.to_owned(),
            password: Secret::new(password),
        }));
    })
}

/// All that an error says.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error}"));
        cause = error.source();
    }
    text
}

fn refused(source: &EtcdSource) -> SourceError {
    if let Err(error) = source.discover(&Cancel::default()) {
        return error;
    }
    let item = item(source, ItemKind::Dump);
    let mut files = Files::default();
    let captured = source.capture(&item, &mut files, &Cancel::default());
    captured.unwrap_err()
}

fn check(programs: &Programs) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let server = Start::new(programs, "only", &data).run();
    server.ctl(&["put", "/registry/a", "1"]);
    // A login where nobody asks for one does no harm.
    let asked_too_much = source_of(&server, "root", PASSWORD);
    assert_eq!(snapshot(&asked_too_much).0.failures, Vec::<String>::new());
    server.ctl(&["user", "add", &format!("root:{PASSWORD}")]);
    server.ctl(&["user", "grant-role", "root", "root"]);
    server.ctl(&["user", "add", "reader:other"]);
    server.ctl(&["auth", "enable"]);

    let known = source_of(&server, "root", PASSWORD);
    let (files, findings) = snapshot(&known);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(findings[0].starts_with("1 of 1 members"), "{findings:?}");
    assert!(
        findings[1].starts_with("the file's own history has"),
        "{findings:?}"
    );
    assert!(!files.files["snapshot.db"].is_empty());

    for source in [
        source(&[&server.client]),
        source_of(&server, "root", "wrong"),
        source_of(&server, "nobody", PASSWORD),
        source_of(&server, "reader", "other"),
    ] {
        let error = refused(&source);
        let said = words(&error);
        assert!(
            !said.contains(PASSWORD) && !said.contains("other"),
            "{said}"
        );
    }
    // Members forget tokens when they restart: a new one is asked for.
    let (client_port, peer_port) = server.ports();
    drop(server);
    let mut start = Start::new(programs, "only", &data);
    (start.client_port, start.peer_port) = (client_port, peer_port);
    let server = start.spawn();
    let begun = std::time::Instant::now();
    while let Err(error) = known.discover(&Cancel::default()) {
        let log = std::fs::read_to_string(&server.log).unwrap_or_default();
        assert!(begun.elapsed().as_secs() < 60, "{}: {log}", words(&error));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(snapshot(&known).0.failures, Vec::<String>::new());
}

#[test]
fn a_cluster_that_asks_for_a_password_is_captured_with_it_alone() {
    let Some(programs) = debian() else { return };
    check(&programs);
}

#[test]
fn a_newer_one_too() {
    let Some(programs) = newer() else { return };
    check(&programs);
}
