//! Azure Blob Storage and Google Cloud Storage on emulators.
//!
//! What they cannot show: identities, immutability, and with Google conditions of writes.

use refloat_storage::{FileKey, SharedStorage, StorageErrorKind};
use refloat_storage_remote::{AzureOptions, Options, Surroundings};
use refloat_testkit::conformance::{self, WriteOnce};
use refloat_testkit::servers::{Azurite, GcsEmulator};

use crate::playground::{Names, storage, text};

fn azure(server: &Azurite, address: &str, key: &str) -> SharedStorage {
    let around = Surroundings::of(&[("AZURE_STORAGE_KEY", key)]);
    let options = Options {
        azure: AzureOptions {
            account: Some(Azurite::ACCOUNT.0.to_owned()),
            endpoint: Some(format!("http://127.0.0.1:{}", server.port).parse().unwrap()),
        },
        ..Options::default()
    };
    storage(address, options, &around)
}

#[test]
fn azurite_keeps_the_contract() {
    let Some(server) = Azurite::start() else {
        return;
    };
    server.make_container("container");
    let (_, key) = Azurite::ACCOUNT;
    let names = Names::default();
    let next = || format!("azblob://container/{}/deep", names.next());
    conformance::run(|| azure(&server, &next(), key));
    let twice = next();
    let open = || azure(&server, &twice, key);
    conformance::run_two_openings(&*open(), &*open());

    let absent = azure(&server, "azblob://absent", key);
    let error = absent.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoPlace, "{}", text(&error));
    let stranger = azure(&server, "azblob://container", "aHVudGVyMg==");
    let error = stranger.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::Unauthorized,
        "{}",
        text(&error)
    );
}

/// The emulator knows no conditions and no empty files.
#[test]
fn the_emulator_of_google_keeps_what_it_can_of_the_contract() {
    let Some(server) = GcsEmulator::start() else {
        return;
    };
    let around = Surroundings::of(&[(
        "STORAGE_EMULATOR_HOST",
        &format!("http://127.0.0.1:{}", server.port),
    )]);
    let place = |path: &str| storage(&format!("gcs://{path}"), Options::default(), &around);
    let names = Names::default();
    conformance::run_with_files_from(1, WriteOnce::Never, || {
        place(&format!("{}/{}/deep", GcsEmulator::BUCKET, names.next()))
    });
    let error = place("absent-bucket").create().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoPlace, "{}", text(&error));
}
