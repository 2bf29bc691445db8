//! Getting the repository's password.
//!
//! Invariant: a password is never on a command line and never printed; there is no default one.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use refloat_model::secret::Secret;

use crate::command_error::{CommandError, ErrorKind};
use crate::environment;
use crate::output::say;
use crate::settings::PasswordSource;

/// Mode bits that let others than the owner read.
const OTHERS_READ: u32 = 0o044;

/// Gets the password of an existing repository.
///
/// # Errors
/// None was given, or its source fails.
pub fn get(source: &PasswordSource) -> Result<Secret, CommandError> {
    get_of("the repository", source)
}

/// As [`get`], of the repository of this name.
///
/// # Errors
/// As [`get`].
pub fn get_of(name: &str, source: &PasswordSource) -> Result<Secret, CommandError> {
    match source {
        PasswordSource::File(path) => from_file(path),
        PasswordSource::Command(command) => from_command(command),
        PasswordSource::Descriptor(number) => from_descriptor(*number),
        PasswordSource::Environment(name) => from_environment(name),
        PasswordSource::Ask => ask(&format!("password of {name}: ")),
    }
}

/// Gets a password that will be set: asked for twice where a person types it.
///
/// # Errors
/// None was given, its source fails, or the two do not match.
pub fn get_new(source: &PasswordSource) -> Result<Secret, CommandError> {
    if *source != PasswordSource::Ask {
        return get(source);
    }
    let first = ask("new password: ")?;
    let second = ask("the same again: ")?;
    if first.expose() == second.expose() {
        Ok(first)
    } else {
        Err(CommandError::new(
            ErrorKind::NoPassword,
            "the two passwords differ",
        ))
    }
}

fn from_file(path: &Path) -> Result<Secret, CommandError> {
    let failed = |e| CommandError::io("read the password file", path.display(), &e);
    let bytes = std::fs::read(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.mode();
    if mode & OTHERS_READ != 0 {
        say(&format!(
            "warning: {} can be read by other users; chmod 600 it\n",
            path.display()
        ));
    }
    first_line(bytes, &format!("the password file {}", path.display()))
}

fn from_command(command: &str) -> Result<Secret, CommandError> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| CommandError::io("run", "the password command", &e))?;
    if !output.status.success() {
        return Err(CommandError::new(
            ErrorKind::NoPassword,
            format!("the password command failed: {}", output.status),
        ));
    }
    first_line(output.stdout, "the output of the password command")
}

/// Standard output and standard error give nothing to read.
fn from_descriptor(number: u32) -> Result<Secret, CommandError> {
    let subject = format!("descriptor {number}");
    if matches!(number, 1 | 2) {
        return Err(CommandError::usage(format!("{subject} is for output"))
            .hint("open another one, for example: refloat --password-fd 3 … 3< FILE"));
    }
    let bytes = std::fs::read(format!("/proc/self/fd/{number}"))
        .map_err(|e| CommandError::io("read the password from", &subject, &e))?;
    first_line(bytes, &subject)
}

fn from_environment(name: &str) -> Result<Secret, CommandError> {
    match environment::named(name)? {
        Some(password) => Ok(Secret::new(password)),
        None => Err(CommandError::new(
            ErrorKind::NoPassword,
            format!("the environment variable {name} holds no password"),
        )),
    }
}

fn ask(prompt: &str) -> Result<Secret, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(
            CommandError::new(ErrorKind::NoPassword, "no password given").hint(
                "set REFLOAT_PASSWORD, or use --password-file, --password-fd or --password-command",
            ),
        );
    }
    let typed = rpassword::prompt_password(prompt)
        .map_err(|e| CommandError::io("read", "the password from the terminal", &e))?;
    first_line(typed.into_bytes(), "what was typed")
}

fn first_line(bytes: Vec<u8>, origin: &str) -> Result<Secret, CommandError> {
    let whole = Secret::new(bytes);
    let line = whole
        .expose()
        .split(|b| *b == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(CommandError::new(
            ErrorKind::NoPassword,
            format!("{origin} holds no password"),
        ));
    }
    Ok(Secret::new(line))
}
