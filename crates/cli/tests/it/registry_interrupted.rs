//! Captures of a registry that end in their middle: what came whole is not downloaded again.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use refloat_testkit::http_proxy::{HttpProxy, Seen};
use refloat_testkit::registry::images::{Remote, image, noise};
use refloat_testkit::registry::server::Server;
use refloat_testkit::servers::SshServer;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli_env::CliEnv;

const LAYERS: u64 = 40;
const LAYER_BYTES: usize = 2 << 20;
/// All layers and the configuration.
const BLOBS: usize = 41;

/// A registry with one image, behind a slow line.
struct Slow {
    server: Server,
    proxy: HttpProxy,
    /// Lets the blobs behind the first so many through.
    open: Arc<AtomicBool>,
    /// How many blobs were asked for.
    asked: Arc<AtomicUsize>,
}

impl Slow {
    /// Blobs take a while, and those after the first `through` wait until the line is open.
    fn start(through: usize) -> Option<Self> {
        let server = Server::start()?;
        let layers: Vec<Vec<u8>> = (0..LAYERS).map(|seed| noise(seed, LAYER_BYTES)).collect();
        Remote::new(&server.host()).push("team/app", "1", &image("amd64", &layers));
        let port = server.host().rsplit_once(':').unwrap().1.parse().unwrap();
        let open = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (is_open, count) = (Arc::clone(&open), Arc::clone(&asked));
        let proxy = HttpProxy::start(port, move |seen| {
            if is_blob(seen) {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::sleep(Duration::from_millis(50));
                while number > through && !is_open.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            None
        });
        Some(Self {
            server,
            proxy,
            open,
            asked,
        })
    }

    fn address(&self) -> String {
        format!("registry:http://127.0.0.1:{}", self.proxy.port)
    }

    fn downloads(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn is_blob(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("/blobs/")
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn begin(env: &CliEnv, args: &[&str]) -> Child {
    let mut command = env.command(args);
    // Where `ssh` is.
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// How many snapshots there are; one that is being written has another name.
fn snapshots(env: &CliEnv) -> usize {
    let names = std::fs::read_dir(env.path("repo/snapshots")).unwrap();
    let whole = names.filter(|entry| entry.as_ref().unwrap().file_name().len() == 64);
    whole.count()
}

/// Completes the capture; `kept` blobs at least are not asked for again, and what was kept of the
/// broken run goes with the next `forget`.
fn assert_goes_on(env: &CliEnv, slow: &Slow, kept: usize) {
    slow.open.store(true, Ordering::SeqCst);
    // What the run that ended had sent reaches the line now at the latest.
    std::thread::sleep(Duration::from_secs(2));
    let before = slow.downloads();
    let left = snapshots(env);
    assert!(left > 0, "something was recorded");
    let report = env.json(&["backup", "--source", &slow.address()]);
    assert_eq!(report["points"][0]["complete"], true, "{report:#}");
    let again = slow.downloads() - before;
    assert!(
        again <= BLOBS - kept,
        "{again} of {BLOBS} were downloaded again, {} bytes",
        again * LAYER_BYTES
    );
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    // As if the half hour were over after which the lock of a killed run is dead.
    for lock in std::fs::read_dir(env.path("repo/locks")).unwrap() {
        std::fs::remove_file(lock.unwrap().path()).unwrap();
    }
    let forgotten = env.json(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(forgotten["partials_dropped"], left, "{forgotten:#}");
    assert_eq!(snapshots(env), 1);

    let new = Server::start().unwrap();
    let to = format!("registry:http://{}", new.host());
    env.succeed(&["restore", "latest", "--to", &to]);
    let of = |server: &Server| Remote::new(&server.host()).manifest("team/app", "1");
    assert_eq!(of(&new), of(&slow.server));
}

#[test]
fn an_interrupted_capture_of_a_registry_goes_on_with_what_came() {
    let Some(slow) = Slow::start(BLOBS) else {
        return;
    };
    let env = CliEnv::with_repository();
    interrupt(&env, &slow, &[]);
    // Of 20, six were on their way, and a few chunks not yet stored.
    assert_goes_on(&env, &slow, 8);
}

#[test]
fn an_interrupted_capture_into_a_server_goes_on_with_what_came() {
    let (Some(slow), Some(server)) = (Slow::start(BLOBS), SshServer::start()) else {
        return;
    };
    let env = CliEnv::with_repository();
    let repository = env.path("repo").display().to_string();
    let far = format!(
        "sftp://{}@127.0.0.1:{}/{repository}",
        server.user, server.port
    );
    let config = format!("ssh-config={}", server.client_config().display());
    interrupt(&env, &slow, &["-r", &far, "--option", &config]);
    assert_goes_on(&env, &slow, 8);
}

/// Begins a capture, and asks it to stop when half of it came.
fn interrupt(env: &CliEnv, slow: &Slow, repository: &[&str]) {
    let backup = ["backup", "--source", &slow.address()];
    let mut child = begin(env, &[repository, &backup].concat());
    until("20 blobs are asked for", || slow.downloads() >= 20);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(slow.downloads() < BLOBS, "it came to its end");
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
}

#[test]
fn a_killed_capture_of_a_registry_goes_on_from_its_last_checkpoint() {
    let Some(slow) = Slow::start(34) else {
        return;
    };
    let env = CliEnv::with_repository();
    let backup = ["backup", "--checkpoint-every", "1s", "--source"];
    let mut child = begin(&env, &[&backup[..], &[&slow.address()]].concat());
    until("a checkpoint", || snapshots(&env) > 0);
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    let _killed = child.wait().unwrap();
    // What its snapshot names is stored and indexed, whatever else the killed run left.
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    assert_goes_on(&env, &slow, 1);
}
