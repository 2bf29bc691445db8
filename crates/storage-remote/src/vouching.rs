//! Who says that a file is there, or is not: the service itself, or some box in between.

use std::sync::{Arc, Mutex};

use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};

use crate::ConnectOptions;
use crate::stand_in::{Asked, Said, at, serve, text};

const PACK: FileKey = FileKey::new(FileKind::Pack, [0xab; 32]);

/// A repository on a server that speaks as this service.
pub(crate) fn of_service(
    service: &str,
    answer: impl Fn(&Asked) -> Said + Send + Sync + 'static,
) -> SharedStorage {
    at(service, &serve(answer), ConnectOptions::default(), &[])
}

/// A listing with the pack, or without.
pub(crate) fn listing(service: &str, lists: bool) -> String {
    let path = format!("r/{}", PACK.path());
    let file = |text: String| if lists { text } else { String::new() };
    match service {
        "s3" => {
            let object = format!("<Contents><Key>{path}</Key><Size>4</Size></Contents>");
            let cut = "<IsTruncated>false</IsTruncated>";
            format!("<ListBucketResult>{cut}{}</ListBucketResult>", file(object))
        }
        "azblob" => {
            let length = "<Properties><Content-Length>4</Content-Length></Properties>";
            let blob = file(format!("<Blob><Name>{path}</Name>{length}</Blob>"));
            format!("<EnumerationResults><Blobs>{blob}</Blobs></EnumerationResults>")
        }
        "gcs" => {
            let item = file(format!(r#"{{"name": "{path}", "size": "4"}}"#));
            format!(r#"{{"kind": "storage#objects", "items": [{item}]}}"#)
        }
        _ => {
            let entry = file(format!(r#"{{"name": "{}", "size": 4}}"#, PACK.name()));
            format!("[{entry}]")
        }
    }
}

/// What reading, sizing and deleting a pack ends in, on a server that does not find it.
fn not_found(
    service: &'static str,
    lists: Option<bool>,
    said: impl Fn() -> Said + Send + Sync + 'static,
) -> [Result<(), StorageErrorKind>; 3] {
    let storage = of_service(service, move |asked| {
        let is_object = asked.path.contains(&PACK.name()) && !asked.path.contains("prefix=");
        match lists {
            Some(lists) if !is_object => Said::text(listing(service, lists)),
            _ => said(),
        }
    });
    let told = |error: refloat_storage::StorageError| {
        let (kind, text) = (error.kind(), text(&error));
        assert!(text.contains("404"), "{text}");
        kind
    };
    [
        storage.read(&PACK).map(drop).map_err(told),
        storage
            .size(&PACK)
            .map(|size| assert_eq!(size, None))
            .map_err(told),
        storage.delete(&PACK).map_err(told),
    ]
}

const UNREACHED: [Result<(), StorageErrorKind>; 3] = [Err(StorageErrorKind::Unavailable); 3];
const BUSY: [Result<(), StorageErrorKind>; 3] = [Err(StorageErrorKind::Busy); 3];
const GONE: [Result<(), StorageErrorKind>; 3] = [Err(StorageErrorKind::NotFound), Ok(()), Ok(())];

/// A controller of ingresses answers so while the service behind it restarts.
#[test]
fn not_found_by_some_box_is_no_file_that_is_not_there() {
    for service in ["s3", "azblob", "gcs"] {
        for body in [
            "",
            "default backend - 404",
            "<html><h1>404 Not Found</h1></html>",
        ] {
            let said = move || Said::status(404).body(body);
            assert_eq!(
                not_found(service, None, said),
                UNREACHED,
                "{service}: {body}"
            );
            assert_eq!(
                not_found(service, Some(true), said),
                BUSY,
                "{service}: {body}"
            );
            assert_eq!(
                not_found(service, Some(false), said),
                GONE,
                "{service}: {body}"
            );
        }
    }
}

#[test]
fn a_services_own_word_needs_no_listing() {
    let key = || Said::status(404).body("<Error><Code>NoSuchKey</Code></Error>");
    assert_eq!(not_found("s3", None, key), GONE);
    let blob = || Said::status(404).header("x-ms-error-code", "BlobNotFound");
    assert_eq!(not_found("azblob", None, blob), GONE);
    let json = || Said::status(404).body(r#"{"error": {"message": "No such object: b/o"}}"#);
    assert_eq!(not_found("gcs", None, json), GONE);
    let line = || Said::status(404).body("No such object: b/o");
    assert_eq!(not_found("gcs", None, line), GONE);
    let plain = || Said::status(404).body("404 page not found");
    assert_eq!(not_found("rest", None, plain), GONE);
}

/// rclone says it whenever it could not open an object, and when the cloud behind it fails.
#[test]
fn what_rclone_does_not_find_is_looked_for_in_a_listing() {
    let said = || Said::status(404).header("server", "rclone/v1.71.0");
    assert_eq!(not_found("rest", None, said), BUSY);
    assert_eq!(not_found("rest", Some(true), said), BUSY);
    assert_eq!(not_found("rest", Some(false), said), GONE);
}

/// Content that is written once more is the same; another config is a lost repository.
#[test]
fn a_config_that_rclone_does_not_find_is_not_written_over() {
    let init = |listed: &'static str, keys: &'static str| {
        let written = Arc::new(Mutex::new(0));
        let log = Arc::clone(&written);
        let storage = of_service("rest", move |asked| match asked.method.as_str() {
            "POST" => {
                *log.lock().unwrap() = asked.body.len();
                Said::status(200)
            }
            "GET" if asked.path == "/r/" => Said::text(listed),
            "GET" if asked.path == "/r/keys/" => Said::text(keys),
            _ => match *log.lock().unwrap() {
                0 => Said::status(404).header("server", "rclone/v1.71.0"),
                length => Said::status(200).body("x".repeat(length)),
            },
        });
        let done = storage.write(&FileKey::CONFIG, b"config");
        let written = *written.lock().unwrap();
        (done.map_err(|error| error.kind()), written)
    };
    let (config, keys) = (
        r#"[{"name": "config", "size": 7}]"#,
        r#"[{"name": "a", "size": 9}]"#,
    );
    assert_eq!(init(config, keys), (Err(StorageErrorKind::Busy), 0));
    assert_eq!(init("[]", "[]"), (Ok(()), 6));
    // Of a repository below, and of an init that was interrupted.
    assert_eq!(init(config, "[]"), (Ok(()), 6));
    assert_eq!(init("[]", keys), (Ok(()), 6));
}

/// What a server says of a change that was not made as a whole.
#[test]
fn many_answers_in_one_are_no_success_of_webdav() {
    let write = |method: &'static str, status: u16, body: &str| {
        let body = body.to_owned();
        let storage = of_service("webdav", move |asked| match asked.method.as_str() {
            "HEAD" => Said::status(404),
            asked if asked == method => Said::status(status).body(&body),
            _ => Said::status(201),
        });
        let done = match method {
            "DELETE" => storage.delete(&PACK),
            _ => storage.write(&PACK, b"pack"),
        };
        done.map_err(|error| error.kind())
    };
    let inner = |status: &str| {
        let first =
            "<D:response><D:href>/r</D:href><D:status>HTTP/1.1 424 X</D:status></D:response>";
        format!(
            "<D:multistatus xmlns:D=\"DAV:\">{first}<D:response><D:href>/r/x</D:href>\
             <D:status>HTTP/1.1 {status}</D:status></D:response></D:multistatus>"
        )
    };
    for method in ["MOVE", "PUT", "MKCOL", "DELETE"] {
        let full = write(method, 207, &inner("507 Insufficient Storage"));
        assert_eq!(full, Err(StorageErrorKind::Full), "{method}");
        let locked = write(method, 207, &inner("423 Locked"));
        assert_eq!(locked, Err(StorageErrorKind::Busy), "{method}");
        for (status, body) in [(207, ""), (202, ""), (226, "")] {
            let vague = write(method, status, body);
            assert_eq!(
                vague,
                Err(StorageErrorKind::Unavailable),
                "{method} {status}"
            );
        }
        for status in [200, 201, 204] {
            assert_eq!(write(method, status, ""), Ok(()), "{method} {status}");
        }
    }
}

#[test]
fn google_has_to_say_what_it_stored() {
    let write = |stored: &str| {
        let stored = stored.replace("NAME", &format!("r/{}", PACK.path()));
        let storage = of_service("gcs", move |_asked| Said::text(&*stored));
        storage.write(&PACK, b"pack").map_err(|error| error.kind())
    };
    let kind = r#""kind": "storage#object""#;
    let (name, size) = (r#""name": "NAME""#, r#""size": "4""#);
    let sum = r#""md5Hash": "bHdiRuNaprzMJL5nUSHXlQ==""#;
    assert_eq!(write(&format!("{{{kind}, {name}, {size}}}")), Ok(()));
    for other in [
        "{}".to_owned(),
        format!("{{{sum}}}"),
        format!("{{{kind}, {name}}}"),
        format!("{{{kind}, {size}, \"name\": \"r/config\"}}"),
        format!("{{\"kind\": \"storage#bucket\", {name}, {size}}}"),
        format!("{{{kind}, {name}, \"size\": \"3\"}}"),
        format!("{{{kind}, {name}, {size}, {sum}}}"),
    ] {
        assert_eq!(write(&other), Err(StorageErrorKind::Unavailable), "{other}");
    }
}

/// Some box says yes to everything.
#[test]
fn a_rest_server_has_to_have_what_it_took() {
    let write = |key: FileKey, taken: u16, kept: &'static [u8]| {
        let took = Arc::new(Mutex::new(false));
        let storage = of_service("rest", move |asked| match asked.method.as_str() {
            "POST" => {
                *took.lock().unwrap() = true;
                Said::status(taken)
            }
            _ if *took.lock().unwrap() => Said::text(String::from_utf8_lossy(kept)),
            _ => Said::status(404),
        });
        storage.write(&key, b"four").map_err(|error| error.kind())
    };
    for kind in [
        FileKind::Key,
        FileKind::Lock,
        FileKind::Snapshot,
        FileKind::Index,
    ] {
        let key = FileKey::new(kind, [7; 32]);
        assert_eq!(write(key, 200, b"four"), Ok(()));
        assert_eq!(write(key, 200, b""), Err(StorageErrorKind::Unavailable));
    }
    assert_eq!(
        write(FileKey::CONFIG, 201, b"five!"),
        Err(StorageErrorKind::Unavailable)
    );
    // Packs are compared with a listing before a point is published.
    assert_eq!(write(PACK, 204, b""), Ok(()));
    assert_eq!(
        write(PACK, 202, b"four"),
        Err(StorageErrorKind::Unavailable)
    );
}

/// Listings of REST servers have no times, so that theirs is all that there is beside our own.
#[test]
fn the_servers_clock_is_known_from_its_answers() {
    for service in ["s3", "azblob", "gcs", "rest", "webdav"] {
        let storage = of_service(service, |asked| {
            let said = Said::status(404).header("date", "Wed, 25 Nov 2026 10:00:00 GMT");
            match asked.method.as_str() {
                // Of a box in between, which kept it for a day.
                "DELETE" => Said::status(404)
                    .header("date", "Tue, 24 Nov 2026 10:00:00 GMT")
                    .header("age", "86400"),
                _ => said,
            }
        });
        assert_eq!(storage.now(), None);
        let _absent = storage.read(&PACK).unwrap_err();
        let _absent = storage.delete(&PACK);
        let told: jiff::Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let later = storage.now().unwrap().to_jiff().duration_since(told);
        assert!((0..60).contains(&later.as_secs()), "{service}: {later}");
    }
}
