//! `refloat repair locks`.
//!
//! Invariant: only locks that were shown are deleted.

use refloat_model::time::Timestamp;
use refloat_repository::LockId;
use refloat_repository::format::lock::LockFile;
use refloat_repository::lock::LockRecord;
use serde::Serialize;

use super::Carrying;
use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::output;
use crate::repository;
use crate::settings::Settings;
use crate::table;

/// So many locks are shown to people; the document names all.
const SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    carrying: Carrying,
}

#[derive(Serialize)]
struct Report {
    repair: &'static str,
    dry_run: bool,
    locks: Vec<LockView>,
    /// How many were deleted; none if nothing was carried out.
    deleted: Option<usize>,
}

#[derive(Serialize)]
struct LockView {
    lock: String,
    /// When storage wrote it.
    stored: Option<String>,
    /// None if it is no lock of this repository.
    holder: Option<String>,
    exclusive: bool,
    keeps_writers_out: bool,
}

impl From<&LockRecord> for LockView {
    fn from(record: &LockRecord) -> Self {
        Self {
            lock: record.id.to_string(),
            stored: record.stored.map(|at| Timestamp::from(at).to_string()),
            holder: record.lock.as_ref().map(LockFile::holder),
            exclusive: record.lock.as_ref().is_some_and(|lock| lock.exclusive),
            keeps_writers_out: record.keeps_writers_out,
        }
    }
}

pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let repository = repository::open_uncached(settings)?;
    let found = repository.locks()?;
    let Carrying { dry_run, yes } = args.carrying;
    let mut report = Report {
        repair: "locks",
        dry_run,
        locks: found.iter().map(LockView::from).collect(),
        deleted: None,
    };
    if !dry_run && !found.is_empty() {
        if !yes {
            output::say(&text(&report));
            settings.output.confirm("Delete these locks?")?;
        }
        let ids: Vec<LockId> = found.iter().map(|record| record.id).collect();
        repository.remove_locks(&ids)?;
        report.deleted = Some(ids.len());
    }
    settings
        .output
        .report("repair", ExitStatus::Success, &report, || text(&report))
}

fn text(report: &Report) -> String {
    if let Some(deleted) = report.deleted {
        return format!("deleted {}\n", table::count(deleted as u64, "lock"));
    }
    if report.locks.is_empty() {
        return "there is no lock\n".to_owned();
    }
    let rows = report.locks.iter().take(SHOWN_MAX).map(|lock| {
        let kind = match (&lock.holder, lock.exclusive, lock.keeps_writers_out) {
            (None, _, _) => "no lock of this repository",
            (_, true, true) => "exclusive",
            (_, true, false) => "exclusive, passed over",
            (_, false, _) => "shared",
        };
        let id = lock.lock.get(..8).unwrap_or_default();
        let stored = lock.stored.as_deref().unwrap_or("");
        [id, stored, lock.holder.as_deref().unwrap_or(""), kind].map(str::to_owned)
    });
    let mut text = table::table(["lock", "stored", "holder", ""], rows);
    if report.locks.len() > SHOWN_MAX {
        let more = (report.locks.len() - SHOWN_MAX) as u64;
        text.push_str(&format!("and {}\n", table::count(more, "more lock")));
    }
    text.push_str(
        "whoever holds one of these and is still at work ends with an error and publishes nothing; \
         runs of restic do not notice it, so be sure that none is at work\n",
    );
    text
}
