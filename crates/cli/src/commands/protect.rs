//! `refloat protect`.
//!
//! Invariant: exit code 0 means that everything recovery points need is kept for at least half of
//! the period.

use refloat_model::progress::Progress as _;
use refloat_repository::protect::{self, ProtectReport};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Extend the storage's protection of everything recovery points need
///
/// On storage that keeps files from deletion for a period (object-lock), what is written is kept
/// from then on. Points share what does not change, so old files are needed by new points: run
/// this more often than half of the period, with credentials that may extend retention.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    report: ProtectReport,
}

/// Extends.
pub fn run(
    _args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open(settings)?;
    let _lock = repository::lock_for_reading(&repository)?;
    let repository = repository.into_indexed()?;
    let progress = Shown::start(settings);
    progress.phase("extending the protection of what points need");
    let now = jiff::Timestamp::now().into();
    let report = protect::protect(&repository, now, progress.counters(), &signals.cancel)?;
    drop(progress);
    let report = report.ok_or_else(|| {
        CommandError::new(
            ErrorKind::Refused,
            "this storage keeps nothing from deletion",
        )
        .hint("give the options object-lock and object-lock-period; see docs/storage.md")
    })?;
    let report = Report { report };
    let status = ExitStatus::Success;
    settings.output.report("protect", status, &report, || {
        let ProtectReport {
            needed,
            extended,
            until,
        } = report.report;
        let until = until.map_or_else(|| "nothing to protect".to_owned(), table::time);
        let files = table::count(needed, "file");
        format!("{files} needed, {extended} extended; everything is kept until {until}\n")
    })
}
