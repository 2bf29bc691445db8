//! S3 behind a proxy that misbehaves: what breaks is repeated, told, or never taken for whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;
use refloat_storage::retry::{RetryLimits, RetryStorage, SystemWorld};
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use refloat_storage_remote::{ConnectOptions, Options, Surroundings};
use refloat_testkit::conformance::named;
use refloat_testkit::http_proxy::{Fault, HttpProxy, Seen};
use refloat_testkit::random::Random;
use refloat_testkit::servers::Radosgw;

use crate::playground::{storage, text};

const SILENCE_MAX: Duration = Duration::from_secs(1);

fn through(port: u16) -> SharedStorage {
    let (access, secret) = Radosgw::OWNER;
    let around = Surroundings::of(&[
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]);
    let options = Options {
        connect: ConnectOptions {
            silence_max: SILENCE_MAX,
            ..ConnectOptions::default()
        },
        ..Options::default()
    };
    storage(
        &format!("s3:http://127.0.0.1:{port}/bucket/r"),
        options,
        &around,
    )
}

fn repeating(inner: SharedStorage) -> SharedStorage {
    let limits = RetryLimits {
        first_pause_max: Duration::from_millis(5),
        pause_max: Duration::from_millis(50),
        ..RetryLimits::default()
    };
    let world = Arc::new(SystemWorld::new(Cancel::default()));
    Arc::new(RetryStorage::new(inner, limits, world))
}

/// Every fault, as something that strikes once in a while.
const FAULTS: [Fault; 18] = [
    Fault::Answer(500, ""),
    Fault::Answer(502, "<html>bad gateway</html>"),
    Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>"),
    Fault::Answer(429, ""),
    Fault::Answer(408, ""),
    Fault::Answer(409, "<Error><Code>OperationAborted</Code></Error>"),
    Fault::Answer(200, ""),
    Fault::Answer(200, "<html>please log in</html>"),
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::ResetInside,
    Fault::Silence(Duration::from_secs(2)),
    Fault::ShortWithLength,
    Fault::ShortChunked,
    Fault::OtherRange,
    Fault::FlippedBit,
    Fault::ErrorInSuccess,
    Fault::CutUpload,
];

#[test]
fn what_a_proxy_breaks_is_repeated_or_told() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let honest = through(server.port);
    for (number, fault) in FAULTS.iter().enumerate() {
        each_call_survives(&server, &*honest, fault, number as u64);
    }
    a_hanging_server_is_given_up_in_time(&server);
    credentials_that_are_refused_once_are_told(&server);
}

/// The fault strikes the first request of each call; what the call says is then compared with
/// what the server has.
fn each_call_survives(
    server: &Radosgw,
    honest: &dyn refloat_storage::Storage,
    fault: &Fault,
    seed: u64,
) {
    let strikes = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (armed, struck) = (Arc::clone(&strikes), fault.clone());
    let plan = move |_seen: &Seen| {
        let strike = armed.swap(false, std::sync::atomic::Ordering::SeqCst);
        strike.then(|| struck.clone())
    };
    let proxy = HttpProxy::start(server.port, plan);
    let storage = repeating(through(proxy.port));
    let arm = || strikes.store(true, std::sync::atomic::Ordering::SeqCst);
    let bytes = Random::new(seed).bytes(50_000);
    let pack = named(FileKind::Pack, &bytes);

    arm();
    let written = storage.write(&pack, &bytes);
    written.unwrap_or_else(|e| panic!("{fault:?}: {}", text(&e)));
    assert!(honest.read(&pack).unwrap() == bytes, "{fault:?}");
    arm();
    let read = storage.read(&pack).unwrap();
    assert!(read == bytes, "{fault:?}: a file is read whole");
    for (offset, length) in [(0, 50_000), (17, 20_000), (49_999, 1)] {
        arm();
        let part = storage.read_range(&pack, offset, length);
        let start = usize::try_from(offset).unwrap();
        match part {
            Ok(part) if *fault == Fault::FlippedBit => assert_eq!(part.len(), length),
            Ok(part) => assert!(part == bytes[start..start + length], "{fault:?} {offset}"),
            Err(error) => panic!("{fault:?} {offset}: {}", text(&error)),
        }
    }
    arm();
    if *fault != Fault::FlippedBit {
        let listed = storage.list(FileKind::Pack);
        let listed = listed.unwrap_or_else(|e| panic!("{fault:?}: {}", text(&e)));
        let all = honest.list(FileKind::Pack).unwrap();
        assert_eq!(listed.len(), all.len(), "{fault:?}: no listing is short");
    }
    arm();
    assert_eq!(storage.size(&pack).unwrap(), Some(50_000), "{fault:?}");
}

fn a_hanging_server_is_given_up_in_time(server: &Radosgw) {
    let silence = Fault::Silence(Duration::from_secs(600));
    let proxy = HttpProxy::start(server.port, move |_seen| Some(silence.clone()));
    let start = Instant::now();
    let error = through(proxy.port).size(&FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert!(
        text(&error).contains("does not answer in time"),
        "{}",
        text(&error)
    );
    assert!(start.elapsed() < SILENCE_MAX * 4, "{:?}", start.elapsed());
}

fn credentials_that_are_refused_once_are_told(server: &Radosgw) {
    let expired = "<Error><Code>ExpiredToken</Code><Message>too old</Message></Error>";
    let proxy = HttpProxy::start(server.port, move |_| Some(Fault::Answer(400, expired)));
    let error = repeating(through(proxy.port))
        .list(FileKind::Key)
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unauthorized);
    assert!(
        text(&error).contains("400 ExpiredToken: too old"),
        "{}",
        text(&error)
    );
    assert_eq!(proxy.seen().len(), 1, "what does not pass is not repeated");
}
