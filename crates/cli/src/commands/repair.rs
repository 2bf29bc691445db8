//! `refloat repair`.
//!
//! Invariant: what is given up was shown and confirmed; the plan that is carried out is the one
//! that was shown, or none.

mod index;
mod locks;
mod packs;
mod snapshots;

use clap::Subcommand;
use refloat_model::id::RunId;
use refloat_model::progress::Progress as _;
use refloat_repository::check::ReadData;
use refloat_repository::lock::{Lock, LockMode};
use refloat_repository::repair::plan_snapshot_repair;
use refloat_repository::{Repository, SnapshotId};

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::progress::Shown;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;

/// Make a damaged repository whole again, as far as its bytes go
///
/// In this order, which loses least: the index, from what packs say of themselves; the packs, from
/// what is undamaged in them; the snapshots, without what is lost for good. What is lost tells
/// `refloat check --read-data`. Copy the repository first if you can.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Build the index anew where it does not say what the packs hold
    Index(index::Args),
    /// Save what is undamaged in damaged packs into new ones
    Packs(packs::Args),
    /// Delete all locks: after somebody forged them, or if a program left them
    Locks(locks::Args),
    /// Rewrite recovery points without the files and folders that are lost
    Snapshots(snapshots::Args),
}

/// Whether a plan is only shown, or carried out without asking.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Carrying {
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Plans, shows, asks, repairs.
///
/// # Errors
/// The repository cannot be opened or is locked, nobody consents, or storage failed.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    match &args.what {
        What::Index(args) => index::run(args, settings, signals),
        What::Locks(args) => locks::run(args, settings),
        What::Packs(args) => packs::run(args, settings, signals),
        What::Snapshots(args) => snapshots::run(args, settings, signals),
    }
}

fn lock(
    repository: &Repository,
    mode: LockMode,
    settings: &Settings,
) -> Result<Lock, CommandError> {
    let run = RunId::from_random(random::bytes()?);
    repository::lock(repository, mode, run, settings)
}

/// The snapshots that need something that no pack holds.
fn affected(
    repository: &Repository,
    settings: &Settings,
    signals: &Signals,
) -> Result<Vec<String>, CommandError> {
    let progress = Shown::start(settings);
    progress.phase("looking for recovery points that need what is lost");
    let (counters, cancel) = (progress.counters(), &signals.cancel);
    let prepared = plan_snapshot_repair(repository, ReadData::None, counters, cancel)?;
    let plan = prepared.plan();
    let mut points: Vec<SnapshotId> = plan.rewrite.keys().copied().collect();
    points.extend(plan.hopeless.iter().chain(&plan.unreadable));
    points.sort_unstable();
    points.dedup();
    Ok(points.iter().map(ToString::to_string).collect())
}

fn affected_text(points: &[String]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let mut text = "these recovery points need what is lost:\n".to_owned();
    for point in points {
        text.push_str(&format!("  {}\n", point.get(..8).unwrap_or(point)));
    }
    text.push_str("run `refloat repair snapshots` to keep what is left of them\n");
    text
}

/// The plan is no longer the one that was shown.
fn changed() -> CommandError {
    CommandError::new(
        ErrorKind::Refused,
        "the repository changed since the plan was made, so nothing was repaired",
    )
    .hint("run it again")
}
