//! `refloat export --git FOLDER`.
//!
//! Invariant: a point is exported once, as one commit that holds exactly what the point holds; a
//! point that cannot be read moves nothing and hides no other.

mod commit;
mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;

use refloat_engine::git_export::{Exported, History, NotExported};
use refloat_engine::point_list::{PointSummary, summaries};
use refloat_git::{AUTHOR_ADDRESS, Branch, GitRepository, LogEntry, Ownership, Recipients};
use refloat_model::finding::Finding;
use refloat_model::id::PointId;
use refloat_model::progress::Progress as _;
use refloat_repository::{BlobId, SnapshotFile, SnapshotId};
use serde::Serialize;

use crate::belonging::Belonging;
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::point;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;
use commit::{CommitView, Export};

/// Commits after which many small files of Git are put together.
const COMMITS_BETWEEN_TIDYING: usize = 100;

/// Write the Kubernetes resources of recovery points into a Git repository, one commit a point
///
/// The folder of each cluster belongs to the export; whatever else the branch holds, and whoever
/// else commits to it, stays. Points that are exported already are passed over, and of others only
/// what changed is read and written.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["point", "all"]))]
pub struct Args {
    /// The point: latest, latest@production, 3f2a
    #[arg(value_name = "POINT")]
    point: Option<String>,
    /// Every point that is not exported yet
    #[arg(long)]
    all: bool,
    /// With --all, only points of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The Git repository; it is made, without a work tree, if the folder is empty or not there
    #[arg(long, value_name = "FOLDER", required = true)]
    git: PathBuf,
    /// The branch
    #[arg(long, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Write into a Git repository that Refloat did not make
    #[arg(long)]
    adopt: bool,
    /// Export Secrets too, their values encrypted for this age public key, or those in this file,
    /// as SOPS does; without, they stay out
    #[arg(long, value_name = "AGE-KEY|FILE")]
    secrets_for: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    git: PathBuf,
    branch: String,
    /// Whether everything that was asked for is in.
    complete: bool,
    /// What was exported by this run, oldest first.
    commits: Vec<CommitView>,
    /// Points that were not, on purpose.
    skipped: Vec<Skipped>,
    /// Points that could not be.
    failed: Vec<Failed>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Skipped {
    point: PointId,
    why: String,
}

#[derive(Serialize)]
struct Failed {
    point: PointId,
    error: CommandError,
}

/// A point that is asked for, and its tree.
struct Asked {
    summary: PointSummary,
    id: PointId,
    root: BlobId,
}

/// A point that is named is exported whatever its policy is.
pub fn belonging() -> Belonging {
    Belonging {
        options: vec!["policy".into()],
        owner: "all",
    }
}

/// Exports.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let recipients = match args.secrets_for.as_slice() {
        [] => None,
        keys => Some(Recipients::new(keys)?),
    };
    let branch = Branch::new(&args.branch)?;
    let opened = repository::open(settings)?;
    let _lock = repository::lock_for_reading(&opened, settings)?;
    let snapshots = opened.snapshots()?.snapshots;
    let all = every(&snapshots);
    let roots = all.iter().map(|point| (point.id, point.root)).collect();
    let points = asked(args, all)?;
    let ownership = if args.adopt {
        Ownership::Adopt
    } else {
        Ownership::Ours
    };
    let owner = opened.config().id.to_string();
    let git = GitRepository::own(&args.git, &branch, &owner, ownership)?;
    let log = git.log(&branch)?;
    let indexed = repository::indexed(opened, settings)?;
    let mut report = Report {
        git: args.git.clone(),
        branch: args.branch.clone(),
        complete: true,
        commits: Vec::new(),
        skipped: Vec::new(),
        failed: Vec::new(),
        findings: Vec::new(),
    };
    let mut export = Export {
        repository: indexed,
        git: &git,
        branch: &branch,
        roots,
        head: log.first().map(|entry| entry.commit.clone()),
        history: History::read(log.iter().map(exported)),
        secrets: secrets::Choice::new(recipients),
        cancel: &signals.cancel,
        progress: &Shown::start(settings),
    };
    export.all(points, &mut report)?;
    export.tidy(&mut report);
    drop(export);
    finish(report, settings)
}

fn finish(mut report: Report, settings: &Settings) -> Result<ExitStatus, CommandError> {
    report.complete &= report.failed.is_empty();
    settings.output.findings(&report.findings);
    for failed in &report.failed {
        settings.output.error_text(&failed.error);
    }
    let status = if report.complete {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    settings
        .output
        .result("export", status, &report, || text(&report))
}

impl Export<'_> {
    fn all(&mut self, points: Vec<Asked>, report: &mut Report) -> Result<(), CommandError> {
        let now = jiff::Timestamp::now().as_second();
        let count = points.len();
        for (index, asked) in points.into_iter().enumerate() {
            if let Err(why) = self.history.takes(&asked.summary, now) {
                report.complete &= why != NotExported::InPart;
                report.skip(asked.id, &why);
                continue;
            }
            let name = asked.summary.short();
            self.progress
                .phase(&format!("exporting {name} ({} of {count})", index + 1));
            match self.point(&asked, report) {
                Ok(()) => {}
                // The next points are as readable, or not, as this one.
                Err(error) if error.kind == ErrorKind::Damaged && count > 1 => {
                    let point = asked.id;
                    report.failed.push(Failed { point, error });
                }
                Err(error) => return Err(error),
            }
            if report.commits.len() % COMMITS_BETWEEN_TIDYING == COMMITS_BETWEEN_TIDYING - 1 {
                self.tidy(report);
            }
        }
        Ok(())
    }

    /// What is exported is exported, however many packs it is in.
    fn tidy(&self, report: &mut Report) {
        let Err(error) = self.git.tidy() else { return };
        let why = format!("could not be tidied up: {error}");
        let finding = Finding::warning("Git repository", why);
        if !report.findings.contains(&finding) {
            report.findings.push(finding);
        }
    }
}

impl Report {
    fn skip(&mut self, point: PointId, why: &dyn std::fmt::Display) {
        let why = why.to_string();
        self.skipped.push(Skipped { point, why });
    }
}

fn exported(entry: &LogEntry) -> Exported<'_> {
    Exported {
        commit: &entry.commit,
        time_seconds: entry.time_seconds,
        is_untouched: entry.committer == AUTHOR_ADDRESS,
        message: &entry.message,
    }
}

/// All recovery points, oldest first.
fn every(snapshots: &[(SnapshotId, SnapshotFile)]) -> Vec<Asked> {
    let trees: BTreeMap<SnapshotId, Option<BlobId>> = snapshots
        .iter()
        .map(|(id, file)| (*id, file.tree))
        .collect();
    let points = summaries(snapshots).into_iter().filter_map(|summary| {
        Some(Asked {
            id: summary.id?,
            root: trees.get(&summary.snapshot).copied().flatten()?,
            summary,
        })
    });
    let mut points: Vec<Asked> = points.collect();
    points.sort_by_key(|point| (point.summary.time, point.id));
    points
}

/// The points that are asked for, oldest first.
fn asked(args: &Args, mut points: Vec<Asked>) -> Result<Vec<Asked>, CommandError> {
    let Some(text) = &args.point else {
        points.retain(|p| args.policy.is_none() || p.summary.policy == args.policy);
        return Ok(points);
    };
    let locator = point::locator(text)?;
    if !locator.path.components().is_empty() {
        return Err(CommandError::usage(
            "a point is exported as a whole, not a path in it",
        ));
    }
    let known: Vec<PointSummary> = points.iter().map(|point| point.summary.clone()).collect();
    let wanted = locator.point.find(&known)?.snapshot;
    points.retain(|point| point.summary.snapshot == wanted);
    Ok(points)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for commit in &report.commits {
        text.push_str(&format!(
            "point {}: commit {}, {} written, {} removed\n",
            commit.point.short(),
            commit.commit.get(..12).unwrap_or_default(),
            commit.written,
            commit.removed,
        ));
    }
    for skipped in &report.skipped {
        let point = skipped.point.short();
        text.push_str(&format!("point {point}: {}\n", skipped.why));
    }
    for failed in &report.failed {
        text.push_str(&format!("point {}: FAILED\n", failed.point.short()));
    }
    if report.commits.is_empty() && report.skipped.is_empty() && report.failed.is_empty() {
        text.push_str("there is no recovery point to export\n");
    }
    let commits = table::count(report.commits.len() as u64, "commit");
    text.push_str(&format!(
        "{commits} on {} of {}\n",
        report.branch,
        report.git.display()
    ));
    text
}
