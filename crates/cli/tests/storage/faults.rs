//! Whole backups to a real S3 server through a proxy that misbehaves: exit code 0 means that
//! nothing is lost, and anything else says why within its time.
//!
//! Each place is looked at afterwards without the proxy: whatever the run came to, what is listed is whole
//! and the next run needs no hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use refloat_testkit::http_proxy::{Fault, HttpProxy, Seen};
use refloat_testkit::random::Random;
use refloat_testkit::servers::Radosgw;
use refloat_testkit::tier;

use crate::cycle::Remote;

const FAULTS: [Fault; 18] = [
    Fault::Answer(500, ""),
    Fault::Answer(502, "<html>bad gateway</html>"),
    Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>"),
    Fault::Answer(429, ""),
    Fault::Answer(200, "<html>please log in</html>"),
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::ResetInside,
    Fault::Silence(Duration::from_secs(3)),
    Fault::ShortWithLength,
    Fault::ShortChunked,
    Fault::OtherRange,
    Fault::ErrorInSuccess,
    Fault::CutUpload,
    Fault::FlippedBit,
    Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>"),
    Fault::Answer(404, "<Error><Code>NoSuchKey</Code></Error>"),
    Fault::Answer(409, "<Error><Code>OperationAborted</Code></Error>"),
];

fn runs() -> u64 {
    tier::by_tier(6, 500, 5_000)
}

fn remote(port: u16, path: &str) -> Remote {
    let (access, secret) = Radosgw::OWNER;
    let mut remote = Remote::new(
        &format!("s3:http://127.0.0.1:{port}/bucket/{path}"),
        &[
            ("AWS_ACCESS_KEY_ID", access),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ],
    );
    remote.options.push("timeout=1s".to_owned());
    remote
}

/// The same place, reached directly.
fn directly(mut remote: Remote, port: u16, path: &str) -> Remote {
    let address = format!("s3:http://127.0.0.1:{port}/bucket/{path}");
    remote.variables.push(("REFLOAT_REPOSITORY", address));
    remote
}

/// What one run came to.
#[derive(Default)]
struct Tally {
    complete: u64,
    /// Runs that ended with an error that said so.
    failed: u64,
    faults: usize,
}

/// One backup through a proxy that misbehaves so often; afterwards the place is looked at without it.
fn run_once(server: u16, seed: u64, per_mille: u64, tally: &mut Tally) {
    let random = Mutex::new(Random::new(seed));
    let proxy = HttpProxy::start(server, move |_seen: &Seen| {
        let mut random = random.lock().unwrap();
        let strikes = random.below(1_000) < per_mille;
        let which = random.below(FAULTS.len() as u64);
        strikes.then(|| FAULTS[usize::try_from(which).unwrap()].clone())
    });
    let path = format!("run-{seed}");
    let what = format!("seed {seed} at {per_mille} per mille");
    let mut place = remote(server, &path);
    let _made = place.succeed(&["init"]);
    place.back_up(1_000_000 + seed);
    let through = format!("s3:http://127.0.0.1:{}/bucket/{path}", proxy.port);
    place.variables.push(("REFLOAT_REPOSITORY", through));
    let start = Instant::now();
    let (saved, shown) = place.try_back_up(seed);
    assert!(start.elapsed() < Duration::from_mins(16), "{what}: {shown}");
    tally.faults += proxy.faults();
    place = directly(place, server, &path);
    if saved == 0 {
        tally.complete += 1;
        place.restores_equal("out");
    } else {
        tally.failed += 1;
        assert!(shown.contains("error: "), "{what}: {shown}");
    }
    // Whatever it came to: nothing that is listed is broken, and the next run needs no hand.
    let _sound = place.succeed(&["check", "--read-data"]);
    place.back_up(2_000_000 + seed);
    place.restores_equal("again");
    let _sound = place.succeed(&["check", "--read-data"]);
}

#[test]
fn faults_now_and_then_lose_nothing() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let start = Instant::now();
    let mut tally = Tally::default();
    for seed in 0..runs() {
        let per_mille = [10, 50, 200][usize::try_from(seed % 3).unwrap()];
        run_once(server.port, seed, per_mille, &mut tally);
    }
    let Tally {
        complete,
        failed,
        faults,
    } = tally;
    let what = format!(
        "{} runs, {faults} faults, {complete} complete, {failed} refused",
        runs()
    );
    tier::report("S3 before a real server", &what, start);
    assert!(faults > 0, "the proxy did something");
    assert!(complete * 3 >= runs(), "{what}");
}

#[test]
fn an_upload_that_was_only_claimed_is_found_before_publishing() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let proxy = HttpProxy::start(server.port, |seen: &Seen| {
        let is_pack = seen.method == "PUT" && seen.path.contains("/data/");
        is_pack.then_some(Fault::Swallowed)
    });
    let place = remote(proxy.port, "lies");
    let _made = place.succeed(&["init"]);
    let (saved, shown) = place.try_back_up(1);
    assert_eq!(saved, 1, "{shown}");
    assert!(
        shown.contains("is not in the storage as it was uploaded"),
        "{shown}"
    );
    let place = directly(place, server.port, "lies");
    assert!(place.succeed(&["points"]).contains("no recovery points"));
    // The next run stores what the first one only believed to have stored, and no index names a
    // pack that never was.
    place.back_up(1);
    place.restores_equal("out");
    let (code, shown) = place.run(&["check", "--read-data"]);
    assert!(
        code == 0 && shown.contains("nothing is lost or damaged"),
        "{shown}"
    );
}

/// The server is gone for some seconds in the middle of a run, which goes on afterwards.
#[test]
fn a_partition_is_waited_for() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let (gone, struck) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let (seen_gone, first) = (Arc::clone(&gone), Arc::clone(&struck));
    let proxy = HttpProxy::start(server.port, move |seen: &Seen| {
        let mut first = first.lock().unwrap();
        if seen.method == "PUT" && seen.path.contains("/data/") && first.is_none() {
            *first = Some(Instant::now());
        }
        let away = first.is_some_and(|start: Instant| start.elapsed() < Duration::from_secs(12));
        seen_gone.store(away, Ordering::SeqCst);
        away.then_some(Fault::ResetBefore)
    });
    let place = remote(proxy.port, "partition");
    let _made = place.succeed(&["init"]);
    let start = Instant::now();
    let (saved, shown) = place.try_back_up(1);
    assert_eq!(saved, 0, "{shown}");
    assert!(
        start.elapsed() > Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
    assert!(!gone.load(Ordering::SeqCst) && proxy.faults() > 0);
    place.restores_equal("out");
}

/// The largest pack of a place.
fn largest_pack(server: &Radosgw, path: &str) -> String {
    let list = format!("/bucket?list-type=2&prefix={path}%2Fdata%2F");
    let listed = server.call(Radosgw::OWNER, "GET", &list, &[]);
    let value = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split('<').next()?.to_owned())
    };
    let objects = listed.split("<Contents>").skip(1);
    let sized = objects.filter_map(|object| {
        let size: u64 = value(object, "Size")?.parse().ok()?;
        Some((size, value(object, "Key")?))
    });
    sized.max().unwrap().1
}

/// Storage fails between the first and the second deletion of `repair snapshots`: the ledger knows what
/// is gone, and the same command goes on where it ended.
#[test]
fn a_repair_of_points_that_fails_half_way_is_recorded_and_goes_on() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let mut place = remote(server.port, "repair");
    place
        .variables
        .push(("REFLOAT_LEDGER", "ledger".to_owned()));
    let _made = place.succeed(&["init"]);
    place.back_up(1);
    let shared_by_all = largest_pack(&server, "repair");
    place.back_up(2);
    place.back_up(3);
    let _sound = place.succeed(&["audit"]);
    let object = format!("/bucket/{shared_by_all}");
    let (gone, _) = server.send(Radosgw::OWNER, ("DELETE", &object), &[], b"");
    assert_eq!(gone, 204);
    let (code, shown) = place.run(&["repair", "index", "--yes"]);
    assert_eq!(code, 3, "{shown}");

    let deletions = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&deletions);
    let proxy = HttpProxy::start(server.port, move |seen: &Seen| {
        let is_point = seen.method == "DELETE" && seen.path.contains("/snapshots/");
        let fails = is_point && counted.fetch_add(1, Ordering::SeqCst) > 0;
        fails.then_some(Fault::Answer(500, ""))
    });
    let repair = ["repair", "snapshots", "--forget", "--yes"];
    let mut through = remote(proxy.port, "repair");
    through.env = place.env;
    through
        .variables
        .push(("REFLOAT_LEDGER", "ledger".to_owned()));
    through.options.push("retry-for=1s".to_owned());
    let (code, shown) = through.run(&repair);
    assert_eq!(code, 1, "{shown}");
    assert!(deletions.load(Ordering::SeqCst) > 1, "{shown}");
    let place = directly(through, server.port, "repair");
    let _sound = place.succeed(&["audit"]);
    let (code, shown) = place.run(&repair);
    assert!([0, 3].contains(&code), "{shown}");
    let _sound = place.succeed(&["check", "--read-data"]);
    let _sound = place.succeed(&["audit"]);
    place.back_up(4);
    let _sound = place.succeed(&["check", "--read-data"]);
}
