//! A long line to the storage: the time there and back must not be waited for at each file.

use std::time::{Duration, Instant};

use refloat_testkit::link::Link;
use refloat_testkit::servers::Radosgw;

use crate::cycle::Remote;

const ROUND_TRIP: Duration = Duration::from_millis(50);
/// 64 Mbit a second: slow enough that a debug build keeps up on a busy machine.
const BYTES_PER_SECOND: u64 = 8_000_000;
const BYTES: usize = 120_000_000;

#[test]
fn a_backup_fills_a_line_of_50_ms() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let link = Link::start(server.port, ROUND_TRIP, BYTES_PER_SECOND);
    let (access, secret) = Radosgw::OWNER;
    let remote = Remote::new(
        &format!("s3:http://127.0.0.1:{}/bucket/r", link.port),
        &[
            ("AWS_ACCESS_KEY_ID", access),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ],
    );
    let _made = remote.succeed(&["init"]);
    let mut random = refloat_testkit::random::Random::new(1);
    std::fs::create_dir_all(remote.env.path("data")).unwrap();
    std::fs::write(remote.env.path("data/big"), random.bytes(BYTES)).unwrap();
    let before = link.bytes_up();
    let start = Instant::now();
    let source = format!("files:{}", remote.env.path("data").display());
    let _shown = remote.succeed(&["backup", "--host", "testhost", "--source", &source]);
    let took = start.elapsed();
    let sent = link.bytes_up() - before;
    assert!(sent > BYTES as u64, "random bytes are sent whole");
    let share = sent as f64 / took.as_secs_f64() / BYTES_PER_SECOND as f64;
    eprintln!(
        "{sent} bytes in {took:?}: {:.1} % of the line",
        share * 100.0
    );
    assert!(
        share > 0.8,
        "{:.1} % of the line in {took:?}",
        share * 100.0
    );
}
