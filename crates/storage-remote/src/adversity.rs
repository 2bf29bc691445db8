//! What goes wrong beside the bytes: credentials, buckets, clocks, haste, lines. Each is told for
//! what it is, and in time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;
use refloat_storage::retry::{RetryLimits, RetryStorage, SystemWorld};
use refloat_storage::{FileKey, FileKind, Storage, StorageError, StorageErrorKind};

use crate::ConnectOptions;
use crate::stand_in::{Said, at, date_in, listen, serve, text};

const SERVICES: [&str; 5] = ["s3", "azblob", "gcs", "rest", "webdav"];
const PACK: FileKey = FileKey::new(FileKind::Pack, [0xab; 32]);
/// Calls are repeated for so long.
const RETRY_FOR: Duration = Duration::from_secs(1);
/// A server may be silent for so long.
const SILENCE: Duration = Duration::from_millis(500);
/// The deadline and one attempt, with what a busy machine adds.
const TOLD_WITHIN: Duration = Duration::from_secs(8);

/// How listing and reading end, as a command does it, within their time.
fn asked(service: &str, url: &str) -> [(StorageErrorKind, String); 2] {
    let connect = ConnectOptions {
        connect_timeout: SILENCE,
        silence_max: SILENCE,
        ..ConnectOptions::default()
    };
    let limits = RetryLimits {
        first_pause_max: Duration::from_millis(100),
        deadline: RETRY_FOR,
        first_deadline: RETRY_FOR,
        ..RetryLimits::default()
    };
    let world = Arc::new(SystemWorld::new(Cancel::default()));
    let storage = RetryStorage::new(at(service, url, connect, &[]), limits, world);
    let told = |call: &dyn Fn() -> StorageError| {
        let start = Instant::now();
        let error = call();
        let (took, shown) = (start.elapsed(), text(&error));
        assert!(took < TOLD_WITHIN, "{service}: {shown} after {took:?}");
        assert!(!shown.contains("hunter2"), "{service}: {shown}");
        (error.kind(), shown)
    };
    [
        told(&|| storage.list(FileKind::Snapshot).unwrap_err()),
        told(&|| storage.read(&PACK).unwrap_err()),
    ]
}

/// What a service answers, and what that means.
struct Refused {
    service: &'static str,
    status: u16,
    header: Option<(&'static str, String)>,
    body: String,
    kind: StorageErrorKind,
    words: &'static str,
}

fn refused(service: &'static str, status: u16, kind: StorageErrorKind) -> Refused {
    Refused {
        service,
        status,
        header: None,
        body: String::new(),
        kind,
        words: "answered",
    }
}

impl Refused {
    fn told(self, words: &'static str) -> Self {
        Self { words, ..self }
    }

    fn header(self, name: &'static str, value: impl Into<String>) -> Self {
        let header = Some((name, value.into()));
        Self { header, ..self }
    }

    fn body(self, body: impl Into<String>) -> Self {
        let body = body.into();
        Self { body, ..self }
    }

    /// The words of a service that answers with XML.
    fn xml(self, code: &str, message: &str) -> Self {
        self.body(format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        ))
    }

    /// Google's words.
    fn json(self, reason: &str, message: &str) -> Self {
        self.body(format!(
            r#"{{"error": {{"code": 0, "message": "{message}", "errors": [{{"reason": "{reason}"}}]}}}}"#
        ))
    }

    /// Asks for it.
    fn check(self) {
        let Self {
            service,
            status,
            header,
            body,
            kind,
            words,
        } = self;
        let url = serve(move |_asked| {
            let said = Said::status(status).body(&*body);
            match &header {
                Some((name, value)) => said.header(name, value),
                None => said,
            }
        });
        let [listed, read] = asked(service, &url);
        assert_eq!(listed.0, kind, "{service} {words}: {}", listed.1);
        assert!(listed.1.contains(words), "{service} {words}: {}", listed.1);
        // Without listings, no folder tells a file that is gone from a repository that is.
        if kind == StorageErrorKind::NoPlace && ["rest", "webdav"].contains(&service) {
            return;
        }
        assert_eq!(read.0, kind, "{service} {words}: {}", read.1);
        assert!(read.1.contains(words), "{service} {words}: {}", read.1);
    }
}

fn of_s3() -> Vec<Refused> {
    use StorageErrorKind::{Busy, ClockSkew, Denied, NoPlace, Unauthorized};
    vec![
        refused("s3", 400, Unauthorized)
            .xml("ExpiredToken", "The provided token has expired.")
            .told("400 ExpiredToken: The provided token has expired"),
        refused("s3", 403, Unauthorized)
            .xml("SignatureDoesNotMatch", "The request signature differs.")
            .told("403 SignatureDoesNotMatch"),
        refused("s3", 403, Unauthorized)
            .xml("InvalidAccessKeyId", "It does not exist in our records.")
            .told("403 InvalidAccessKeyId"),
        refused("s3", 403, Denied)
            .xml("AccessDenied", "Access Denied")
            .told("403 AccessDenied"),
        refused("s3", 404, NoPlace)
            .xml("NoSuchBucket", "The specified bucket does not exist")
            .told("404 NoSuchBucket"),
        refused("s3", 403, ClockSkew)
            .xml("RequestTimeTooSkewed", "The difference is too large.")
            .header("date", date_in(-60))
            .told("clock is 60 minutes ahead of the server's"),
        refused("s3", 503, Busy)
            .xml("SlowDown", "Please reduce your request rate.")
            .told("503 SlowDown"),
        refused("s3", 429, Busy)
            .xml("TooManyRequests", "Please reduce your request rate.")
            .header("retry-after", "7")
            .told("429 TooManyRequests: Please reduce your request rate (it asks to wait 7 s)"),
    ]
}

fn of_azure() -> Vec<Refused> {
    use StorageErrorKind::{Busy, ClockSkew, Denied, NoPlace, Unauthorized};
    let unknown = "Server failed to authenticate the request. Make sure the value of Authorization \
                   header is formed correctly including the signature.\nRequestId:1\nTime:2";
    let detailed = |status, code: &str, detail: &str| {
        refused("azblob", status, Unauthorized).body(format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{unknown}</Message>\
             <AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail></Error>"
        ))
    };
    let times = "Signature not valid in the specified time frame: Start [Thu, 09 Jul 2020 10:11:03 \
                 GMT] - Expiry [Thu, 09 Jul 2020 18:11:03 GMT] - Current [Fri, 10 Jul 2020 \
                 10:16:22 GMT]";
    vec![
        detailed(403, "AuthenticationFailed", times)
            .told("403 AuthenticationFailed: Signature not valid in the specified time frame"),
        // Whose clock is wrong says nothing of a signature that somebody gave us.
        detailed(403, "AuthenticationFailed", times)
            .header("date", date_in(60))
            .told("18:11:03"),
        detailed(
            401,
            "InvalidAuthenticationInfo",
            "Lifetime validation failed. The token is expired.",
        )
        .told("401 InvalidAuthenticationInfo: Lifetime validation failed. The token is expired"),
        detailed(
            403,
            "AuthenticationFailed",
            "The MAC signature found in the HTTP request 'hunter2' is not the same",
        )
        .told("403 AuthenticationFailed: Server failed to authenticate the request"),
        Refused {
            kind: ClockSkew,
            ..detailed(403, "AuthenticationFailed", "Request date header too old")
        }
        .header("date", date_in(60))
        .told("clock is 60 minutes behind the server's"),
        refused("azblob", 403, Denied)
            .xml("AuthorizationPermissionMismatch", "Not authorized.")
            .told("403 AuthorizationPermissionMismatch"),
        refused("azblob", 404, NoPlace)
            .xml("ContainerNotFound", "The container does not exist.")
            .told("404 ContainerNotFound"),
        refused("azblob", 503, Busy)
            .xml("ServerBusy", "The server is busy.")
            .told("503 ServerBusy"),
        refused("azblob", 429, Busy)
            .header("retry-after", "7")
            .told("answered 429 (it asks to wait 7 s)"),
    ]
}

fn of_google() -> Vec<Refused> {
    use StorageErrorKind::{Busy, Denied, NoPlace, Unauthorized};
    let over = |status, reason| refused("gcs", status, Busy).json(reason, "Rate exceeded.");
    vec![
        refused("gcs", 401, Unauthorized)
            .json("authError", "Invalid Credentials")
            .told("401 authError: Invalid Credentials"),
        refused("gcs", 403, Denied)
            .json("forbidden", "x does not have storage.objects.get access.")
            .told("403 forbidden: x does not have storage.objects.get access"),
        refused("gcs", 404, NoPlace)
            .json("notFound", "The specified bucket does not exist.")
            .told("404 notFound: The specified bucket does not exist"),
        over(429, "rateLimitExceeded")
            .header("retry-after", "7")
            .told("429 rateLimitExceeded: Rate exceeded (it asks to wait 7 s)"),
        over(403, "rateLimitExceeded").told("403 rateLimitExceeded"),
        over(403, "userRateLimitExceeded").told("403 userRateLimitExceeded"),
        over(503, "backendError").told("503 backendError"),
    ]
}

fn of_plain_servers() -> Vec<Refused> {
    use StorageErrorKind::{Busy, Denied, NoPlace, Unauthorized};
    let of = |service| {
        [
            refused(service, 401, Unauthorized).told("answered 401"),
            refused(service, 403, Denied).told("answered 403"),
            refused(service, 404, NoPlace).told("neither this folder nor a repository"),
            refused(service, 429, Busy)
                .header("retry-after", "7")
                .told("answered 429 (it asks to wait 7 s)"),
            refused(service, 503, Busy).told("answered 503"),
        ]
    };
    ["rest", "webdav"].into_iter().flat_map(of).collect()
}

#[test]
fn what_a_service_refuses_is_told_for_what_it_is() {
    let all = [of_s3(), of_azure(), of_google(), of_plain_servers()];
    std::thread::scope(|scope| {
        for refused in all.into_iter().flatten() {
            let _checking = scope.spawn(|| refused.check());
        }
    });
}

#[test]
fn what_a_service_asks_to_wait_is_handed_on() {
    for service in SERVICES {
        let url = serve(|_asked| Said::status(429).header("retry-after", "7"));
        let storage = at(service, &url, ConnectOptions::default(), &[]);
        let error = storage.list(FileKind::Snapshot).unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(7)),
            "{service}"
        );
        let error = storage.write(&PACK, b"x").unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(7)),
            "{service}"
        );
    }
}

/// Sends a byte twenty times a second, for longer than anybody waits.
fn drip(stream: &mut TcpStream) {
    for _drop in 0..1_000 {
        std::thread::sleep(Duration::from_millis(50));
        if stream.write_all(b"x").is_err() {
            return;
        }
    }
}

#[test]
fn a_line_that_fails_is_told_in_time() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 1000\r\n\r\n0123456789";
    type Talk = fn(&mut TcpStream);
    let lines: [(&str, &str, Talk, &str); 6] = [
        (
            "cut",
            "http",
            |stream| stream.write_all(HEAD).unwrap_or_default(),
            "ends after 10 of 1000 bytes",
        ),
        (
            "silent",
            "http",
            |_stream| std::thread::sleep(TOLD_WITHIN * 2),
            "does not answer in time",
        ),
        (
            "silent before it is encrypted",
            "https",
            |_stream| std::thread::sleep(TOLD_WITHIN * 2),
            "does not answer in time",
        ),
        (
            "silent in the middle",
            "http",
            |stream| {
                stream.write_all(HEAD).unwrap_or_default();
                std::thread::sleep(TOLD_WITHIN * 2);
            },
            "does not answer in time",
        ),
        (
            "a head in drops",
            "http",
            |stream| {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nx: ")
                    .unwrap_or_default();
                drip(stream);
            },
            "does not answer in time",
        ),
        (
            "a body in drops",
            "http",
            |stream| {
                stream.write_all(HEAD).unwrap_or_default();
                drip(stream);
            },
            " bytes in ",
        ),
    ];
    std::thread::scope(|scope| {
        for service in SERVICES {
            for (name, scheme, talk, words) in lines {
                let _checking = scope.spawn(move || {
                    let authority = listen(move |mut stream| {
                        let _asked = stream.read(&mut [0; 16 << 10]);
                        talk(&mut stream);
                    });
                    for (kind, shown) in asked(service, &format!("{scheme}://{authority}")) {
                        let unavailable = kind == StorageErrorKind::Unavailable;
                        let is_told = unavailable && shown.contains(words);
                        assert!(is_told, "{service}, {name}: {kind:?} {shown}");
                    }
                });
            }
        }
    });
}
