//! `refloat protect`.
//!
//! Invariant: exit code 0 means that everything recovery points need is kept for at least half of
//! the period.

use refloat_model::finding::Finding;
use refloat_model::progress::Progress as _;
use refloat_repository::protect::{self, ProtectReport};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind, one_line};
use crate::exit_status::ExitStatus;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// How many files that are not kept are printed; JSON has them all.
const FAILURES_PRINTED_MAX: usize = 100;

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
    /// What is not kept, and why.
    findings: Vec<Finding>,
}

/// Extends.
pub fn run(
    _args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    settings.repository()?.refuse_lock()?;
    let repository = repository::open(settings)?;
    let _lock = repository::lock_for_reading(&repository, settings)?;
    let progress = Shown::start(settings);
    progress.phase("extending the protection of what points need");
    let now = jiff::Timestamp::now().into();
    let report = protect::protect(repository, now, progress.counters(), &signals.cancel)?;
    drop(progress);
    let report = report.ok_or_else(|| {
        CommandError::new(
            ErrorKind::Refused,
            "this storage keeps nothing from deletion",
        )
        .hint("give the options object-lock and object-lock-period; see docs/storage.md")
    })?;
    let failures = report.failures.iter();
    let report = Report {
        findings: failures
            .map(|failure| Finding::error(failure.subject.clone(), one_line(&failure.error)))
            .collect(),
        report,
    };
    let status = if report.findings.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    let printed = report.findings.len().min(FAILURES_PRINTED_MAX);
    settings
        .output
        .findings(report.findings.get(..printed).unwrap_or_default());
    settings
        .output
        .report("protect", status, &report, || text(&report))
}

fn text(report: &Report) -> String {
    let ProtectReport {
        needed,
        extended,
        until,
        ..
    } = report.report;
    let files = table::count(needed, "file");
    let end = match (until, report.findings.len()) {
        (Some(until), _) => format!("everything is kept until {}", table::time(until)),
        (None, 0) => "nothing to protect".to_owned(),
        (None, lacking) => format!(
            "not everything is kept: {}",
            table::count(lacking as u64, "failure")
        ),
    };
    format!("{files} needed, {extended} extended; {end}\n")
}
