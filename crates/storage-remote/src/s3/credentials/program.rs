//! The program of `credential_process`.
//!
//! Invariant: a program that does not end, or whose output does not, ends no run by keeping it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;
use refloat_model::secret::Secret;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::failure::Failure;

/// What it is called in messages.
pub(super) const PLACE: &str = "the program of credential_process";
/// No program takes longer: some ask a person.
pub(super) const DURATION_MAX: Duration = Duration::from_mins(2);
/// No output is longer, in bytes.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the program writes to its standard output.
pub(super) fn output(
    program: &str,
    duration_max: Duration,
    cancel: &Cancel,
) -> Result<Secret, Failure> {
    let is_attended = File::open("/dev/tty").is_ok();
    let mut command = Command::new("sh");
    command
        .args(["-c", program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if !is_attended {
        // So that what it starts ends with it. At a terminal that would keep it from asking there,
        // and who sits there ends it all with one key.
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(failed)?;
    let written = watch(&mut child, Instant::now() + duration_max, cancel);
    if written.is_err() {
        // Nobody has waited for it yet, so its number is no other one's.
        let group = Pid::from_child(&child);
        // What has ended already cannot be ended.
        let _killed = if is_attended {
            child.kill().is_ok()
        } else {
            kill_process_group(group, Signal::KILL).is_ok()
        };
    }
    let status = child.wait().map_err(failed)?;
    let bytes = written?;
    if !status.success() {
        return Err(wrong(&format!("failed: {status}")));
    }
    Ok(bytes)
}

fn failed(source: std::io::Error) -> Failure {
    Failure::CredentialSource {
        place: PLACE.to_owned(),
        source: Box::new(source),
    }
}

fn wrong(what: &str) -> Failure {
    Failure::Credentials(format!("{PLACE} {what}"))
}

/// What it has written once it has ended; its status stays to be waited for.
fn watch(child: &mut Child, end: Instant, cancel: &Cancel) -> Result<Secret, Failure> {
    let Some(stdout) = child.stdout.take() else {
        return Err(wrong("has no output"));
    };
    let (tell, told) = channel();
    // What it started may hold the output open for ever, so that nobody waits for this thread.
    let _detached = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        // Whoever waits may have given up.
        let _told = tell.send(read.map(|_| Secret::new(bytes)));
    });
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let mut written = None;
    loop {
        if cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        if Instant::now() >= end {
            return Err(wrong("does not end"));
        }
        if written.is_none() {
            match told.recv_timeout(LOOK_EVERY) {
                Ok(Err(source)) => return Err(failed(source)),
                Ok(Ok(bytes)) if bytes.expose().len() as u64 > OUTPUT_BYTES_MAX => {
                    return Err(wrong("writes too much"));
                }
                Ok(Ok(bytes)) => written = Some(bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(wrong("has no output")),
            }
            continue;
        }
        match waitid(WaitId::Pid(Pid::from_child(child)), look) {
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Ok(Some(_over)) => {
                return written.take().ok_or_else(|| wrong("has no output"));
            }
            Err(source) => return Err(failed(source.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str) -> Result<Vec<u8>, String> {
        let output = output(program, Duration::from_millis(500), &Cancel::default());
        let output = output.map(|secret| secret.expose().to_vec());
        output.map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_it_writes_is_its_answer() {
        assert_eq!(run("printf abc"), Ok(b"abc".to_vec()));
        let failed = run("printf hunter2; exit 3").unwrap_err();
        assert!(failed.contains("exit status: 3") && !failed.contains("hunter2"));
        let long = run("head -c 2000000 /dev/zero; sleep 60").unwrap_err();
        assert!(long.ends_with("writes too much"), "{long}");
    }

    #[test]
    fn one_that_does_not_end_is_given_up() {
        let start = Instant::now();
        for program in [
            "sleep 60",
            // It ended, and what it started keeps its output open.
            "sleep 60 & echo started",
            "exec >&-; exec sleep 60",
        ] {
            let failed = run(program).unwrap_err();
            assert!(failed.ends_with("does not end"), "{program}: {failed}");
        }
        let cancel = Cancel::default();
        cancel.cancel();
        let stopped = output("sleep 60", DURATION_MAX, &cancel);
        assert!(matches!(stopped, Err(Failure::Interrupted)));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    /// With nobody at a terminal, what the program started ends with it.
    #[test]
    fn what_it_started_ends_with_one_that_is_given_up() {
        if File::open("/dev/tty").is_ok() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let program = format!(
            "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let failed = run(&program).unwrap_err();
        assert!(failed.ends_with("does not end"), "{failed}");
        let number = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", number.trim());
        let end = Instant::now() + Duration::from_secs(10);
        // Gone, or dead and not yet waited for by whoever inherited it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < end, "what it started lives on");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
