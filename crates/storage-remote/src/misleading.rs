//! Answers that mean something else than they seem to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use refloat_model::time::Timestamp;
use refloat_storage::{FileKey, FileKind, StorageErrorKind};

use crate::stand_in::{Asked, Said, serve, storage, text};
use crate::{LockMode, ObjectLock, Options, S3Options, Surroundings};

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")];
const PACK: FileKey = FileKey::new(FileKind::Pack, [0xab; 32]);

/// Lists every kind on a server that says 404 of folders.
fn listings(
    scheme: &str,
    config: u16,
    server: &'static str,
) -> Vec<Result<usize, StorageErrorKind>> {
    let url = serve(move |asked| {
        let status = if asked.path.ends_with("/config") {
            config
        } else {
            404
        };
        Said::status(status)
            .header("server", server)
            .header("etag", "x")
    });
    let storage = storage(
        &format!("{scheme}:{url}/r"),
        Options::default(),
        &Surroundings::empty(),
    );
    let listed = FileKind::FOLDERS.map(|kind| storage.list(kind));
    let listed = listed.into_iter();
    listed
        .map(|listed| listed.map(|files| files.len()).map_err(|e| e.kind()))
        .collect()
}

#[test]
fn a_folder_that_is_not_found_is_empty_only_beside_a_config() {
    for scheme in ["rest", "webdav"] {
        assert_eq!(listings(scheme, 200, "nginx"), [Ok(0); 5], "{scheme}");
        let gone = listings(scheme, 404, "nginx");
        assert_eq!(gone, [Err(StorageErrorKind::NoPlace); 5], "{scheme}");
    }
    // rclone shows what is not there as empty, and says this when it could not look.
    let failed = listings("rest", 200, "rclone/v1.60");
    assert_eq!(failed, [Err(StorageErrorKind::Busy); 5]);
}

#[test]
fn an_object_of_json_is_no_listing() {
    let list = |body: &'static str| {
        let url = serve(move |_asked| Said::text(body));
        let around = Surroundings::of(&[("STORAGE_EMULATOR_HOST", &url)]);
        let storage = storage("gcs://bucket/r", Options::default(), &around);
        let listed = storage.list(FileKind::Snapshot);
        listed
            .map(|files| files.len())
            .map_err(|error| error.kind())
    };
    for body in ["{}", "[]", "", r#"{"kind": "storage#bucket"}"#] {
        assert_eq!(list(body), Err(StorageErrorKind::Unavailable), "{body}");
    }
    assert_eq!(list(r#"{"kind": "storage#objects"}"#), Ok(0));
}

#[test]
fn a_lock_of_somebody_else_passes() {
    let url = serve(|asked| match asked.method.as_str() {
        "HEAD" => Said::status(404),
        "MOVE" => Said::status(423),
        _ => Said::status(201),
    });
    let address = format!("webdav:{url}/r");
    let storage = storage(&address, Options::default(), &Surroundings::empty());
    let error = storage.write(&PACK, b"pack").unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Busy, "{}", text(&error));
    assert!(error.is_retryable());
}

#[test]
fn a_lock_that_passes_soon_is_waited_for_and_nothing_is_sent_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let url = serve(move |request| {
        let mut log = log.lock().unwrap();
        log.push(request.method.clone());
        let moves = log.iter().filter(|method| *method == "MOVE").count();
        match request.method.as_str() {
            "HEAD" => Said::status(404),
            "MOVE" if moves < 4 => Said::status(423),
            _ => Said::status(201),
        }
    });
    let address = format!("webdav:{url}/r");
    let storage = storage(&address, Options::default(), &Surroundings::empty());
    storage.write(&PACK, b"pack").unwrap();
    let asked = asked.lock().unwrap();
    let expected = ["HEAD", "MKCOL", "PUT", "MOVE", "MOVE", "MOVE", "MOVE"];
    assert_eq!(*asked, expected);
}

/// Lists snapshots on a server whose first listings break off before the second file.
fn broken_listings(count: usize) -> (Result<usize, StorageErrorKind>, usize) {
    let file = |byte: &str| {
        format!(
            "<D:response><D:href>/r/snapshots/{}</D:href><D:propstat><D:prop>\
             <D:getcontentlength>7</D:getcontentlength></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
            byte.repeat(32)
        )
    };
    let listing = |files: &str| format!("<D:multistatus xmlns:D=\"DAV:\">{files}</D:multistatus>");
    let broken = format!("{}Internal Server Error", listing(&file("ab")));
    let whole = listing(&format!("{}{}", file("ab"), file("cd")));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let url = serve(move |_asked| {
        let is_broken = counter.fetch_add(1, Ordering::SeqCst) < count;
        Said::status(207).body(if is_broken { &broken } else { &whole })
    });
    let address = format!("webdav:{url}/r");
    let storage = storage(&address, Options::default(), &Surroundings::empty());
    let listed = storage.list(FileKind::Snapshot);
    let listed = listed
        .map(|files| files.len())
        .map_err(|error| error.kind());
    (listed, asked.load(Ordering::SeqCst))
}

#[test]
fn a_listing_that_broke_off_is_none() {
    assert_eq!(broken_listings(0), (Ok(2), 1));
    assert_eq!(broken_listings(3), (Ok(2), 4));
    let always = broken_listings(usize::MAX);
    assert_eq!(always, (Err(StorageErrorKind::Unavailable), 6));
}

#[test]
fn a_folder_that_somebody_removed_is_made_again() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let url = serve(move |asked| match asked.method.as_str() {
        "HEAD" => Said::status(404),
        "MKCOL" => {
            count.fetch_add(1, Ordering::SeqCst);
            Said::status(201)
        }
        // The folder was removed after this process made it for the first time.
        "PUT" if count.load(Ordering::SeqCst) == 1 => Said::status(409),
        _ => Said::status(201),
    });
    let address = format!("webdav:{url}/r");
    let storage = storage(&address, Options::default(), &Surroundings::empty());
    storage.write(&PACK, b"pack").unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    // Without the place itself nothing helps, and trying again for minutes would not either.
    let url = serve(|asked| match asked.method.as_str() {
        "HEAD" => Said::status(404),
        _ => Said::status(409),
    });
    let address = format!("webdav:{url}/r");
    let storage = crate::stand_in::storage(&address, Options::default(), &Surroundings::empty());
    let error = storage.write(&PACK, b"pack").unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoPlace);
}

fn locked(
    answer: impl Fn(&Asked) -> Said + Send + Sync + 'static,
) -> refloat_storage::SharedStorage {
    let url = serve(answer);
    let options = Options {
        s3: S3Options {
            lock: Some(ObjectLock {
                mode: LockMode::Governance,
                period: jiff::SignedDuration::from_hours(24),
            }),
            ..S3Options::default()
        },
        ..Options::default()
    };
    storage(
        &format!("s3:{url}/bucket"),
        options,
        &Surroundings::of(&KEYS),
    )
}

/// The header is sent only to whoever may know it: without it nothing is known yet.
#[test]
fn a_retention_that_is_not_shown_is_not_absent() {
    let ask = |status: u16, body: &'static str| {
        let storage = locked(move |asked| match asked.method.as_str() {
            "HEAD" => Said::status(200).header("etag", "x"),
            _ if asked.path.ends_with("?retention=") => Said::status(status).body(body),
            _ => Said::status(500),
        });
        storage.protected_until(&PACK).map_err(|error| error.kind())
    };
    let refused = "<Error><Code>AccessDenied</Code></Error>";
    assert_eq!(ask(403, refused), Err(StorageErrorKind::Denied));
    let none = "<Error><Code>NoSuchObjectLockConfiguration</Code></Error>";
    assert_eq!(ask(404, none), Ok(None));
    let absent = "<Error><Code>NoSuchKey</Code></Error>";
    assert_eq!(ask(404, absent), Err(StorageErrorKind::NotFound));
    assert_eq!(ask(200, "<html/>"), Err(StorageErrorKind::Unavailable));
    let some = "<Retention><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let until: jiff::Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(ask(200, some), Ok(Some(Timestamp::from(until))));
}

/// A machine's records that are asked for a role that is not there must not look as if the file
/// were not.
#[test]
fn a_role_that_is_not_found_is_no_file_that_is_not_found() {
    let url = serve(|asked| match asked.path.as_str() {
        "/latest/api/token" => Said::text("TOKEN"),
        "/latest/meta-data/iam/security-credentials/" => Said::text("role"),
        _ => Said::status(404),
    });
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let storage = storage(&format!("s3:{url}/bucket"), Options::default(), &around);
    for error in [
        storage.size(&FileKey::CONFIG).map(|_| ()).unwrap_err(),
        storage.delete(&PACK).unwrap_err(),
    ] {
        assert_eq!(
            error.kind(),
            StorageErrorKind::Unauthorized,
            "{}",
            text(&error)
        );
    }
}

/// Apache answers so when two writers make the same folder at once.
#[test]
fn a_folder_that_another_made_at_the_same_moment_is_there() {
    let write = |there: bool| {
        let url = serve(move |asked| match asked.method.as_str() {
            "MKCOL" => Said::status(403),
            "PROPFIND" if there => Said::status(207),
            "HEAD" | "PROPFIND" => Said::status(404),
            _ => Said::status(201),
        });
        let address = format!("webdav:{url}/r");
        let storage = storage(&address, Options::default(), &Surroundings::empty());
        storage.write(&PACK, b"pack").map_err(|error| error.kind())
    };
    assert_eq!(write(true), Ok(()));
    assert_eq!(write(false), Err(StorageErrorKind::Denied));
}
