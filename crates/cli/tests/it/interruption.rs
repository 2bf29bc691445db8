//! SIGINT and SIGTERM in the middle of a run.

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
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = env
            .command(&["backup", "--source", &source])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let capturing = lines.find(|line| line.as_ref().unwrap().starts_with("capturing"));
        assert!(capturing.is_some());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let last = lines.map(Result::unwrap).last().unwrap();
        assert_eq!(last, "error: interrupted");
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
    std::fs::remove_file(env.path("data/large")).unwrap();
    env.back_up();
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}
