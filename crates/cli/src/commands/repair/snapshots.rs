//! `refloat repair snapshots`.
//!
//! Invariant: a recovery point that lost something is replaced only when asked, and every path that
//! its new form lacks was shown.

use std::sync::Arc;

use refloat_model::progress::Progress as _;
use refloat_repository::check::ReadData;
use refloat_repository::forget::ForgetOutcome;
use refloat_repository::lock::LockMode;
use refloat_repository::repair::{
    OldSnapshots, PreparedSnapshotRepair, RepairedSnapshot, SnapshotRepairPlan,
    plan_snapshot_repair,
};
use refloat_repository::{IndexedRepository, Repository, SnapshotId};
use serde::Serialize;

use super::{Carrying, changed, lock};
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::output;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// How many lost paths are printed; JSON has them all.
const LOST_PRINTED_MAX: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read all data to know what is lost; not needed after `repair index` and `repair packs`
    #[arg(long)]
    read_data: bool,
    /// Forget the recovery points that lost something, once their new form is stored
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    carrying: Carrying,
}

#[derive(Serialize)]
struct Report {
    repair: &'static str,
    dry_run: bool,
    rewrite: Vec<RewriteView>,
    /// Snapshots of which nothing is left.
    hopeless: Vec<String>,
    /// Snapshot files that cannot be read.
    unreadable: Vec<String>,
    /// Whether there are more lost paths than are listed.
    lost_is_cut: bool,
    /// None if nothing was carried out.
    done: Option<Vec<DoneView>>,
}

#[derive(Serialize)]
struct RewriteView {
    snapshot: String,
    lost: Vec<String>,
}

#[derive(Serialize)]
struct DoneView {
    old: String,
    new: String,
    /// What became of the old one; none if it was not to be forgotten.
    old_is: Option<&'static str>,
}

impl From<&RepairedSnapshot> for DoneView {
    fn from(repaired: &RepairedSnapshot) -> Self {
        Self {
            old: repaired.old.to_string(),
            new: repaired.new.to_string(),
            old_is: repaired.deletion.map(|outcome| match outcome {
                ForgetOutcome::Deleted | ForgetOutcome::Gone => "forgotten",
                ForgetOutcome::Kept => "kept by the storage",
            }),
        }
    }
}

impl Report {
    fn of(plan: &SnapshotRepairPlan, dry_run: bool) -> Self {
        let rewrite = plan.rewrite.iter().map(|(snapshot, lost)| RewriteView {
            snapshot: snapshot.to_string(),
            lost: lost.iter().map(|lost| lost.path.to_string()).collect(),
        });
        Self {
            repair: "snapshots",
            dry_run,
            rewrite: rewrite.collect(),
            hopeless: plan.hopeless.iter().map(ToString::to_string).collect(),
            unreadable: plan.unreadable.iter().map(ToString::to_string).collect(),
            lost_is_cut: plan.lost_is_cut,
            done: None,
        }
    }

    /// Incomplete if something is left that nothing can be made of, or that storage keeps.
    fn status(&self) -> ExitStatus {
        let kept = |done: &DoneView| done.old_is == Some("kept by the storage");
        let keeps = self.done.iter().flatten().any(kept);
        if keeps || !self.hopeless.is_empty() || !self.unreadable.is_empty() {
            ExitStatus::Incomplete
        } else {
            ExitStatus::Success
        }
    }
}

pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::indexed(repository::open_uncached(settings)?, settings)?;
    let reading = if args.read_data {
        ReadData::All
    } else {
        ReadData::None
    };
    let Carrying { dry_run, yes } = args.carrying;
    let shown = {
        let _lock = repository::lock_for_reading(&repository, settings)?;
        plan(&repository, reading, settings, signals)?
            .plan()
            .clone()
    };
    if args.forget && shown.lost_is_cut && !dry_run {
        return Err(CommandError::new(
            ErrorKind::Refused,
            "more paths are lost than can be listed, so no recovery point is forgotten for them",
        )
        .hint("repair without --forget, compare the points with refloat diff, and forget the old ones by name"));
    }
    let mut report = Report::of(&shown, dry_run);
    if !dry_run && !shown.rewrite.is_empty() {
        if !yes {
            output::say(&text(&report));
            settings.output.confirm("Rewrite these recovery points?")?;
        }
        let done = carry_out(args, &repository, &shown, settings, signals)?;
        report.done = Some(done.iter().map(DoneView::from).collect());
    }
    settings
        .output
        .report("repair", report.status(), &report, || text(&report))
}

fn carry_out(
    args: &Args,
    repository: &IndexedRepository,
    shown: &SnapshotRepairPlan,
    settings: &Settings,
    signals: &Signals,
) -> Result<Vec<RepairedSnapshot>, CommandError> {
    let (mode, old) = if args.forget {
        (LockMode::Exclusive, OldSnapshots::Delete)
    } else {
        (LockMode::Shared, OldSnapshots::Keep)
    };
    let reading = if args.read_data {
        ReadData::All
    } else {
        ReadData::None
    };
    let lock = lock(repository, mode, settings)?;
    let prepared = plan(repository, reading, settings, signals)?;
    if prepared.plan() != shown {
        return Err(changed());
    }
    let progress = Shown::start(settings);
    progress.phase("rewriting recovery points");
    let counters = Arc::clone(progress.counters());
    let cancel = &signals.cancel;
    let to_go = || shown.rewrite.keys().filter(|_| args.forget);
    let changes = Changes::dropped(to_go().copied());
    let book = ledger::begin(repository, settings, ("repair snapshots", &changes))?;
    let reloaded = repository.reload()?;
    let ended = prepared.execute(reloaded, &lock, old, &counters, cancel);
    let is_kept = |deletion: &ForgetOutcome| *deletion == ForgetOutcome::Kept;
    let kept = |snapshot: &SnapshotId| {
        let mut done = ended.iter().flatten();
        done.any(|one| one.old == *snapshot && one.deletion.as_ref().is_some_and(is_kept))
    };
    // Also of a repair that ended half-way: what is gone by then is gone by our hand.
    let changes = Changes::dropped(to_go().filter(|snapshot| !kept(snapshot)).copied());
    let noted = ("repair snapshots", &changes);
    let noted = ledger::note_in(book, repository, settings.output, noted);
    let done = ended?;
    noted?;
    Ok(done)
}

fn plan(
    repository: &Repository,
    reading: ReadData,
    settings: &Settings,
    signals: &Signals,
) -> Result<PreparedSnapshotRepair, CommandError> {
    let progress = Shown::start(settings);
    progress.phase("looking for what is lost");
    let counters = progress.counters();
    Ok(plan_snapshot_repair(
        repository,
        reading,
        counters,
        &signals.cancel,
    )?)
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for snapshot in &report.hopeless {
        text.push_str(&format!(
            "snapshot {}: everything is lost\n",
            short(snapshot)
        ));
    }
    for snapshot in &report.unreadable {
        text.push_str(&format!("snapshot {} cannot be read\n", short(snapshot)));
    }
    if let Some(done) = &report.done {
        for snapshot in done {
            let old_is = snapshot.old_is.unwrap_or("still there");
            let (old, new) = (short(&snapshot.old), short(&snapshot.new));
            text.push_str(&format!(
                "snapshot {old} is rewritten as {new}; it is {old_is}\n"
            ));
        }
        return text;
    }
    let mut left = LOST_PRINTED_MAX;
    for snapshot in &report.rewrite {
        let id = short(&snapshot.snapshot);
        let mut count = table::count(snapshot.lost.len() as u64, "path");
        if report.lost_is_cut {
            count.insert_str(0, "at least ");
        }
        text.push_str(&format!("snapshot {id} is rewritten without {count}:\n"));
        for path in snapshot.lost.iter().take(left) {
            text.push_str(&format!("  {}\n", table::printable(path)));
        }
        left = left.saturating_sub(snapshot.lost.len());
    }
    if text.is_empty() {
        text.push_str("no recovery point lacks anything\n");
    }
    text
}
