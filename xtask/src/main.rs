//! Prints every violation of the workspace's rules and ends with 1 if there is one.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let found = match xtask::violations(&xtask::root()) {
        Ok(found) => found,
        Err(error) => vec![error.to_string()],
    };
    for violation in &found {
        if writeln!(out, "{violation}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::from(u8::from(!found.is_empty()))
}
