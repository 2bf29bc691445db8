//! `refloat find`.
//!
//! Invariant: a point, or a directory of one, that cannot be read is named, and all else is searched.

use refloat_engine::find::{Finder, Search};
use refloat_engine::point_list;
use refloat_model::finding::Finding;
use refloat_model::glob::Glob;
use refloat_model::tree_path::TreePath;
use refloat_repository::RepositoryError;
use serde::Serialize;

use super::ls::EntryView;
use crate::command_error::{CommandError, ErrorKind, one_line};
use crate::exit_status::ExitStatus;
use crate::point;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Find files by name or path in all recovery points, the newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to find: *.conf for names, /docker/*/volumes/db/* for whole paths
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Only in this point
    #[arg(long, value_name = "POINT")]
    point: Option<String>,
}

#[derive(Serialize)]
struct Report {
    matches: Vec<Match>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Match {
    point: String,
    snapshot: String,
    /// When the point was taken.
    taken: String,
    #[serde(flatten)]
    entry: EntryView,
}

/// Finds.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let patterns: Result<Vec<Glob>, _> = args.patterns.iter().map(|p| Glob::new(p)).collect();
    let patterns = patterns.map_err(|e| CommandError::of(ErrorKind::Usage, &e))?;
    let (list, repository) = repository::listed(repository::open(settings)?, settings)?;
    let mut snapshots = list.snapshots;
    snapshots.retain(|(_, file)| !point_list::is_partial(file));
    let summaries = point_list::summaries(&snapshots);
    let only = match &args.point {
        Some(text) => Some(point::select(&text.parse()?, &summaries, settings)?.snapshot),
        None => None,
    };
    let mut finder = Finder::new(patterns);
    let mut report = Report {
        matches: Vec::new(),
        findings: Vec::new(),
    };
    for ((id, file), summary) in snapshots.iter().zip(&summaries).rev() {
        let Some(root) = file.tree.filter(|_| only.is_none_or(|only| only == *id)) else {
            continue;
        };
        match finder.find(&repository, root, &signals.cancel) {
            Ok(search) => {
                report.findings.extend(lost(&summary.short(), &search));
                report
                    .matches
                    .extend(search.found.iter().map(|found| Match {
                        point: summary.short(),
                        snapshot: id.to_string(),
                        taken: summary.time.to_string(),
                        entry: EntryView::of(&found.path, &found.node),
                    }));
            }
            Err(error) if signals.cancel.is_cancelled() => return Err(error.into()),
            Err(error) => report.findings.push(Finding::error(
                format!("point {}", summary.short()),
                one_line(&error),
            )),
        }
    }
    settings.output.findings(&report.findings);
    let status = if report.findings.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    settings
        .output
        .result("find", status, &report, || text(&report.matches))
}

/// What could not be searched.
fn lost<'s>(point: &str, search: &'s Search) -> impl Iterator<Item = Finding> + use<'s> {
    let point = format!("point {point}");
    let more = search.lost_count - search.lost.len();
    let more = (more > 0).then(|| {
        let message = format!("{more} more directories that cannot be read");
        Finding::error(point.clone(), message)
    });
    let one = move |(path, error): &(TreePath, RepositoryError)| {
        let message = format!("{path} was not searched: {}", one_line(error));
        Finding::error(point.clone(), message)
    };
    search.lost.iter().map(one).chain(more)
}

fn text(matches: &[Match]) -> String {
    let line = |m: &Match| {
        let path = table::printable(&m.entry.path);
        format!(
            "{}:{path}  {}  {}\n",
            m.point,
            table::bytes(m.entry.size),
            m.entry.modified
        )
    };
    matches.iter().map(line).collect()
}
