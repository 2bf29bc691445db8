//! That a captured file holds what the cluster holds, by the hash of its history.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::capture::{snapshot, source, source_with, three};
use refloat_testkit::etcd::{Programs, Server, Start, debian, newer};

/// The hash that the members gave, and that of the file; none if it was not compared.
fn hashes(server: &Server) -> (String, Option<String>) {
    let (files, findings) = snapshot(&source(&[&server.client]));
    assert_eq!(files.failures, Vec::<String>::new());
    let hash = |text: &str| {
        let (_, rest) = text
            .split_once("has the hash ")
            .or_else(|| text.split_once("have the hash "))?;
        Some(rest.split(' ').next()?.to_owned())
    };
    (hash(&findings[0]).unwrap(), hash(&findings[1]))
}

fn equal(server: &Server) {
    let (members, file) = hashes(server);
    assert_eq!(Some(members), file);
}

fn check(programs: &Programs) {
    let root = tempfile::tempdir().unwrap();
    let server = Start::new(programs, "only", &root.path().join("data")).run();
    // Nothing in it at all.
    equal(&server);
    let put = |n: usize, round: usize| {
        server.ctl(&[
            "put",
            &format!("/registry/k{n}"),
            &format!("{round}").repeat(n * 90),
        ]);
    };
    for n in 0..30 {
        put(n, n % 3);
        put(n % 7, n);
    }
    server.ctl(&["del", "/registry/k3"]);
    equal(&server);
    // A compaction in the middle of keys' lives, then more on top of it.
    let revision = server.revision();
    server.ctl(&["compact", &(revision - 9).to_string()]);
    equal(&server);
    for n in 0..10 {
        put(n, 9);
    }
    server.ctl(&["del", "/registry/k5"]);
    equal(&server);
    // Up to the end, which is a deletion.
    server.ctl(&["compact", &server.revision().to_string()]);
    equal(&server);
    put(1, 1);
    equal(&server);
    // Everything gone.
    server.ctl(&["del", "", "--prefix"]);
    equal(&server);
    server.ctl(&["compact", &server.revision().to_string()]);
    // What members say of nothing depends on how far they have compacted; nobody is accused.
    let _whatever = hashes(&server);
}

#[test]
fn the_hash_of_the_file_is_the_members() {
    let Some(programs) = debian() else { return };
    check(&programs);
}

#[test]
fn the_hash_of_the_file_is_that_of_newer_members() {
    let Some(programs) = newer() else { return };
    check(&programs);
}

#[test]
fn a_busy_cluster_is_never_called_wrong() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let servers = three(&programs, root.path());
    let ended = AtomicBool::new(false);
    let proven = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0_usize.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let server = &servers[n % 3];
                let _busy = server.try_ctl(&["put", &format!("/k{}", n % 17), &n.to_string()]);
                if n % 11 == 10 {
                    let revision = server.revision();
                    let _busy = server.try_ctl(&["compact", &(revision - 3).to_string()]);
                }
            }
        });
        let proven = (0..8).filter(|_| hashes(&servers[0]).1.is_some()).count();
        ended.store(true, Ordering::Relaxed);
        proven
    });
    assert!(proven > 0);
}

#[test]
fn without_room_for_a_copy_the_snapshot_is_taken_and_that_is_said() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Start::new(&programs, "only", &root.path().join("data")).run();
    let source = source_with(&[&server.client], |options| {
        options.scratch = Some(root.path().join("nowhere"));
    });
    let (files, findings) = snapshot(&source);
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(findings[1].contains("was not compared"), "{findings:?}");
}
