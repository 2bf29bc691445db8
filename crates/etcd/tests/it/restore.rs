//! Restored data folders, and real servers on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refloat_etcd::{BUMP_DEFAULT, DataFolderOptions, EtcdDataFolder};
use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::{Source as _, Target as _, TargetError};

use crate::capture::{point, source, three};
use crate::point::{Files, Point};
use refloat_testkit::etcd::{Programs, Server, Start, debian, newer, ports};

fn options(folder: &Path) -> DataFolderOptions {
    DataFolderOptions {
        folder: folder.to_owned(),
        members: Vec::new(),
        own_name: None,
        token: None,
        bump: BUMP_DEFAULT,
    }
}

fn restore(point: &Point, options: DataFolderOptions) -> Result<RestoreReport, TargetError> {
    let target = EtcdDataFolder::new(options);
    let request = RestoreRequest::default();
    let plan = target.plan(point, &request)?;
    target.execute(
        &plan,
        point,
        &request,
        &Silent::default(),
        &Cancel::default(),
    )
}

fn restored(point: &Point, options: DataFolderOptions) -> RestoreReport {
    let report = restore(point, options).unwrap();
    assert!(report.is_complete(), "{report:?}");
    report
}

/// Keys of several revisions, deleted ones, a lease, a large value and a user.
fn fill(server: &Server) {
    for n in 0..300 {
        let key = format!("/registry/configmaps/default/c{n:03}");
        server.ctl(&["put", &key, &format!("{{\"n\":{n}}}")]);
    }
    for n in (0..300).step_by(7) {
        server.ctl(&["del", &format!("/registry/configmaps/default/c{n:03}")]);
    }
    server.ctl(&[
        "put",
        "/registry/configmaps/default/c001",
        &"large".repeat(20_000),
    ]);
    let lease = server.ctl(&["lease", "grant", "3600"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    server.ctl(&["put", "/registry/leased", "x", "--lease", &lease]);
    server.ctl(&["user", "add", "somebody:word"]);
}

/// A watch from `revision`, and what etcdctl said.
fn watch(server: &Server, revision: u64) -> String {
    let revision = format!("--rev={revision}");
    let output = Command::new("timeout")
        .env("ETCDCTL_API", "3")
        .args(["5", "etcdctl", "--endpoints", &server.client, "watch"])
        .args(["/registry/", "--prefix", &revision])
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn single_member_comes_back(captured: &Programs, served: &Programs) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let start = Start::new(captured, "only", &data);
    let (client_port, peer_port) = (start.client_port, start.peer_port);
    let server = start.run();
    fill(&server);
    let point = point(&source(&[&server.client]));
    let (before, revision) = (server.everything(), server.revision());
    // Written after the snapshot, and lost: clients have seen these revisions.
    for n in 0..40 {
        server.ctl(&["put", "/registry/later", &n.to_string()]);
    }
    let seen_by_clients = server.revision();
    drop(server);
    fs::remove_dir_all(&data).unwrap();

    let report = restored(&point, options(&data));
    assert_eq!(report.steps.len(), 1);
    assert!(report.next_steps.len() > 5, "{:?}", report.next_steps);
    let mut start = Start::new(served, "only", &data);
    (start.client_port, start.peer_port) = (client_port, peer_port);
    let server = start.run();
    assert_eq!(server.everything(), before);
    assert_eq!(server.revision(), revision + BUMP_DEFAULT);
    // A client that goes on where it was is told so, instead of waiting for ever.
    let told = watch(&server, seen_by_clients + 1);
    assert!(
        told.contains("required revision has been compacted"),
        "{told}"
    );
    server.ctl(&["put", "/registry/new", "1"]);
    assert_eq!(server.revision(), revision + BUMP_DEFAULT + 1);
    assert!(server.ctl(&["user", "list"]).contains("somebody"));
    assert!(server.ctl(&["lease", "list"]).contains("found 1 leases"));
    // It survives a restart, compaction and another backup.
    let compact = (revision + BUMP_DEFAULT + 1).to_string();
    server.ctl(&["compact", &compact]);
    server.ctl(&["defrag"]);
    drop(server);
    let mut start = Start::new(served, "only", &data);
    (start.client_port, start.peer_port) = (client_port, peer_port);
    let server = start.run();
    assert_eq!(server.revision(), revision + BUMP_DEFAULT + 1);
    assert!(server.everything().starts_with(&before[..200]));
    let (files, _) = crate::capture::snapshot(&source(&[&server.client]));
    assert_eq!(files.failures, Vec::<String>::new());
}

#[test]
fn a_single_member_is_lost_and_back() {
    let Some(programs) = debian() else { return };
    single_member_comes_back(&programs, &programs);
}

#[test]
fn a_newer_etcd_serves_its_own_and_an_older_snapshot() {
    let (Some(old), Some(new)) = (debian(), newer()) else {
        return;
    };
    single_member_comes_back(&new, &new);
    single_member_comes_back(&old, &new);
}

fn three_members_come_back(programs: &Programs) {
    let root = tempfile::tempdir().unwrap();
    let servers = three(programs, root.path());
    fill(&servers[0]);
    let source = source(&[&servers[1].client]);
    let point = point(&source);
    let before = servers[0].everything();
    let revision = servers[0].revision();
    drop(servers);

    let peers: [u16; 3] = ports();
    let members: Vec<String> = (0..3)
        .map(|n| format!("n{n}=http://127.0.0.1:{}", peers[n]))
        .collect();
    // Without a name all folders are made; with one, that member's, and it is the same.
    let all = root.path().join("all");
    let mut everybody = options(&all);
    everybody.members = members.clone();
    restored(&point, everybody.clone());
    let mut alone = options(&root.path().join("alone"));
    alone.members = members.clone();
    alone.own_name = Some("n1".to_owned());
    let report = restored(&point, alone.clone());
    assert!(
        report
            .next_steps
            .iter()
            .any(|s| s.contains("make the folders of")),
        "{:?}",
        report.next_steps
    );
    for path in ["snap/db", "wal/0000000000000000-0000000000000000.wal"] {
        let of = |folder: PathBuf| fs::read(folder.join("member").join(path)).unwrap();
        assert!(of(alone.folder.clone()) == of(all.join("n1")), "{path}");
    }
    let folders: Vec<PathBuf> = (0..3).map(|n| all.join(format!("n{n}"))).collect();
    let names = ["n0", "n1", "n2"];
    let servers: Vec<Server> = (0..3)
        .map(|n| {
            let mut start = Start::new(programs, names[n], &folders[n]);
            start.peer_port = peers[n];
            start.initial_cluster = Some(members.join(","));
            start.spawn()
        })
        .collect();
    servers.iter().for_each(Server::wait);
    for server in &servers {
        assert_eq!(server.everything(), before);
        assert_eq!(server.revision(), revision + BUMP_DEFAULT);
    }
    servers[0].ctl(&["put", "/registry/new", "1"]);
    let (files, findings) =
        crate::capture::snapshot(&crate::capture::source(&[&servers[2].client]));
    assert_eq!(files.failures, Vec::<String>::new());
    assert!(findings[0].starts_with("3 of 3 members"), "{findings:?}");
}

#[test]
fn three_members_are_lost_and_back() {
    let Some(programs) = debian() else { return };
    three_members_come_back(&programs);
}

#[test]
fn three_members_of_a_newer_etcd_are_lost_and_back() {
    let Some(programs) = newer() else { return };
    three_members_come_back(&programs);
}

/// What etcd's own tool makes of the same snapshot.
#[test]
fn log_and_raft_snapshot_are_those_of_etcdutl_byte_for_byte() {
    let Some(programs) = newer() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Start::new(&programs, "only", &root.path().join("data")).run();
    server.ctl(&["put", "/registry/a", "1"]);
    let point = point(&source(&[&server.client]));
    let saved = root.path().join("saved.db");
    let snapshot = point
        .files
        .iter()
        .find(|(p, _)| p.name() == Some(b"snapshot.db"));
    fs::write(&saved, snapshot.unwrap().1).unwrap();
    let members = [
        "a=https://10.0.0.1:2380",
        "b=https://10.0.0.2:2380",
        "b=https://10.1.0.2:2380",
        "c=http://10.0.0.3:2380",
    ];
    let (theirs, ours) = (root.path().join("theirs"), root.path().join("ours"));
    let output = Command::new(programs.etcdutl.unwrap())
        .args(["snapshot", "restore"])
        .arg(&saved)
        .args(["--name", "c", "--initial-cluster-token", "token"])
        .args(["--initial-cluster", &members.join(",")])
        .args(["--initial-advertise-peer-urls", "http://10.0.0.3:2380"])
        .arg("--data-dir")
        .arg(&theirs)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut options = options(&ours);
    options.members = members.iter().map(ToString::to_string).collect();
    options.own_name = Some("c".to_owned());
    options.token = Some("token".to_owned());
    restored(&point, options);
    for path in [
        "member/wal/0000000000000000-0000000000000000.wal",
        "member/snap/0000000000000001-0000000000000003.snap",
    ] {
        let (theirs, ours) = (fs::read(theirs.join(path)), fs::read(ours.join(path)));
        assert!(theirs.unwrap() == ours.unwrap(), "{path}");
    }
}

#[test]
fn members_whose_histories_differ_are_refused_by_name() {
    let Some(programs) = debian() else { return };
    let root = tempfile::tempdir().unwrap();
    // Two snapshots of the same length of history and different content.
    let snapshot_of = |value: &str| {
        let data = root.path().join(value);
        let server = Start::new(&programs, "only", &data).run();
        server.ctl(&["put", "/registry/a", value]);
        point(&source(&[&server.client]))
    };
    let points = [snapshot_of("right"), snapshot_of("wrong")];
    let peers: [u16; 2] = ports();
    let members: Vec<String> = (0..2)
        .map(|n| format!("n{n}=http://127.0.0.1:{}", peers[n]))
        .collect();
    let names = ["n0", "n1"];
    let folders = names.map(|name| root.path().join(name));
    let servers: Vec<Server> = (0..2)
        .map(|n| {
            let mut options = options(&folders[n]);
            options.members = members.clone();
            options.own_name = Some(names[n].to_owned());
            options.token = Some("token".to_owned());
            restored(&points[n], options);
            let mut start = Start::new(&programs, names[n], &folders[n]);
            start.peer_port = peers[n];
            start.initial_cluster = Some(members.join(","));
            start.spawn()
        })
        .collect();
    servers.iter().for_each(Server::wait);
    let source = source(&[&servers[0].client]);
    let inventory = source.discover(&Cancel::default()).unwrap();
    let item = &inventory.items[1];
    let mut files = Files::default();
    let error = source
        .capture(item, &mut files, &Cancel::default())
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("histories differ"), "{cause}");
    assert!(cause.contains("n0: ") && cause.contains("n1: "), "{cause}");
    assert!(files.files.is_empty());
}

#[test]
fn a_folder_that_holds_something_is_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    fs::create_dir_all(folder.join("member")).unwrap();
    let point = Point::new(&fixture(), None);
    let mut taken = options(&folder);
    taken.members = vec!["a=http://127.0.0.1:2380".to_owned()];
    let target = EtcdDataFolder::new(taken.clone());
    let plan = target.plan(&point, &RestoreRequest::default()).unwrap();
    assert!(
        matches!(plan.steps[0].action, Action::Conflict { .. }),
        "{plan:?}"
    );
    assert!(matches!(
        restore(&point, taken.clone()),
        Err(TargetError::NotExecutable(1))
    ));
    assert_eq!(fs::read_dir(folder.join("member")).unwrap().count(), 0);
    // What a restore that was cut off left is no obstacle.
    fs::rename(
        folder.join("member"),
        folder.join("member.refloat-unfinished"),
    )
    .unwrap();
    restored(&point, taken);
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["member"]);
}

#[test]
fn without_members_only_a_single_one_comes_back_by_itself() {
    let point = Point::new(&fixture(), None);
    let root = tempfile::tempdir().unwrap();
    let error = restore(&point, options(&root.path().join("d"))).unwrap_err();
    let TargetError::Unavailable { hint, .. } = error else {
        panic!("{error:?}");
    };
    assert!(hint.unwrap().contains("--etcd-member"));
}

/// A snapshot of etcd 3.5.1 with 300 keys.
pub fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd-3.5.db");
    fs::read(path).unwrap()
}
