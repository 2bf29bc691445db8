//! Registries behind networks and servers that misbehave, with a real registry at the other end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use refloat_testkit::http_proxy::{Fault, HttpProxy, Seen};
use refloat_testkit::random;
use refloat_testkit::registry::estate::Estate;
use refloat_testkit::registry::images::{Remote, image, noise};
use refloat_testkit::registry::misbehaving::{Answer, Fake, Good};
use refloat_testkit::registry::server::Server;

use crate::cli_env::CliEnv;

fn port(server: &Server) -> u16 {
    server.host().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// The first time that something is asked for, something goes wrong; which depends on the seed.
fn faults(seed: u64) -> impl Fn(&Seen) -> Option<Fault> + Send + Sync {
    let struck = Mutex::new(BTreeSet::new());
    move |seen| {
        let path = seen.path.split(['?', '&']).next().unwrap().to_owned();
        // The session's name is another each time, and the fault would never end.
        let path = path.split("/uploads/").next().unwrap().to_owned();
        let what = format!("{} {path}", seen.method);
        let is_first = struck.lock().unwrap().insert(what.clone());
        let faults = [
            Fault::Answer(500, "oops"),
            Fault::Answer(429, "{\"errors\": [{\"code\": \"TOOMANYREQUESTS\"}]}"),
            Fault::Answer(503, "<html>busy</html>"),
            Fault::ResetBefore,
            Fault::ResetAfter,
            Fault::ResetInside,
            Fault::ShortWithLength,
        ];
        let number = random::hash(seed, what.as_bytes()) % faults.len() as u64;
        let fault = faults[usize::try_from(number).unwrap()].clone();
        is_first.then_some(fault)
    }
}

#[test]
fn a_line_that_fails_everything_once_costs_time_and_nothing_else() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    for seed in 0..3 {
        let (from, to) = (
            HttpProxy::start(port(&old), faults(seed)),
            HttpProxy::start(port(&new), faults(seed)),
        );
        let env = CliEnv::with_repository();
        let source = format!("registry:http://127.0.0.1:{}", from.port);
        let report = env.json(&["backup", "--source", &source]);
        assert_eq!(
            report["points"][0]["complete"], true,
            "seed {seed}: {report:#}"
        );
        assert!(from.faults() > 10, "{}", from.faults());
        let target = format!("registry:http://127.0.0.1:{}", to.port);
        env.succeed(&["restore", "latest", "--to", &target]);
        assert!(to.faults() > 10, "{}", to.faults());
        estate.assert_in(&Remote::new(&new.host()));
    }
}

#[test]
fn a_push_that_broke_off_goes_on_where_it_was_and_mounts_what_is_there() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let remote = Remote::new(&old.host());
    let base = noise(1, 400_000);
    let layers: Vec<Vec<u8>> = (2..12).map(|seed| noise(seed, 200_000)).collect();
    remote.push(
        "team/one",
        "1",
        &image("amd64", &[vec![base.clone()], layers].concat()),
    );
    remote.push("team/two", "1", &image("amd64", &[base, noise(99, 1000)]));
    let env = CliEnv::with_repository();
    env.succeed(&[
        "backup",
        "--source",
        &format!("registry:http://{}", old.host()),
    ]);

    // After some uploads the line is dead; the next time it is not.
    let dead = Arc::new(Mutex::new(true));
    let uploads = Arc::new(Mutex::new(0));
    let (is_dead, count) = (Arc::clone(&dead), Arc::clone(&uploads));
    let proxy = HttpProxy::start(port(&new), move |seen| {
        let is_upload = seen.method == "PUT" && seen.path.contains("/uploads/");
        *count.lock().unwrap() += usize::from(is_upload);
        (*is_dead.lock().unwrap() && *count.lock().unwrap() > 4).then_some(Fault::ResetBefore)
    });
    let target = format!("registry:http://127.0.0.1:{}", proxy.port);
    let restore = ["restore", "latest", "--to", &target];
    let broken = env.run(&restore);
    assert!(
        broken.starts_with("exit code: 3") || broken.starts_with("exit code: 1"),
        "{broken}"
    );
    assert_eq!(
        Remote::new(&new.host()).manifest("team/one", "1"),
        None,
        "tags come last"
    );
    *dead.lock().unwrap() = false;
    let before = proxy.seen().len();
    env.succeed(&restore);
    let seen = proxy.seen();
    let uploaded = |range: &[Seen]| {
        let puts = range
            .iter()
            .filter(|s| s.method == "PUT" && s.path.contains("/uploads/"));
        puts.count()
    };
    // Twelve in one, of which some were there; two more of their own in the other.
    let again = uploaded(&seen[before..]);
    assert!((6..=12).contains(&again), "{again}");
    let mounted = seen[before..]
        .iter()
        .filter(|s| s.path.contains("mount=sha256:"));
    assert_eq!(mounted.count(), 1, "the base is in the other repository");
    let remote = Remote::new(&new.host());
    assert!(
        remote.manifest("team/one", "1").is_some() && remote.manifest("team/two", "1").is_some()
    );
}

#[test]
fn what_came_before_a_capture_broke_off_is_not_downloaded_again() {
    let image = image(
        "amd64",
        &[noise(1, 300_000), noise(2, 300_000), noise(3, 300_000)],
    );
    let whole = Good::of("1", &image);
    let mut spoilt = Good::of("1", &image);
    spoilt.blobs.remove(&image.blobs[3].digest);
    let is_whole = Arc::new(Mutex::new(false));
    let mended = Arc::clone(&is_whole);
    let fake = Fake::start(move |asked, _| match *mended.lock().unwrap() {
        true => whole.answer(asked),
        false if asked.path.contains("/blobs/") && spoilt.answer(asked).status == 404 => {
            Answer::new(404, "{}")
        }
        false => spoilt.answer(asked),
    });
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    let downloads = || {
        let asked = fake.asked().into_iter();
        let blobs = asked.filter(|a| a.method == "GET" && a.path.contains("/blobs/"));
        blobs.map(|asked| asked.path).collect::<Vec<_>>()
    };
    assert_eq!(env.code(&["backup", "--source", &from]), 3);
    let before = downloads().len();
    *is_whole.lock().unwrap() = true;
    env.succeed(&["backup", "--source", &from]);
    let after = downloads().split_off(before);
    assert_eq!(after, [format!("/v2/app/blobs/{}", image.blobs[3].digest)]);
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}
