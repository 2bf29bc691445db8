//! N1: the line between the command and a real server is cut, at each phase of a backup, in one
//! direction or both, for less and for more than calls are repeated.
//!
//! A run that ends with 0 lost nothing; one that does not ends in its time, and the next one needs no
//! hand. At N and R the line is gone for half a minute to thirty-five, past the life of a lock.

use std::time::{Duration, Instant};

use refloat_testkit::partition::{Cut, Partition, Plan};
use refloat_testkit::servers::{Radosgw, RcloneServer};
use refloat_testkit::tier::{Tier, report, tier};

use crate::cycle::Remote;

/// What is under way when the line is cut: part of the path, and after how many bytes.
const PHASES: [(&str, usize); 5] = [
    ("/locks/", 10),
    ("/data/", 300_000),
    ("/index/", 100),
    ("/snapshots/", 100),
    ("/data/", 10),
];

/// One server, and how its requests look.
struct Place {
    port: u16,
    address: fn(u16, &str) -> String,
    method: &'static str,
    /// Which half of the phases and cuts P takes.
    parity: usize,
    variables: Vec<(&'static str, &'static str)>,
}

struct Case {
    number: usize,
    plan: Plan,
    /// For how long calls are repeated.
    patience: Duration,
}

fn cases(method: &'static str, parity: usize) -> Vec<Case> {
    // Seconds: how long the line is gone, how long calls are repeated.
    let spans: &[(u64, u64)] = match tier() {
        Tier::P => &[(3, 900), (5, 2)],
        Tier::N => &[(3, 900), (5, 2), (30, 900), (30, 10)],
        Tier::R => &[(3, 900), (30, 900), (30, 10), (300, 900), (300, 60)],
    };
    let mut cases = Vec::new();
    let mut add = |(path, after_bytes), cut, lasts, patience| {
        let plan = Plan {
            method,
            path,
            after_bytes,
            cut,
            lasts,
        };
        cases.push(Case {
            number: cases.len(),
            plan,
            patience,
        });
    };
    for (index, phase) in PHASES.into_iter().enumerate() {
        for (turn, cut) in Cut::ALL.into_iter().enumerate() {
            for (which, (lasts, patience)) in spans.iter().enumerate() {
                // P takes a quarter before each server, so that both together meet each phase and cut.
                let (half, span) = ((index + turn) % 2, (index + turn / 2) % spans.len());
                if tier() == Tier::P && (half != parity || span != which) {
                    continue;
                }
                let seconds = Duration::from_secs;
                add(phase, cut, seconds(*lasts), seconds(*patience));
            }
        }
    }
    if tier() != Tier::P {
        // Past the life of a lock, with more patience than that.
        let (lasts, patience) = (Duration::from_mins(35), Duration::from_hours(1));
        add(PHASES[1], Cut::Silent, lasts, patience);
    }
    cases
}

impl Place {
    fn remote(&self, port: u16, path: &str, patience: Duration) -> Remote {
        let mut remote = Remote::new(&(self.address)(port, path), &self.variables);
        remote.options.push("timeout=1s".to_owned());
        remote
            .options
            .push(format!("retry-for={}s", patience.as_secs()));
        remote
    }

    fn run(&self, case: &Case) -> i32 {
        let what = format!("{:?}, patience {:?}", case.plan, case.patience);
        let path = format!("case-{}", case.number);
        let line = Partition::start(self.port, case.plan.clone());
        let mut place = self.remote(self.port, &path, case.patience);
        let direct = (self.address)(self.port, &path);
        let _made = place.succeed(&["init"]);
        place.back_up(1);
        let through = (self.address)(line.port, &path);
        place.variables.push(("REFLOAT_REPOSITORY", through));
        let start = Instant::now();
        let (code, shown) = place.try_back_up(2);
        let took = start.elapsed();
        assert!(line.has_struck(), "{what}: {shown}");
        let bound = case.plan.lasts + case.patience.min(case.plan.lasts) + Duration::from_mins(2);
        assert!(took < bound, "{what}: {took:?}");
        let is_short = case.plan.lasts < case.patience && case.plan.lasts < Duration::from_mins(20);
        if is_short {
            assert_eq!(code, 0, "{what}: a short one is waited for: {shown}");
            assert!(
                took >= case.plan.lasts || case.plan.cut == Cut::HalfOpen,
                "{what}: {took:?}"
            );
        } else {
            assert!([0, 1, 3, 11].contains(&code), "{what}: {code}: {shown}");
        }
        line.wait();
        // What is stored is judged without the line.
        place.variables.push(("REFLOAT_REPOSITORY", direct));
        let _sound = place.succeed(&["check", "--read-data"]);
        if code == 0 {
            place.restores_equal("out");
        }
        // The next run needs no hand.
        place.back_up(3);
        place.restores_equal("again");
        let _sound = place.succeed(&["check", "--read-data"]);
        code
    }

    fn run_all(&self, name: &str) {
        let start = Instant::now();
        let cases = cases(self.method, self.parity);
        let codes: Vec<i32> = cases.iter().map(|case| self.run(case)).collect();
        let went_on = codes.iter().filter(|code| **code == 0).count();
        assert!(went_on > 0, "{codes:?}");
        let count = cases.len();
        let what = format!("{count} partitions before {name}, {went_on} runs went on");
        report("N1", &what, start);
    }
}

#[test]
fn a_partition_at_any_phase_before_s3_loses_nothing() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let (access, secret) = Radosgw::OWNER;
    let place = Place {
        port: server.port,
        address: |port, path| format!("s3:http://127.0.0.1:{port}/bucket/{path}"),
        method: "PUT",
        parity: 0,
        variables: vec![
            ("AWS_ACCESS_KEY_ID", access),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ],
    };
    place.run_all("S3");
}

#[test]
fn a_partition_at_any_phase_before_rest_loses_nothing() {
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let (user, password) = RcloneServer::LOGIN;
    let place = Place {
        port: server.port,
        address: |port, path| format!("rest:http://127.0.0.1:{port}/{path}/"),
        method: "POST",
        parity: 1,
        variables: vec![
            ("REFLOAT_STORAGE_USER", user),
            ("REFLOAT_STORAGE_PASSWORD", password),
        ],
    };
    place.run_all("REST");
}

/// A name that nobody resolves ends the run soon, and plainly.
#[test]
fn a_name_that_nobody_knows_is_told_within_half_a_minute() {
    let place = Remote::new(
        "s3:https://storage.invalid/bucket/r",
        &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")],
    );
    let start = Instant::now();
    let (code, shown) = place.run(&["points"]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("storage.invalid"), "{shown}");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}
