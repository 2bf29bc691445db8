//! Programs that print credentials.
//!
//! Invariant: what a program prints is never part of an error, and no program runs for ever.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::error::CredentialsError;

/// How long a program may take: cloud commands ask a server.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Tokens are some kilobytes; more is something else.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;

/// Runs a program with `input` on its standard input; gives its standard output.
pub(super) fn run(
    program: &Path,
    arguments: &[String],
    input: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    let failed = |source| CredentialsError::Run {
        program: name.clone(),
        source,
    };
    let gave = |why| CredentialsError::Gave {
        program: name.clone(),
        why,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing closes its input: no failure of ours.
        let _unread = stdin.write_all(input);
    }
    let stdout = child.stdout.take();
    // Read beside, so that a program that hangs with its output open is ended all the same.
    let reader = std::thread::spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        let read = stdout.map(|out| out.take(OUTPUT_BYTES_MAX).read_to_end(&mut output));
        read.transpose().map(|_| output)
    });
    let ended_well = wait(&mut child).map_err(failed)?;
    if ended_well.is_none() {
        return Err(gave("it took too long"));
    }
    if ended_well == Some(false) {
        return Err(gave("it ended with a failure"));
    }
    let output = reader
        .join()
        .map_err(|_| gave("its output could not be read"))?;
    let output = output.map_err(failed)?;
    if output.trim_ascii().is_empty() {
        return Err(gave("it printed nothing"));
    }
    Ok(output)
}

/// Whether it ended with success; none if it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<bool>> {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, input: &[u8]) -> Result<Vec<u8>, String> {
        run(
            Path::new("/bin/sh"),
            &["-c".to_owned(), script.to_owned()],
            input,
        )
        .map(|output| output.to_vec())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn output_is_taken_only_from_success_and_never_shown() {
        assert_eq!(check("cat", b"host"), Ok(b"host".to_vec()));
        let gave = |why: &str| Err(format!("sh gave no credentials ({why})"));
        assert_eq!(
            check("echo hunter2; exit 1", b""),
            gave("it ended with a failure")
        );
        assert_eq!(check("true", b""), gave("it printed nothing"));
        let missing = run(Path::new("/no/such/hunter"), &[], b"").map_err(|e| e.to_string());
        assert_eq!(missing.map(|_| ()), Err("cannot run hunter".to_owned()));
    }
}
