//! `refloat key export` and `refloat key import`.
//!
//! Invariant: an export overwrites nothing, and is read again before it counts as made.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use refloat_repository::Repository;
use refloat_repository::escrow::{Escrow, EscrowError, KeyChoice};
use serde::Serialize;

use super::KeyView;
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::output::Output;
use crate::password;
use crate::repository;
use crate::settings::Settings;
use crate::table;

#[derive(Serialize)]
struct ExportReport {
    action: &'static str,
    file: String,
    keys: usize,
}

#[derive(Serialize)]
struct ImportReport {
    action: &'static str,
    keys: Vec<String>,
    config: bool,
    /// Keys of the export that are gone and stay so.
    left_out: Vec<KeyView>,
}

pub fn export(
    repository: &Repository,
    file: &Path,
    output: Output,
) -> Result<ExitStatus, CommandError> {
    let escrow = Escrow::of(repository)?;
    let failed = |e| CommandError::io("write the export to", file.display(), &e);
    let text = serde_json::to_vec_pretty(&escrow).map_err(|e| failed(e.into()))?;
    let mut options = OpenOptions::new();
    let mut created = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(failed)?;
    created.write_all(&text).map_err(failed)?;
    created.sync_all().map_err(failed)?;
    let read = std::fs::read(file).map_err(failed)?;
    if Escrow::parse(&read)? != escrow {
        return Err(failed(std::io::Error::other("it does not read back")));
    }
    let report = ExportReport {
        action: "exported",
        file: file.display().to_string(),
        keys: escrow.keys(),
    };
    output.report("key", ExitStatus::Success, &report, || {
        format!(
            "wrote the config and {} to {}; opening them takes their passwords\n",
            table::count(report.keys as u64, "key"),
            report.file
        )
    })
}

pub fn import(
    file: &Path,
    choice: KeyChoice,
    settings: &Settings,
) -> Result<ExitStatus, CommandError> {
    let text =
        std::fs::read(file).map_err(|e| CommandError::io("read the export", file.display(), &e))?;
    let escrow = Escrow::parse(&text)?;
    let storage = repository::storage(settings)?;
    let password = password::get(&settings.password)?;
    let restored = escrow.put_back(&storage, &password, choice)?;
    let report = ImportReport {
        action: "imported",
        keys: restored.keys.iter().map(ToString::to_string).collect(),
        config: restored.config,
        left_out: restored.left_out.into_iter().map(Into::into).collect(),
    };
    settings
        .output
        .report("key", ExitStatus::Success, &report, || {
            let config = if report.config { "the config and " } else { "" };
            let keys = table::count(report.keys.len() as u64, "key");
            let mut text = format!("put back {config}{keys}; the repository opens\n");
            for key in &report.left_out {
                text.push_str(&table::printable(&format!(
                    "left out, since it may have been removed: key {}, made {} by {} on {}",
                    key.id.get(..8).unwrap_or_default(),
                    key.created,
                    key.username,
                    key.hostname
                )));
                text.push('\n');
            }
            if !report.left_out.is_empty() {
                text.push_str("--all puts these back too\n");
            }
            text
        })
}

impl From<EscrowError> for CommandError {
    fn from(error: EscrowError) -> Self {
        match error {
            EscrowError::Repository(inner) => inner.into(),
            EscrowError::WrongPassword => Self::of(ErrorKind::WrongPassword, &error),
            EscrowError::OtherRepository { .. } => Self::of(ErrorKind::Refused, &error),
            EscrowError::Invalid | EscrowError::Version(_) => Self::of(ErrorKind::Damaged, &error),
        }
    }
}
