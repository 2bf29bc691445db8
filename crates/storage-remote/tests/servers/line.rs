//! A long line: with several calls at once, the time there and back is not waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use refloat_storage::concurrency::LimitedStorage;
use refloat_storage::{FileKind, SharedStorage, Storage as _};
use refloat_storage_remote::{Options, Surroundings};
use refloat_testkit::conformance;
use refloat_testkit::link::Link;
use refloat_testkit::random::Random;
use refloat_testkit::servers::{Radosgw, RcloneServer, SshServer, WebDavServer};

use crate::playground::{login, storage};

const ROUND_TRIP: Duration = Duration::from_millis(50);
/// 64 Mbit a second, with which a busy machine keeps up.
const BYTES_PER_SECOND: u64 = 8_000_000;
/// These take 65 ms: whoever waits for one round trip with each has little more than half of the line.
const FILE_BYTES: usize = 512 << 10;
/// SFTP takes eight or nine round trips for a file.
const SFTP_FILE_BYTES: usize = 2 << 20;
/// As many as connections by default.
const THREADS: usize = 8;

/// The share of the line that packs fill which so many connections send.
fn share(storage: &SharedStorage, link: &Link, connections: usize, file_bytes: usize) -> f64 {
    // As many bytes for each, so that those who begin and end together weigh little.
    let files = 5_000_000 * connections / file_bytes + 1;
    let limited = LimitedStorage::new(storage.clone(), connections);
    let mut random = Random::new(connections as u64);
    let packs: Vec<_> = (0..files).map(|_| random.bytes(file_bytes)).collect();
    let next = AtomicUsize::new(0);
    let (before, start) = (link.bytes_up(), Instant::now());
    std::thread::scope(|scope| {
        for _thread in 0..THREADS {
            let _writing = scope.spawn(|| {
                while let Some(bytes) = packs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let key = conformance::named(FileKind::Pack, bytes);
                    limited.write(&key, bytes).unwrap();
                }
            });
        }
    });
    let (sent, took) = (link.bytes_up() - before, start.elapsed());
    assert!(
        sent > (files * file_bytes) as u64,
        "random bytes are sent whole"
    );
    sent as f64 / took.as_secs_f64() / BYTES_PER_SECOND as f64
}

/// Writes over a line to the server at this port; `address` is that of a repository behind a port.
fn fills_the_line(
    port: u16,
    address: impl Fn(u16) -> String,
    (options, around): (Options, &Surroundings),
    file_bytes: usize,
) {
    let link = Link::start(port, ROUND_TRIP, BYTES_PER_SECOND);
    let storage = storage(&address(link.port), options, around);
    storage.create().unwrap();
    let one = share(&storage, &link, 1, file_bytes);
    // A machine that is busy for a moment makes it less.
    let mut many = 0.0;
    for _try in 0..3 {
        many = f64::max(many, share(&storage, &link, THREADS, file_bytes));
        if many > 0.8 {
            break;
        }
    }
    let told = format!(
        "{}: {one:.2} of the line with one connection, {many:.2} with {THREADS}",
        storage.location()
    );
    assert!(one < 0.8, "this line is too short to tell; {told}");
    assert!(many > 0.8, "{told}");
}

#[test]
fn s3_fills_a_long_line() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let (access, secret) = Radosgw::OWNER;
    let keys = [
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let address = |port| format!("s3:http://127.0.0.1:{port}/bucket/r");
    let around = Surroundings::of(&keys);
    fills_the_line(
        server.port,
        address,
        (Options::default(), &around),
        FILE_BYTES,
    );
}

#[test]
fn rest_fills_a_long_line() {
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let options = Options {
        login: login(RcloneServer::LOGIN),
        ..Options::default()
    };
    let address = |port| format!("rest:http://127.0.0.1:{port}/r/");
    fills_the_line(
        server.port,
        address,
        (options, &Surroundings::empty()),
        FILE_BYTES,
    );
}

#[test]
fn webdav_fills_a_long_line() {
    let Some(server) = WebDavServer::start() else {
        return;
    };
    let options = Options {
        login: login(WebDavServer::LOGIN),
        ..Options::default()
    };
    let address = |port| format!("webdav://127.0.0.1:{port}/r");
    fills_the_line(
        server.port,
        address,
        (options, &Surroundings::empty()),
        FILE_BYTES,
    );
}

#[test]
fn sftp_fills_a_long_line() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // The host is known by another port than the line's.
    let config = folder.path().join("config");
    let known = std::fs::read_to_string(server.client_config()).unwrap();
    let alias = format!("    HostKeyAlias [127.0.0.1]:{}\n", server.port);
    std::fs::write(&config, format!("{known}{alias}")).unwrap();
    let options = Options {
        ssh_config: Some(config),
        ..Options::default()
    };
    let root = folder.path().join("r");
    let address = |port| format!("sftp://{}@127.0.0.1:{port}/{}", server.user, root.display());
    fills_the_line(
        server.port,
        address,
        (options, &Surroundings::empty()),
        SFTP_FILE_BYTES,
    );
}
