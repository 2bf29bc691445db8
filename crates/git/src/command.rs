//! Running git so that nothing but its arguments decides what it does.
//!
//! A repository's configuration can make git run programs: hooks, file system monitors, filters,
//! pagers, remote helpers. The commands used here read or write objects and refs only, with hooks
//! and monitors switched off, and without the user's and the system's configuration.
//!
//! Invariant: paths are absolute and glued to their option, so that none can be taken for one.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::GitError;

/// What could lead git to other repositories, objects, programs or configurations.
const UNSET: [&str; 20] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_DEFAULT_HASH",
    "GIT_TRACE",
    "GIT_TRACE2",
    "GIT_TRACE2_EVENT",
    "GIT_TRACE_SETUP",
];

/// Settings that win over those of the repository.
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
];

/// A git command in the Git directory `directory`, or outside of any.
pub fn git(directory: Option<&Path>) -> Command {
    let mut command = Command::new("git");
    for name in UNSET {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        // A repository that says it is a partial clone makes git fetch what is missing, by a
        // command that its own configuration names; no setting given beside wins over a
        // `protocol.ext.allow` there, these two do.
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_ALLOW_PROTOCOL", "")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if let Some(directory) = directory {
        let mut option = std::ffi::OsString::from("--git-dir=");
        option.push(directory);
        command.arg(option);
    }
    command
}

/// Runs a command to its end.
///
/// # Errors
/// git cannot be run.
pub fn run(mut command: Command) -> Result<Output, GitError> {
    command.output().map_err(GitError::Run)
}

/// Runs a command that must succeed, and returns its output.
///
/// # Errors
/// git cannot be run, or refuses.
pub fn succeed(
    command: Command,
    operation: &'static str,
    folder: &Path,
) -> Result<Vec<u8>, GitError> {
    let output = run(command)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(operation, folder, &output.stderr))
}

/// git refused.
pub fn failed(operation: &'static str, folder: &Path, stderr: &[u8]) -> GitError {
    GitError::Failed {
        operation,
        folder: folder.to_owned(),
        said: String::from_utf8_lossy(stderr).trim().to_owned(),
    }
}
