//! `refloat check`.
//!
//! Invariant: anything lost or damaged ends with an exit code that is not 0.

mod advice;

use refloat_model::finding::Finding;
use refloat_model::progress::Progress as _;
use refloat_repository::check::{self, CheckFinding, CheckOptions, CheckReport, ReadData};
use refloat_repository::ledger::{LedgerFinding, Observation};
use serde::Serialize;

use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Book};
use crate::output;
use crate::progress::Shown;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// How many lost paths are printed; JSON has them all.
const LOST_PRINTED_MAX: usize = 100;

/// Verify that every recovery point can be restored
///
/// The structure is always checked completely: that everything a point refers to is listed and
/// there. Reading the data as well finds bytes that changed in storage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read and verify part of the data: a share (5%), chosen anew each time, or one of equal
    /// parts (3/10)
    #[arg(long, value_name = "PART", value_parser = parse_subset)]
    read_data_subset: Option<Subset>,
}

#[derive(Clone, Copy, Debug)]
enum Subset {
    Part { number: u8, of: u8 },
    PerMille(u16),
}

#[derive(Serialize)]
struct Report {
    /// Whether nothing is lost or damaged.
    sound: bool,
    /// What was found, as text.
    messages: Vec<String>,
    /// What differs from the ledger; none if there is no ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<Vec<LedgerFinding>>,
    /// What lies in the repository's folder and is none of its files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    foreign: Vec<String>,
    #[serde(flatten)]
    report: CheckReport,
}

fn parse_subset(text: &str) -> Result<Subset, String> {
    let wrong = || "write a share such as 5% or 0.5%, or a part such as 3/10".to_owned();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        if !(0.1..=100.0).contains(&percent) {
            return Err("the share must be from 0.1% to 100%".to_owned());
        }
        // In 1 ..= 1000 by the bounds above.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded"
        )]
        return Ok(Subset::PerMille((percent * 10.0).round() as u16));
    }
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let (number, of) = (
        number.parse().map_err(|_| wrong())?,
        of.parse().map_err(|_| wrong())?,
    );
    if number == 0 || number > of {
        return Err("parts are numbered from 1".to_owned());
    }
    Ok(Subset::Part { number, of })
}

/// So many foreign files are printed; JSON has more.
const FOREIGN_PRINTED_MAX: usize = 20;

/// Checks.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open_uncached(settings)?;
    let _lock = repository::lock_for_reading(&repository, settings)?;
    let read_data = match args.read_data_subset {
        _ if args.read_data => ReadData::All,
        None => ReadData::None,
        Some(Subset::Part { number, of }) => ReadData::Part { number, of },
        Some(Subset::PerMille(per_mille)) => ReadData::Share {
            per_mille,
            seed: u64::from_le_bytes(random::bytes()?),
        },
    };
    let progress = Shown::start(settings);
    progress.phase("checking the repository");
    let options = CheckOptions { read_data };
    let report = check::check(&repository, &options, progress.counters(), &signals.cancel)?;
    drop(progress);
    let ledger = settings.ledger.as_ref().map(|path| {
        let book = Book::open(path, &repository)?;
        Ok::<_, CommandError>(book.ledger.compare(&Observation::of(&repository)?))
    });
    let ledger = ledger.transpose()?;
    settings
        .output
        .findings(&ledger::findings(ledger.as_deref().unwrap_or_default()));
    let sound = report.is_clean() && ledger.as_ref().is_none_or(Vec::is_empty);
    let status = if sound {
        ExitStatus::Success
    } else {
        ExitStatus::Fatal
    };
    let messages: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    for (finding, message) in report.findings.iter().zip(&messages) {
        let word = if finding.is_remark() { "note" } else { "error" };
        output::say(&format!("{word}: {}\n", table::printable(message)));
    }
    for lost in report.lost.iter().take(LOST_PRINTED_MAX) {
        let path = table::printable(&lost.path.to_string());
        output::say(&format!("lost: {}:{path}\n", lost.snapshot.short()));
    }
    let foreign = match settings.repository()?.folder() {
        Some(folder) => folder.foreign()?,
        None => Vec::new(),
    };
    let strangers = foreign.iter().take(FOREIGN_PRINTED_MAX).map(|path| {
        Finding::warning(
            path.clone(),
            "is no file of a repository: nobody reads it, and no prune removes it",
        )
    });
    settings.output.findings(&strangers.collect::<Vec<_>>());
    let report = Report {
        foreign,
        sound,
        messages,
        ledger,
        report,
    };
    settings
        .output
        .report("check", status, &report, || text(&report))
}

/// What cannot be had back, as far as it is known.
fn losses(report: &CheckReport) -> String {
    let is_unreadable = |f: &&CheckFinding| matches!(f, CheckFinding::UnreadableSnapshot { .. });
    let snapshots = report.findings.iter().filter(is_unreadable).count() as u64;
    let mut losses = Vec::new();
    if snapshots > 0 {
        losses.push(format!(
            "{} cannot be read",
            table::count(snapshots, "snapshot")
        ));
    }
    if !report.lost.is_empty() {
        let least = if report.lost_is_cut { "at least " } else { "" };
        let paths = table::count(report.lost.len() as u64, "path");
        losses.push(format!("{least}{paths} cannot be restored"));
    }
    if losses.is_empty() {
        return "something is damaged or cannot be read, and no path is known to be lost by it"
            .to_owned();
    }
    losses.join(", ")
}

fn text(report: &Report) -> String {
    let counts = &report.report.counts;
    let differences = report.ledger.as_ref().map_or(0, Vec::len) as u64;
    let verdict = if differences > 0 && report.report.is_clean() {
        format!(
            "nothing is damaged, but {} from the ledger",
            table::count(differences, "difference")
        )
    } else if report.sound {
        "nothing is lost or damaged".to_owned()
    } else {
        losses(&report.report)
    };
    let done = format!(
        "{verdict}: {}, {}, {}, {} of {} read\n",
        table::count(counts.snapshots, "snapshot"),
        table::count(counts.packs, "pack"),
        table::count(counts.blobs, "blob"),
        table::bytes(counts.bytes_read),
        table::bytes(counts.bytes_listed),
    );
    done + &advice::advice(&report.report.findings)
}
