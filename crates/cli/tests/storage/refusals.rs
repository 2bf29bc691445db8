//! What a person reads when storage cannot be used: the cause, and what to do.

use std::time::{Duration, Instant};

use refloat_testkit::http_proxy::{Fault, HttpProxy, Seen};
use refloat_testkit::servers::{Radosgw, RcloneServer, free_port};

use crate::cycle::Remote;

fn refused(remote: &Remote, args: &[&str], code: i32, expected: &[&str]) {
    let start = Instant::now();
    let (found, shown) = remote.run(args);
    assert_eq!(found, code, "{shown}");
    for text in expected {
        assert!(shown.contains(text), "{text:?} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn addresses_and_options_that_cannot_be_used() {
    for (address, code, expected) in [
        ("rest:https://me:hunter2@host/r", 2, "holds credentials"),
        ("s3://bucket?secret=hunter2", 2, "holds credentials"),
        ("s3://", 2, "write s3://BUCKET/PREFIX"),
        ("rest:http://10.1.2.3/r", 2, "10.1.2.3 is not encrypted"),
        (
            "webdav://example.invalid/r",
            2,
            "--option plain-http=anywhere",
        ),
        ("azblob://container", 2, "AZURE_STORAGE_ACCOUNT"),
        ("ftp://host/r", 2, "use sftp:"),
    ] {
        refused(&Remote::new(address, &[]), &["points"], code, &[expected]);
    }
    let mut remote = Remote::new("s3://bucket", &[]);
    remote.options.push("regoin=x".to_owned());
    refused(
        &remote,
        &["points"],
        2,
        &["unknown key \"regoin\"", "did you mean \"region\"?"],
    );
    let mut remote = Remote::new("s3://bucket", &[]);
    remote.options.push("object-lock=compliance".to_owned());
    refused(
        &remote,
        &["points"],
        2,
        &["object-lock-period are given together"],
    );
}

#[test]
fn servers_that_are_not_there_or_do_not_know_us() {
    let closed = format!("rest:http://127.0.0.1:{}/r/", free_port());
    let remote = Remote::new(&closed, &[]);
    refused(&remote, &["points"], 1, &["Connection refused"]);
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let address = format!("rest:http://127.0.0.1:{}/r/", server.port);
    let remote = Remote::new(
        &address,
        &[
            ("REFLOAT_STORAGE_USER", "me"),
            ("REFLOAT_STORAGE_PASSWORD", "hunter2"),
        ],
    );
    refused(
        &remote,
        &["points"],
        1,
        &["answered 401", "hint: check the credentials of the storage"],
    );
    let (user, password) = RcloneServer::LOGIN;
    let remote = Remote::new(
        &address,
        &[
            ("REFLOAT_STORAGE_USER", user),
            ("REFLOAT_STORAGE_PASSWORD", password),
        ],
    );
    refused(&remote, &["points"], 10, &["refloat init"]);
}

/// A writer that can delete only locks backs up; what it must not delete is told as kept.
#[test]
fn a_writer_that_cannot_delete_works_fully() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let bucket = "arn:aws:s3:::bucket";
    let who = |user: &str| {
        format!("\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"arn:aws:iam:::user/{user}\"}}")
    };
    // What the writer wrote is the writer's: the owner of the bucket needs a word as well.
    let (owner, who) = (who("user0"), who("user1"));
    server.set_policy(
        "bucket",
        &format!(
            "{{\"Version\": \"2012-10-17\", \"Statement\": [\
             {{{owner}, \"Action\": \"s3:*\", \"Resource\": [\"{bucket}\", \"{bucket}/*\"]}},\
             {{{who}, \"Action\": [\"s3:ListBucket\"], \"Resource\": \"{bucket}\"}},\
             {{{who}, \"Action\": [\"s3:GetObject\", \"s3:PutObject\"], \"Resource\": \"{bucket}/*\"}},\
             {{{who}, \"Action\": [\"s3:DeleteObject\"], \"Resource\": \"{bucket}/r/locks/*\"}}]}}"
        ),
    );
    let address = format!("s3:http://127.0.0.1:{}/bucket/r", server.port);
    let keys = |(access, secret): (&'static str, &'static str)| {
        [
            ("AWS_ACCESS_KEY_ID", access),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
    };
    let mut writer = Remote::new(&address, &keys(Radosgw::WRITER));
    let _made = writer.succeed(&["init"]);
    writer.back_up(1);
    writer.back_up(2);
    let _sound = writer.succeed(&["check", "--read-data"]);
    writer.restores_equal("out");
    let locks = server.call(
        Radosgw::OWNER,
        "GET",
        "/bucket?list-type=2&prefix=r%2Flocks%2F",
        &[],
    );
    assert!(!locks.contains("<Contents>"), "no lock is left: {locks}");

    let (code, shown) = writer.run(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(code, 3, "{shown}");
    assert!(
        shown.contains("is kept by the storage and was not dropped"),
        "{shown}"
    );
    let output = writer
        .command(&["forget", "--keep-last", "1", "--yes", "--json"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["dropped"], 0, "{document:#}");
    let kept = document["kept_by_storage"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "{document:#}");
    writer
        .variables
        .extend(keys(Radosgw::OWNER).map(|(name, value)| (name, value.to_owned())));
    let _forgot = writer.succeed(&["forget", "--keep-last", "1", "--prune", "--yes"]);
    let _sound = writer.succeed(&["check", "--read-data"]);
}

/// Object Lock: what is written is kept, what is still needed is extended, and nobody deletes.
#[test]
fn locked_points_are_kept_shown_and_extended() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("plain");
    server.make_locking_bucket("locked");
    let (access, secret) = Radosgw::OWNER;
    let keys = [
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let remote = |bucket: &str, period: &str| {
        let mut remote = Remote::new(
            &format!("s3:http://127.0.0.1:{}/{bucket}", server.port),
            &keys,
        );
        if !period.is_empty() {
            remote.options.push("object-lock=governance".to_owned());
            remote.options.push(format!("object-lock-period={period}"));
        }
        remote
    };
    refused(
        &remote("plain", "30d"),
        &["init"],
        1,
        &["made without Object Lock"],
    );

    let mut locked = remote("locked", "10d");
    let _made = locked.succeed(&["init"]);
    locked.back_up(1);
    let shown = locked.succeed(&["points", "--protection"]);
    assert!(
        shown.contains("KEPT UNTIL") && !shown.contains("not protected"),
        "{shown}"
    );
    let fresh = locked.succeed(&["protect"]);
    assert!(
        fresh.contains(" 0 extended"),
        "all of the period is left: {fresh}"
    );
    // Another day's run with a period of which less than half is left.
    locked.options[1] = "object-lock-period=30d".to_owned();
    let before = end_of(&locked);
    let later = locked.succeed(&["protect"]);
    assert!(!later.contains(" 0 extended"), "{later}");
    assert!(end_of(&locked) > before);
    // What is dropped is hidden only: every version is still there, and the owner cannot end it.
    let versions = server.call(Radosgw::OWNER, "GET", "/locked?versions", &[]);
    locked.back_up(2);
    let _forgot = locked.succeed(&["forget", "--keep-last", "1", "--prune", "--yes"]);
    let now = server.call(Radosgw::OWNER, "GET", "/locked?versions", &[]);
    for part in versions.split("<Version>").skip(1) {
        let between = |start: &str, end: &str| {
            part.split_once(start)
                .unwrap()
                .1
                .split_once(end)
                .unwrap()
                .0
                .to_owned()
        };
        let (key, version) = (between("<Key>", "<"), between("<VersionId>", "<"));
        if key.starts_with("locks/") {
            continue;
        }
        assert!(now.contains(&version), "{key} is kept");
        let path = format!("/locked/{key}?versionId={version}");
        let (status, _) = server.send(Radosgw::OWNER, ("DELETE", &path), &[], b"");
        assert_eq!(status, 403, "{key} cannot be deleted");
    }
    let _sound = locked.succeed(&["check", "--read-data"]);
}

fn end_of(remote: &Remote) -> String {
    let output = remote
        .command(&["points", "--protection", "--json"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["points"][0]["protected_until"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What cannot be extended is named, everything else is extended, and the exit code tells.
#[test]
fn what_cannot_be_extended_is_named_and_ends_with_3() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_locking_bucket("locked");
    let proxy = HttpProxy::start(server.port, |seen: &Seen| {
        let extends = seen.method == "PUT" && seen.path.contains("retention");
        let refused = Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>");
        (extends && seen.path.contains("/snapshots/")).then_some(refused)
    });
    let (access, secret) = Radosgw::OWNER;
    let keys = [
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let remote = |port: u16, period: &str| {
        let mut remote = Remote::new(&format!("s3:http://127.0.0.1:{port}/locked/r"), &keys);
        remote.options.push("object-lock=governance".to_owned());
        remote.options.push(format!("object-lock-period={period}"));
        remote
    };
    let writer = remote(server.port, "10d");
    let _made = writer.succeed(&["init"]);
    writer.back_up(1);
    let (code, shown) = remote(proxy.port, "30d").run(&["protect"]);
    assert_eq!(code, 3, "{shown}");
    assert!(shown.contains("error: snapshot"), "{shown}");
    assert!(
        shown.contains("not everything is kept: 1 failure"),
        "{shown}"
    );
    let done = remote(server.port, "30d").succeed(&["protect"]);
    assert!(
        done.contains(" 1 extended; everything is kept until"),
        "{done}"
    );
}
