//! Encryption and trust, on rclone's REST server.

use std::path::Path;

use refloat_storage::{FileKey, StorageErrorKind};
use refloat_storage_remote::{ConnectOptions, Options, Surroundings};
use refloat_testkit::servers::RcloneServer;

use crate::playground::{certificate, login, storage, text};

fn options(ca: Option<&Path>) -> Options {
    Options {
        connect: ConnectOptions {
            ca_file: ca.map(Path::to_owned),
            ..ConnectOptions::default()
        },
        login: login(RcloneServer::LOGIN),
        ..Options::default()
    }
}

#[test]
fn a_server_is_trusted_only_with_its_authority_and_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "IP:127.0.0.1");
    let path = |name: &str| folder.path().join(name);
    let ca = path("ca.pem");
    let Some(server) = RcloneServer::rest_with_tls(&path("cert.pem"), &path("key.pem")) else {
        return;
    };
    let address = |host: &str| format!("rest:https://{host}:{}/r/", server.port);
    let around = Surroundings::empty();

    let stranger = storage(&address("127.0.0.1"), options(None), &around);
    let error = stranger.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::Untrusted,
        "{}",
        text(&error)
    );
    assert!(text(&error).contains("UnknownIssuer"), "{}", text(&error));

    let friend = storage(&address("127.0.0.1"), options(Some(&ca)), &around);
    friend.create().unwrap();
    assert_eq!(friend.size(&FileKey::CONFIG).unwrap(), None);

    let misnamed = storage(&address("localhost"), options(Some(&ca)), &around);
    let error = misnamed.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::Untrusted,
        "{}",
        text(&error)
    );
    assert!(
        text(&error).contains("not valid for name"),
        "{}",
        text(&error)
    );

    // A server that wants encryption is not spoken to without.
    let plain = format!("rest:http://127.0.0.1:{}/r/", server.port);
    let error = storage(&plain, options(None), &around)
        .size(&FileKey::CONFIG)
        .unwrap_err();
    assert_ne!(error.kind(), StorageErrorKind::NotFound, "{}", text(&error));
}
