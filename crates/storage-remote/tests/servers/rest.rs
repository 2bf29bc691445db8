//! restic's REST protocol, served by rclone.

use refloat_storage::{FileKey, FileKind, StorageErrorKind};
use refloat_storage_remote::{Options, Surroundings};
use refloat_testkit::conformance::{self, WriteOnce};
use refloat_testkit::servers::RcloneServer;

use crate::playground::{Names, login, storage, text};

fn options(pair: (&str, &str)) -> Options {
    Options {
        login: login(pair),
        ..Options::default()
    }
}

#[test]
fn a_rest_server_keeps_the_contract() {
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let names = Names::default();
    let address = || format!("rest:http://127.0.0.1:{}/{}/", server.port, names.next());
    let around = Surroundings::empty();
    conformance::run_as(WriteOnce::Checked, || {
        storage(&address(), options(RcloneServer::LOGIN), &around)
    });
    let twice = address();
    let open = || storage(&twice, options(RcloneServer::LOGIN), &around);
    conformance::run_two_openings(&*open(), &*open());
}

#[test]
fn wrong_logins_and_kept_files_are_told() {
    let Some(server) = RcloneServer::append_only_rest() else {
        return;
    };
    let address = format!("rest:http://127.0.0.1:{}/r/", server.port);
    let around = Surroundings::empty();
    let stranger = storage(&address, options(("rest-user", "hunter2")), &around);
    let error = stranger.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unauthorized);
    let shown = text(&error);
    assert!(
        shown.ends_with("answered 401") && !shown.contains("hunter2"),
        "{shown}"
    );

    let writer = storage(&address, options(RcloneServer::LOGIN), &around);
    writer.create().unwrap();
    let pack = conformance::named(FileKind::Pack, b"pack");
    writer.write(&pack, b"pack").unwrap();
    writer.write(&pack, b"pack").unwrap();
    let error = writer.delete(&pack).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Denied, "append-only");
    let lock = conformance::named(FileKind::Lock, b"lock");
    writer.write(&lock, b"lock").unwrap();
    writer.delete(&lock).unwrap();
}
