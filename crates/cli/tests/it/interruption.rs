//! SIGINT, SIGTERM and SIGHUP in the middle of a run.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::cli_env::CliEnv;

/// A backup that has begun and will not end by itself; ends when dropped.
pub struct Waiting(std::process::Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let _status = self.0.wait().unwrap();
    }
}

/// Starts a backup of a folder that takes long enough.
pub fn backup_that_waits(env: &CliEnv) -> Waiting {
    std::fs::create_dir(env.path("endless")).unwrap();
    File::create(env.path("endless/large"))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    let source = format!("files:{}", env.path("endless").display());
    let mut child = env
        .command(&["backup", "--source", &source])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let capturing = lines.find(|line| line.as_ref().unwrap().starts_with("capturing"));
    assert!(capturing.is_some());
    // What it goes on to say must find a reader.
    let _reader = std::thread::spawn(move || lines.count());
    Waiting(child)
}

#[test]
fn an_interrupted_backup_publishes_nothing_and_the_next_one_completes() {
    let env = CliEnv::with_data();
    // Enough to read that the signal always comes first, zeros though it is, of which a run passes over 2 TiB; ext4 has
    // no larger files than 16 TiB.
    File::create(env.path("data/large"))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    let source = format!("files:{}", env.path("data").display());
    // Shells and service managers send SIGHUP beside a signal of their own, before or after it.
    for (signal, beside, code) in [
        (Signal::INT, Signal::HUP, 130),
        (Signal::TERM, Signal::HUP, 143),
        (Signal::HUP, Signal::TERM, 129),
    ] {
        let mut child = env
            .command(&["backup", "--source", &source])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let capturing = lines.find(|line| line.as_ref().unwrap().starts_with("capturing"));
        assert!(capturing.is_some());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let stopping = lines.find(|line| line.as_ref().unwrap().starts_with("stopping"));
        assert!(stopping.is_some());
        kill_process(Pid::from_child(&child), beside).unwrap();
        let last = lines.map(Result::unwrap).last().unwrap();
        assert_eq!(last, "error: interrupted");
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(
            std::fs::read_dir(env.path("repo/locks")).unwrap().count(),
            0
        );
    }
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
    std::fs::remove_file(env.path("data/large")).unwrap();
    env.back_up();
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

/// `nohup refloat backup &`, and the terminal goes away.
#[test]
fn a_hang_up_that_was_ignored_at_the_start_stays_ignored() {
    let env = CliEnv::with_repository();
    std::fs::create_dir(env.path("data")).unwrap();
    File::create(env.path("data/large"))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    let source = format!("files:{}", env.path("data").display());
    let refloat = env.command(&["backup", "--source", &source]);
    let mut shell = std::process::Command::new("sh");
    let mut child = shell
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(refloat.get_program())
        .args(refloat.get_args())
        .current_dir(env.path(""))
        .env_clear()
        .envs(
            refloat
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.as_ref().unwrap().starts_with("capturing")));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let _last = lines.map(Result::unwrap).last();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
