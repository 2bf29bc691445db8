//! WebDAV on Apache and on rclone.

use refloat_storage::{FileKey, StorageErrorKind};
use refloat_storage_remote::{Options, Surroundings};
use refloat_testkit::conformance::{self, WriteOnce};
use refloat_testkit::servers::{RcloneServer, WebDavServer};

use crate::playground::{Names, login, removes_what_died, storage, text};

fn options(pair: (&str, &str)) -> Options {
    Options {
        login: login(pair),
        ..Options::default()
    }
}

fn keeps_the_contract(port: u16, pair: (&str, &str)) {
    let names = Names::default();
    let around = Surroundings::empty();
    let next = || format!("webdav://127.0.0.1:{port}/{}/deep er", names.next());
    conformance::run_as(WriteOnce::Checked, || {
        storage(&next(), options(pair), &around)
    });
    let twice = next();
    let open = || storage(&twice, options(pair), &around);
    conformance::run_two_openings(&*open(), &*open());
}

#[test]
fn apache_keeps_the_contract() {
    let Some(server) = WebDavServer::start() else {
        return;
    };
    keeps_the_contract(server.port, WebDavServer::LOGIN);
    let address = format!("webdav://127.0.0.1:{}/r", server.port);
    let stranger = storage(
        &address,
        options(("dav-user", "hunter2")),
        &Surroundings::empty(),
    );
    let error = stranger.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unauthorized);
    assert!(!text(&error).contains("hunter2"));
}

#[test]
fn what_writers_left_that_died_is_removed() {
    let Some(server) = WebDavServer::start() else {
        return;
    };
    let address = format!("webdav://127.0.0.1:{}/r", server.port);
    let root = server.server.folder().join("dav/r");
    removes_what_died(&address, || options(WebDavServer::LOGIN), &root);
}

#[test]
fn rclone_keeps_the_contract() {
    let Some(server) = RcloneServer::webdav() else {
        return;
    };
    keeps_the_contract(server.port, RcloneServer::LOGIN);
}
