//! `refloat audit`.
//!
//! Invariant: a repository that differs from its record ends with an exit code that is not 0, until
//! a person accepts it.

use refloat_model::progress::Progress as _;
use refloat_repository::ledger::{LedgerFinding, Observation};
use serde::Serialize;

use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Book};
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::table;

/// Compare the repository with its ledger
///
/// The ledger is a signed file, kept elsewhere, in which commands with --ledger record the points
/// and keys they make and drop. What was deleted, put back or exchanged by anybody else shows here
/// and in `refloat check --ledger FILE`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ledger must have this line, the head that an earlier audit printed: so nobody cut its end
    #[arg(long, value_name = "HEX")]
    expect_head: Option<String>,
    /// Record the repository as it is now
    #[arg(long)]
    accept: bool,
    /// Do not ask
    #[arg(long, requires = "accept")]
    yes: bool,
}

#[derive(Serialize)]
struct Report {
    /// Whether the repository is as recorded.
    sound: bool,
    lines: u64,
    head: String,
    findings: Vec<LedgerFinding>,
    messages: Vec<String>,
    /// Whether the repository was recorded as it is.
    accepted: bool,
}

/// Compares, and records if asked to.
///
/// # Errors
/// There is no ledger, or it is not this repository's.
pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let path = settings.ledger.as_ref().ok_or_else(|| {
        CommandError::usage("no ledger given").hint("name it with --ledger or REFLOAT_LEDGER")
    })?;
    let repository = repository::open(settings)?;
    let progress = Shown::start(settings);
    progress.phase("comparing with the ledger");
    let mut book = if args.accept {
        Book::open_or_begin(path, &repository)?
    } else {
        Book::open(path, &repository)?
    };
    if let Some(head) = &args.expect_head
        && !book.ledger.has_line(head)
    {
        return Err(CommandError::usage(format!(
            "the ledger has no line {head}: its end is missing, or it was begun anew"
        )));
    }
    let found = Observation::of(&repository)?;
    let findings = book.ledger.compare(&found);
    drop(progress);
    settings.output.findings(&ledger::findings(&findings));
    if args.accept {
        if !args.yes && !findings.is_empty() {
            settings.output.confirm("Accept the repository as it is?")?;
        }
        book.accept(&found)?;
    }
    let sound = findings.is_empty() || args.accept;
    let report = Report {
        sound,
        lines: book.ledger.lines(),
        head: book.ledger.head().to_owned(),
        messages: findings.iter().map(ToString::to_string).collect(),
        findings,
        accepted: args.accept,
    };
    let status = if sound {
        ExitStatus::Success
    } else {
        ExitStatus::Fatal
    };
    settings
        .output
        .report("audit", status, &report, || text(&report))
}

fn text(report: &Report) -> String {
    let verdict = match (report.accepted, report.findings.len()) {
        (true, _) => "the repository is recorded as it is".to_owned(),
        (_, 0) => "the repository is as recorded".to_owned(),
        (_, count) => table::count(count as u64, "difference"),
    };
    let (lines, head) = (table::count(report.lines, "line"), &report.head);
    format!("{verdict}\nledger: {lines}, head {head}\n")
}
