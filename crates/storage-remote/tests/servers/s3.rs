//! S3 on Ceph's server, which checks signatures and locks objects.

use std::time::{Duration, Instant};

use refloat_model::time::Timestamp;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use refloat_storage_remote::{LockMode, ObjectLock, Options, S3Options, Surroundings};
use refloat_testkit::conformance;
use refloat_testkit::servers::{Radosgw, free_port};

use crate::playground::{Names, storage, text};

fn surroundings((access, secret): (&str, &str)) -> Surroundings {
    Surroundings::of(&[
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ])
}

fn address(port: u16, path: &str) -> String {
    format!("s3:http://127.0.0.1:{port}/{path}")
}

#[test]
fn a_bucket_keeps_the_contract() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("conformance");
    let around = surroundings(Radosgw::OWNER);
    let names = Names::default();
    conformance::run(|| {
        let path = format!("conformance/{}/deep", names.next());
        storage(&address(server.port, &path), Options::default(), &around)
    });
    // Whole buckets, and many files: more than one page of a listing.
    server.make_bucket("twice");
    let open = || storage(&address(server.port, "twice"), Options::default(), &around);
    conformance::run_two_openings(&*open(), &*open());
    let whole = open();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let whole = &whole;
            scope.spawn(move || {
                for number in 0..160_u8 {
                    let mut id = [number; 32];
                    id[0] = thread;
                    whole
                        .write(&FileKey::new(FileKind::Pack, id), b"x")
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(whole.list(FileKind::Pack).unwrap().len(), 8 * 160);
    errors_say_what_is_wrong(&server);
}

/// Part of the same test: the server takes seconds to start.
fn errors_say_what_is_wrong(server: &Radosgw) {
    let look = |path: &str, around: &Surroundings| {
        let storage = storage(&address(server.port, path), Options::default(), around);
        let start = Instant::now();
        let error = storage.size(&FileKey::CONFIG).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20));
        (error.kind(), text(&error))
    };
    let owner = surroundings(Radosgw::OWNER);
    let (kind, shown) = look("absent", &owner);
    assert_eq!(kind, StorageErrorKind::NoPlace);
    assert!(shown.contains("404 NoSuchBucket"), "{shown}");

    let (kind, shown) = look("twice", &surroundings(("OWNERKEY", "hunter2")));
    assert_eq!(kind, StorageErrorKind::Unauthorized);
    assert!(shown.contains("403 SignatureDoesNotMatch"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let (kind, shown) = look("twice", &surroundings(("NOBODY", "hunter2")));
    assert_eq!(kind, StorageErrorKind::Unauthorized);
    assert!(shown.contains("403 InvalidAccessKeyId"), "{shown}");

    let (kind, shown) = look("twice", &surroundings(Radosgw::WRITER));
    assert_eq!(kind, StorageErrorKind::Denied);
    assert!(shown.contains("403 AccessDenied"), "{shown}");

    let mut late = surroundings(Radosgw::OWNER);
    late.clock =
        std::sync::Arc::new(|| jiff::Timestamp::now() - jiff::SignedDuration::from_mins(47));
    let (kind, shown) = look("twice", &late);
    assert_eq!(kind, StorageErrorKind::ClockSkew);
    assert!(
        shown.contains("clock is 47 minutes behind the server's"),
        "{shown}"
    );

    let nobody = storage(
        &address(server.port, "twice"),
        Options::default(),
        &Surroundings::of(&[("AWS_EC2_METADATA_DISABLED", "true")]),
    );
    let error = nobody.size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unauthorized);
    assert!(
        text(&error).contains("no credentials for S3"),
        "{}",
        text(&error)
    );
    let closed = storage(&address(free_port(), "twice"), Options::default(), &owner);
    let error = closed.list(FileKind::Pack).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
}

fn locked(server: &Radosgw, mode: LockMode, keys: (&str, &str)) -> SharedStorage {
    let options = Options {
        s3: S3Options {
            lock: Some(ObjectLock {
                mode,
                period: jiff::SignedDuration::from_hours(48),
            }),
            ..S3Options::default()
        },
        ..Options::default()
    };
    storage(
        &address(server.port, "locked/r"),
        options,
        &surroundings(keys),
    )
}

#[test]
fn locked_objects_stay_and_locks_of_runs_go() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_locking_bucket("locked");
    let storage = locked(&server, LockMode::Compliance, Radosgw::OWNER);
    storage.create().unwrap();
    let terms = storage.protection().unwrap();
    assert_eq!(terms.period, Duration::from_secs(48 * 3_600));
    let now = jiff::Timestamp::now();
    let in_hours = |hours: i64| Timestamp::from(now + jiff::SignedDuration::from_hours(hours));

    for kind in FileKind::FOLDERS {
        let key = conformance::named(kind, kind.folder().as_bytes());
        storage.write(&key, kind.folder().as_bytes()).unwrap();
        let until = storage.protected_until(&key).unwrap();
        if kind == FileKind::Lock {
            assert_eq!(until, None);
            storage.delete(&key).unwrap();
            continue;
        }
        let until = until.unwrap();
        assert!(
            in_hours(47) < until && until < in_hours(49),
            "{kind:?}: {until:?}"
        );
        // What is gone from the listing is still there as a version, and nobody can delete that.
        let versions = server.call(Radosgw::OWNER, "GET", "/locked?versions", &[]);
        let version = version_of(&versions, &key.path());
        let path = format!("/locked/r/{}?versionId={version}", key.path());
        let bypass = ["x-amz-bypass-governance-retention:true"];
        let (status, _text) = server.send(Radosgw::OWNER, ("DELETE", &path), &bypass, b"");
        assert_eq!(status, 403, "{kind:?} is kept");
    }
    let pack = conformance::named(FileKind::Pack, b"data");
    storage.protect_until(&pack, in_hours(96)).unwrap();
    let until = storage.protected_until(&pack).unwrap().unwrap();
    assert!(in_hours(95) < until, "{until:?}");
    let error = storage.protect_until(&pack, in_hours(1)).unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::Denied,
        "nothing is made shorter"
    );
}

fn version_of(listing: &str, path: &str) -> String {
    let at = listing.find(path).unwrap();
    let rest = &listing[at..];
    let start = rest.find("<VersionId>").unwrap() + "<VersionId>".len();
    let end = rest.find("</VersionId>").unwrap();
    rest[start..end].to_owned()
}
