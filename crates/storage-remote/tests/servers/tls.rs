//! Encryption and trust, on rclone's REST server.

use std::path::Path;

use refloat_storage::{FileKey, StorageErrorKind};
use refloat_storage_remote::{AzureOptions, ConnectOptions, Options, Surroundings};
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

/// An address of each service on a server, as its client wants it.
fn services(host: &str, port: u16, ca: Option<&Path>) -> [(String, Options, Surroundings); 4] {
    let url = format!("https://{host}:{port}");
    let endpoint = || Some(url.parse().unwrap());
    let options = || options(ca);
    let azure = Options {
        azure: AzureOptions {
            account: Some("account".to_owned()),
            endpoint: endpoint(),
        },
        ..options()
    };
    let google = Options {
        google: endpoint(),
        ..options()
    };
    let webdav = Options {
        login: None,
        ..options()
    };
    let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")];
    let of = Surroundings::of;
    [
        (format!("s3:{url}/bucket/r"), options(), of(&keys)),
        (
            "azblob://container/r".to_owned(),
            azure,
            of(&[("AZURE_STORAGE_KEY", "aHVudGVyMg==")]),
        ),
        (
            "gcs://bucket/r".to_owned(),
            google,
            of(&[("GOOGLE_OAUTH_ACCESS_TOKEN", "T")]),
        ),
        (format!("webdav:{url}/r"), webdav, of(&[])),
    ]
}

/// Any server does: who it is comes before what it speaks.
#[test]
fn no_service_is_trusted_without_its_authority_or_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "IP:127.0.0.1");
    let path = |name: &str| folder.path().join(name);
    let ca = path("ca.pem");
    let Some(server) = RcloneServer::rest_with_tls(&path("cert.pem"), &path("key.pem")) else {
        return;
    };
    for (host, ca, kind, words) in [
        (
            "127.0.0.1",
            None,
            StorageErrorKind::Untrusted,
            "UnknownIssuer",
        ),
        (
            "localhost",
            Some(&*ca),
            StorageErrorKind::Untrusted,
            "not valid for name",
        ),
        // It was believed, and knows no such user.
        (
            "127.0.0.1",
            Some(&*ca),
            StorageErrorKind::Unauthorized,
            "answered 401",
        ),
    ] {
        for (address, options, around) in services(host, server.port, ca) {
            let storage = storage(&address, options, &around);
            let start = std::time::Instant::now();
            let error = storage.size(&FileKey::CONFIG).unwrap_err();
            let took = start.elapsed();
            assert_eq!(error.kind(), kind, "{address}: {}", text(&error));
            assert!(text(&error).contains(words), "{address}: {}", text(&error));
            assert!(!error.is_retryable() && took.as_secs() < 20, "{took:?}");
        }
    }
}
