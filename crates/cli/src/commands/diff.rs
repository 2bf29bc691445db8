//! `refloat diff`.
//!
//! Invariant: only names and sizes are printed, never content, so that nothing needs masking.

use refloat_engine::diff::{self, Change, Difference};
use refloat_engine::manifest;
use serde::Serialize;

use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::point::{self, OpenPoint};
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Show what changed between two recovery points; ends with 4 if anything did
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier point, or a directory in it
    #[arg(value_name = "POINT[:PATH]")]
    before: String,
    /// The later point; a path that is given once counts for both
    #[arg(value_name = "POINT[:PATH]")]
    after: String,
    /// Also entries of which only owner, mode, times or attributes differ
    #[arg(long)]
    metadata: bool,
}

#[derive(Serialize)]
struct Report {
    before: String,
    after: String,
    differences: Vec<Difference>,
}

/// Compares.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let mut before = point::locator(&args.before)?;
    let mut after = point::locator(&args.after)?;
    if after.path.components().is_empty() {
        after.path.clone_from(&before.path);
    } else if before.path.components().is_empty() {
        before.path.clone_from(&after.path);
    }
    let (list, repository) = repository::listed(repository::open(settings)?, settings)?;
    let (old, new) = (
        OpenPoint::open(&repository, &list.snapshots, &before.point)?,
        OpenPoint::open(&repository, &list.snapshots, &after.point)?,
    );
    for open in [&old, &new] {
        settings.output.findings(open.passed_over.as_slice());
    }
    let (old_tree, new_tree) = (
        old.tree.directory(&before.path)?,
        new.tree.directory(&after.path)?,
    );
    let mut differences = diff::diff(&repository, old_tree, new_tree, &signals.cancel)?;
    if before.path.components().is_empty() {
        // No two points have the same: it is about the points, and not what they saved.
        differences.retain(|difference| !manifest::is_own(&difference.path));
    }
    differences.retain(|d| args.metadata || d.change != Change::Metadata);
    let status = if differences.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Differences
    };
    let report = Report {
        before: old.summary.short(),
        after: new.summary.short(),
        differences,
    };
    settings
        .output
        .result("diff", status, &report, || text(&report.differences))
}

fn text(differences: &[Difference]) -> String {
    let line = |difference: &Difference| {
        let sign = match difference.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Kind => 'T',
            Change::Content => 'M',
            Change::Metadata => 'U',
        };
        let size = match (difference.bytes_before, difference.bytes_after) {
            (Some(before), Some(after)) if before != after => {
                format!("  {} -> {}", table::bytes(before), table::bytes(after))
            }
            (None, Some(size)) | (Some(size), None) => format!("  {}", table::bytes(size)),
            _ => String::new(),
        };
        format!(
            "{sign} {}{size}\n",
            table::printable(&difference.path.to_string())
        )
    };
    differences.iter().map(line).collect()
}
