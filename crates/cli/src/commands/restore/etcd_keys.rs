//! `refloat restore POINT:/etcd/NAME/snapshot.db/… --target FOLDER`: single objects out of an
//! etcd snapshot.
//!
//! Invariant: nothing that is there is overwritten.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use refloat_etcd::{Depth, Object, StoredValue};
use serde::Serialize;

use crate::command_error::CommandError;
use crate::etcd_path::Inside;
use crate::exit_status::ExitStatus;
use crate::settings::Settings;
use crate::table;

/// A value as etcd has it, where that is not JSON.
const RAW: &str = ".k8s";
/// A document that people and kubectl read.
const DOCUMENT: &str = ".json";
/// A value that only an API server reads.
const ENCRYPTED: &str = ".encrypted";

#[derive(Serialize)]
struct Report {
    path: String,
    target: PathBuf,
    /// Whether it was only planned.
    dry_run: bool,
    /// Whether all keys were written.
    complete: bool,
    keys: u64,
    bytes: u64,
    /// Keys whose values are encrypted: they were written as they are.
    encrypted: u64,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    path: String,
    reason: String,
}

/// Writes the keys below a path, each as a file.
pub fn run(
    dry_run: bool,
    target: &Path,
    inside: &Inside,
    settings: &Settings,
) -> Result<ExitStatus, CommandError> {
    let keys = inside.list(Depth::All)?;
    let mut report = Report {
        path: keys
            .first()
            .map_or_else(String::new, |_| inside.snapshot.to_string()),
        target: target.to_owned(),
        dry_run,
        complete: true,
        keys: 0,
        bytes: 0,
        encrypted: 0,
        failures: Vec::new(),
    };
    // Below the last component of what was asked for, as with stored folders.
    let depth = inside.within.len().saturating_sub(1);
    for key in &keys {
        let Some(object) = &key.object else { continue };
        report.keys += 1;
        report.bytes += object.value.len() as u64;
        let is_encrypted = matches!(object.recognised(), StoredValue::Encrypted { .. });
        report.encrypted += u64::from(is_encrypted);
        if dry_run {
            continue;
        }
        let path = key
            .inside
            .iter()
            .skip(depth)
            .fold(target.to_owned(), |path, part| {
                path.join(std::ffi::OsStr::from_bytes(part))
            });
        if let Err(error) = write(&path, object) {
            report.failures.push(Failure {
                path: key.path.to_string(),
                reason: error.to_string(),
            });
        }
    }
    report.complete = report.failures.is_empty();
    let status = if report.complete {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    settings
        .output
        .result("restore", status, &report, || text(&report))
}

fn write(path: &Path, object: &Object) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let document = || format!("{:#}\n", object.document());
    match object.recognised() {
        StoredValue::Json(_) => file(&with(DOCUMENT), &object.value),
        StoredValue::Protobuf(_) => {
            file(&with(DOCUMENT), document().as_bytes())?;
            file(&with(RAW), &object.value)
        }
        StoredValue::Encrypted { .. } => file(&with(ENCRYPTED), &object.value),
        StoredValue::Other => file(path, &object.value),
    }
}

fn file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

fn text(report: &Report) -> String {
    let verb = if report.dry_run {
        "would restore"
    } else {
        "restored"
    };
    let mut text = format!(
        "{verb} {} ({}) of {} into {}\n",
        table::count(report.keys, "key"),
        table::bytes(report.bytes),
        table::printable(&report.path),
        report.target.display(),
    );
    if report.encrypted > 0 {
        text.push_str(&format!(
            "  {} encrypted: only an API server with the encryption configuration reads them\n",
            report.encrypted
        ));
    }
    for failure in &report.failures {
        text.push_str(&format!(
            "  FAILED {}: {}\n",
            table::printable(&failure.path),
            failure.reason
        ));
    }
    text
}
