//! Azure Blob Storage and Google Cloud Storage on emulators.
//!
//! What they cannot show: identities, immutability, and with Google conditions of writes.

use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use refloat_storage_remote::{AzureOptions, Options, Surroundings};
use refloat_testkit::conformance;
use refloat_testkit::random::Random;
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

/// The emulator knows no conditions and no empty files, so this is not the whole contract.
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
    let storage = place(&format!("{}/some/prefix", GcsEmulator::BUCKET));
    storage.create().unwrap();
    let mut random = Random::new(1);
    let mut written = Vec::new();
    for kind in FileKind::FOLDERS {
        for length in [1, 4_096, 300_000] {
            let bytes = random.bytes(length);
            let key = conformance::named(kind, &bytes);
            assert_eq!(storage.size(&key).unwrap(), None);
            storage.write(&key, &bytes).unwrap();
            assert!(storage.read(&key).unwrap() == bytes);
            assert_eq!(storage.size(&key).unwrap(), Some(length as u64));
            let tail = storage.read_range(&key, length as u64 - 1, 1).unwrap();
            assert_eq!(tail, bytes[length - 1..]);
            written.push((key, length as u64));
        }
        let listed = storage.list(kind).unwrap();
        let mut listed: Vec<_> = listed.iter().map(|file| (file.key, file.size)).collect();
        let mut expected: Vec<_> = written
            .iter()
            .filter(|(key, _)| key.kind() == kind)
            .copied()
            .collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }
    for (key, _) in &written {
        storage.delete(key).unwrap();
        storage.delete(key).unwrap();
        let error = storage.read(key).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::NotFound, "{}", text(&error));
    }
    let error = place("absent-bucket").create().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoPlace, "{}", text(&error));
}
