//! `refloat copy`.
//!
//! Invariant: exit code 0 means that every point that was asked for is whole in the other
//! repository.

use std::collections::HashSet;

use refloat_engine::point_list::{self, PointSummary};
use refloat_model::finding::{Finding, Severity};
use refloat_model::id::RunId;
use refloat_model::progress::Progress as _;
use refloat_repository::copy::{self, CopyReport};
use refloat_repository::lock::LockMode;
use refloat_repository::{IndexedRepository, Repository, RepositoryError, SnapshotId};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind, one_line};
use crate::environment;
use crate::exit_status::ExitStatus;
use crate::other::{Other, OtherArgs};
use crate::point;
use crate::progress::Shown;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Copy recovery points into another repository
///
/// Only what the other repository lacks is read and written, and everything is verified on the
/// way. A copy that is interrupted goes on where it stopped when it is repeated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Points to copy; all that fit the filters if none is named
    #[arg(value_name = "POINT")]
    points: Vec<String>,
    /// Where to: a name under repositories in refloat.yaml, or an address
    /// [env: REFLOAT_OTHER_REPOSITORY]
    #[arg(long, value_name = "REPOSITORY")]
    to: Option<String>,
    #[command(flatten)]
    other: OtherArgs,
    /// Only points of this policy
    #[arg(long, value_name = "NAME", conflicts_with = "points")]
    policy: Option<String>,
    /// Only points of this host
    #[arg(long, value_name = "NAME", conflicts_with = "points")]
    host: Option<String>,
    /// Only points that carry this tag
    #[arg(long, value_name = "TAG", conflicts_with = "points")]
    tag: Option<String>,
    /// Only the newest so many of them
    #[arg(long, value_name = "N", conflicts_with = "points")]
    newest: Option<usize>,
    /// Print what would be copied and stop
    #[arg(long)]
    dry_run: bool,
}

/// What a copy to one repository did.
#[derive(Serialize)]
pub struct Copied {
    /// The other repository's name or address.
    pub to: String,
    dry_run: bool,
    /// Points that were copied, or would be.
    copied: Vec<CopiedPoint>,
    /// How many points it had whole.
    present: usize,
    /// How many more it had that lacked something there, which was copied, or would be.
    completed: usize,
    /// How many more it had of which it is not known whether they are whole there.
    unknown: usize,
    /// How many are not there and cannot be copied: something of them is lost or damaged here.
    damaged: usize,
    /// What is not known to be whole there, and why.
    findings: Vec<Finding>,
    /// Bytes that were written there.
    bytes_written: u64,
    /// Whether both repositories cut content at the same places.
    same_chunker: bool,
}

#[derive(Serialize)]
struct CopiedPoint {
    #[serde(flatten)]
    point: PointSummary,
    /// The snapshot's id in the other repository; none if it was not copied yet.
    there: Option<SnapshotId>,
}

/// Copies.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let named = match &args.to {
        Some(name) => Some(name.clone()),
        None => environment::text(&environment::OTHER_REPOSITORY)?,
    };
    let named = named.ok_or_else(|| {
        CommandError::usage("no repository to copy to")
            .hint("name it with --to or REFLOAT_OTHER_REPOSITORY")
    })?;
    let other = Other::resolve(&named, &args.other, settings)?;
    let (from, to) = other.open_both(settings)?;
    let _lock = repository::lock_for_reading(&from, settings)?;
    // In this order: writers do the opposite, and a point that was listed is in the index.
    let list = from.snapshots()?;
    let from = from.into_indexed()?;
    let points = point_list::summaries(&list.snapshots);
    let wanted = select(args, points, settings)?;
    let mut copied = if args.dry_run {
        survey(&from, &other, to, wanted, signals)?
    } else {
        copy_points(&from, &other, to, wanted, settings, signals)?
    };
    if args.points.is_empty() {
        copied.add_unreadable(&list.unreadable);
    }
    let status = if copied.is_complete() {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    copied.findings.extend(copied.advice());
    settings.output.findings(&copied.findings);
    settings
        .output
        .report("copy", status, &copied, || text(&copied))
}

fn unreadable((id, error): &(SnapshotId, RepositoryError)) -> Finding {
    Finding::error(format!("snapshot {}", id.short()), one_line(error))
}

fn select(
    args: &Args,
    points: Vec<PointSummary>,
    settings: &Settings,
) -> Result<Vec<PointSummary>, CommandError> {
    if !args.points.is_empty() {
        let mut seen = HashSet::new();
        let mut wanted = Vec::new();
        for text in &args.points {
            let found = point::select(&text.parse()?, &points, settings)?;
            if seen.insert(found.snapshot) {
                wanted.push(found.clone());
            }
        }
        return Ok(wanted);
    }
    let fits = |wanted: &Option<String>, have: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| have == Some(wanted))
    };
    let is_empty = points.is_empty();
    let mut wanted: Vec<PointSummary> = points
        .into_iter()
        .filter(|p| fits(&args.policy, p.policy.as_deref()) && fits(&args.host, Some(&p.host)))
        .filter(|p| args.tag.as_ref().is_none_or(|tag| p.tags.contains(tag)))
        .collect();
    if wanted.is_empty() && !is_empty {
        // A slip in a timer's line would leave the other place empty for good.
        return Err(CommandError::new(
            ErrorKind::NotFound,
            "no recovery point fits --policy, --host and --tag",
        )
        .hint("`refloat points` shows what there is"));
    }
    wanted.sort_by_key(|point| point.time);
    let spared = args.newest.map_or(0, |n| wanted.len().saturating_sub(n));
    Ok(wanted.split_off(spared))
}

fn require_two(
    from: &IndexedRepository,
    other: &Other,
    to: &Repository,
) -> Result<(), CommandError> {
    if to.config().id == from.config().id {
        return Err(CommandError::new(
            ErrorKind::Refused,
            format!("{} is the same repository", other.name),
        ));
    }
    Ok(())
}

fn survey(
    from: &IndexedRepository,
    other: &Other,
    to: Repository,
    points: Vec<PointSummary>,
    signals: &Signals,
) -> Result<Copied, CommandError> {
    require_two(from, other, &to)?;
    let to = to.into_indexed()?;
    let ids: Vec<SnapshotId> = points.iter().map(|point| point.snapshot).collect();
    let survey = copy::survey(from, &to, &ids, &signals.cancel)?;
    let lacking: HashSet<SnapshotId> = survey.wanted.iter().map(|(id, _)| *id).collect();
    let lacking = points
        .into_iter()
        .filter(|point| lacking.contains(&point.snapshot))
        .map(|point| CopiedPoint { point, there: None });
    Ok(Copied {
        to: other.name.clone(),
        dry_run: true,
        copied: lacking.collect(),
        present: survey.present.len(),
        completed: survey.broken.len(),
        unknown: survey.unknown.len(),
        // Only copying reads all data.
        damaged: 0,
        findings: survey.unknown.iter().map(unreadable).collect(),
        bytes_written: 0,
        same_chunker: from.chunker_parameters() == to.chunker_parameters(),
    })
}

/// Copies points to the other repository, which is open, oldest first.
///
/// # Errors
/// Both are the same, or storage failed; points that were finished before stay.
pub fn copy_points(
    from: &IndexedRepository,
    other: &Other,
    to: Repository,
    points: Vec<PointSummary>,
    settings: &Settings,
    signals: &Signals,
) -> Result<Copied, CommandError> {
    require_two(from, other, &to)?;
    let run = RunId::from_random(random::bytes()?);
    // Whether that place keeps what it is to keep was asked when it was opened: the settings are of the other.
    let lock = repository::lock_in_time(&to, LockMode::Shared, run, settings)?;
    let to = to.into_indexed()?;
    let progress = Shown::start(settings);
    progress.phase(&format!("copying to {}", other.name));
    let ids: Vec<SnapshotId> = points.iter().map(|point| point.snapshot).collect();
    let report = copy::copy(from, &to, &ids, &lock, progress.counters(), &signals.cancel)?;
    drop(progress);
    Ok(Copied::of(other, &report, points))
}

impl Copied {
    fn of(other: &Other, report: &CopyReport, points: Vec<PointSummary>) -> Self {
        let there = |id: SnapshotId| {
            let found = report.copied.iter().find(|(here, _)| *here == id);
            found.map(|(_, there)| *there)
        };
        let copied = points.into_iter().filter_map(|point| {
            let there = Some(there(point.snapshot)?);
            Some(CopiedPoint { point, there })
        });
        Self {
            to: other.name.clone(),
            dry_run: false,
            copied: copied.collect(),
            present: report.present.len(),
            completed: report.completed.len(),
            unknown: report.unknown.len(),
            damaged: report.damaged.len(),
            findings: report
                .unknown
                .iter()
                .chain(&report.damaged)
                .map(unreadable)
                .collect(),
            bytes_written: report.added.packed_bytes,
            same_chunker: report.same_chunker,
        }
    }

    /// Adds snapshots that cannot be read, of which nobody can tell whether they should be copied.
    pub fn add_unreadable(&mut self, snapshots: &[(SnapshotId, RepositoryError)]) {
        self.findings.extend(snapshots.iter().map(unreadable));
    }

    /// Whether everything that was asked for is whole there.
    pub fn is_complete(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.all(|finding| finding.severity < Severity::Error)
    }

    /// What is not known to be whole there.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What a person should know beside the result.
    pub fn advice(&self) -> Option<Finding> {
        (!self.same_chunker).then(|| {
            Finding::note(
                format!("repository {}", self.to),
                "cuts files at other places, so files that change are stored there once more; \
                 `init --copy-chunker-params` avoids that for a new one",
            )
        })
    }
}

/// The text for people.
pub fn text(copied: &Copied) -> String {
    let verb = if copied.dry_run {
        "would be copied"
    } else {
        "copied"
    };
    let mut text = String::new();
    for CopiedPoint { point, .. } in &copied.copied {
        let policy = point.policy.as_deref().unwrap_or("(another program)");
        text.push_str(&format!(
            "{verb}: {} of {policy}, {}\n",
            point.short(),
            table::time(point.time)
        ));
    }
    let count = table::count(copied.copied.len() as u64, "recovery point");
    text.push_str(&format!(
        "{count} {verb} to {}, {} whole there already, {} written\n",
        copied.to,
        copied.present,
        table::bytes(copied.bytes_written)
    ));
    if copied.completed > 0 {
        let count = table::count(copied.completed as u64, "point");
        let verb = if copied.dry_run { "would be" } else { "were" };
        text.push_str(&format!(
            "{count} there lacked something and {verb} completed\n"
        ));
    }
    if copied.unknown > 0 {
        let count = table::count(copied.unknown as u64, "point");
        text.push_str(&format!(
            "{count} there may lack something that cannot be told or completed from here\n"
        ));
    }
    if copied.damaged > 0 {
        let count = table::count(copied.damaged as u64, "point");
        text.push_str(&format!(
            "{count} could not be copied: something of them is lost or damaged here\n"
        ));
    }
    text
}
