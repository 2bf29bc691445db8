//! `refloat repair index`.
//!
//! Invariant: a pack is dropped from the index only after what is undamaged in it was saved.

use refloat_model::progress::Progress as _;
use refloat_repository::lock::LockMode;
use refloat_repository::repair::{
    HeaderReading, IndexRepairPlan, IndexRepairReport, PreparedIndexRepair, plan_index_repair,
};
use refloat_repository::{PackId, Repository};
use serde::Serialize;

use super::{Carrying, affected, affected_text, changed, lock};
use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::output;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read the header of every pack, not only of those that the index does not know or whose size
    /// is not what it says
    #[arg(long)]
    read_all_packs: bool,
    #[command(flatten)]
    carrying: Carrying,
}

#[derive(Serialize)]
struct Report {
    repair: &'static str,
    dry_run: bool,
    plan: PlanView,
    /// None if nothing was carried out.
    done: Option<Done>,
    /// Snapshots that need what is lost.
    affected_points: Vec<String>,
}

#[derive(Serialize)]
struct PlanView {
    unreadable_indexes: Vec<String>,
    missing_packs: Vec<String>,
    damaged_packs: Vec<PackView>,
    corrected_packs: Vec<String>,
    added_packs: Vec<String>,
    ignored_packs: Vec<PackView>,
    repeated_packs: Vec<String>,
}

#[derive(Serialize)]
struct PackView {
    pack: String,
    cause: String,
}

#[derive(Serialize)]
struct Done {
    indexes_written: u64,
    indexes_deleted: u64,
    /// Old index files that should be gone and that storage keeps.
    indexes_kept: usize,
    blobs_saved: u64,
    blobs_lost: usize,
}

impl From<&IndexRepairReport> for Done {
    fn from(report: &IndexRepairReport) -> Self {
        Self {
            indexes_written: report.indexes_written,
            indexes_deleted: report.indexes_deleted,
            indexes_kept: report.indexes_kept.len(),
            blobs_saved: report.salvaged.iter().map(|pack| pack.saved).sum(),
            blobs_lost: report.salvaged.iter().map(|pack| pack.lost.len()).sum(),
        }
    }
}

impl From<&IndexRepairPlan> for PlanView {
    fn from(plan: &IndexRepairPlan) -> Self {
        let ids = |packs: &std::collections::BTreeSet<PackId>| -> Vec<String> {
            packs.iter().map(ToString::to_string).collect()
        };
        let packs = |packs: &std::collections::BTreeMap<PackId, String>| -> Vec<PackView> {
            let view = |(pack, cause): (&PackId, &String)| PackView {
                pack: pack.to_string(),
                cause: cause.clone(),
            };
            packs.iter().map(view).collect()
        };
        Self {
            unreadable_indexes: plan.unreadable.iter().map(ToString::to_string).collect(),
            missing_packs: ids(&plan.missing),
            damaged_packs: packs(&plan.damaged),
            corrected_packs: ids(&plan.corrected),
            added_packs: ids(&plan.added),
            ignored_packs: packs(&plan.ignored),
            repeated_packs: ids(&plan.repeated),
        }
    }
}

pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open_uncached(settings)?;
    let reading = if args.read_all_packs {
        HeaderReading::All
    } else {
        HeaderReading::Doubtful
    };
    let Carrying { dry_run, yes } = args.carrying;
    let shown = {
        let _lock = repository::lock_for_reading(&repository, settings)?;
        plan(&repository, reading, settings, signals)?
            .plan()
            .clone()
    };
    let mut report = Report {
        repair: "index",
        dry_run,
        plan: PlanView::from(&shown),
        done: None,
        affected_points: Vec::new(),
    };
    if !dry_run && !shown.is_empty() {
        if !yes {
            output::say(&text(&report));
            settings.output.confirm("Repair the index?")?;
        }
        let lock = lock(&repository, LockMode::Exclusive, settings)?;
        let prepared = plan(&repository, reading, settings, signals)?;
        if *prepared.plan() != shown {
            return Err(changed());
        }
        let progress = Shown::start(settings);
        progress.phase("repairing the index");
        let done = prepared.execute(&repository, &lock, progress.counters(), &signals.cancel)?;
        report.done = Some(Done::from(&done));
    }
    // Before a repair nobody can tell: the index does not know what it lacks.
    let may_lose = !shown.missing.is_empty() || !shown.damaged.is_empty();
    if report.done.is_some() && may_lose {
        report.affected_points = affected(&repository, settings, signals)?;
    }
    let is_partly = report.done.as_ref().is_some_and(|done| {
        done.indexes_kept > 0 || done.blobs_lost > 0 || !report.affected_points.is_empty()
    });
    let status = if is_partly {
        ExitStatus::Incomplete
    } else {
        ExitStatus::Success
    };
    settings
        .output
        .report("repair", status, &report, || text(&report))
}

fn plan(
    repository: &Repository,
    reading: HeaderReading,
    settings: &Settings,
    signals: &Signals,
) -> Result<PreparedIndexRepair, CommandError> {
    let progress = Shown::start(settings);
    progress.phase("comparing the index with the packs");
    let counters = progress.counters();
    Ok(plan_index_repair(
        repository,
        reading,
        counters,
        &signals.cancel,
    )?)
}

fn text(report: &Report) -> String {
    let plan = &report.plan;
    let mut text = String::new();
    let mut line = |count: usize, one: &str, what: &str| {
        if count > 0 {
            text.push_str(&format!("{} {what}\n", table::count(count as u64, one)));
        }
    };
    line(
        plan.unreadable_indexes.len(),
        "index file",
        "unreadable: to go",
    );
    line(
        plan.missing_packs.len(),
        "pack",
        "missing: to leave the index",
    );
    line(
        plan.damaged_packs.len(),
        "pack",
        "without a readable header: to leave the index, what is undamaged is saved first",
    );
    line(
        plan.corrected_packs.len(),
        "pack",
        "of which the index is wrong: the header counts",
    );
    line(plan.added_packs.len(), "pack", "in no index: to be added");
    line(
        plan.ignored_packs.len(),
        "pack",
        "in no index and unreadable: stays until a prune",
    );
    line(
        plan.repeated_packs.len(),
        "pack",
        "in several indexes: to be listed once",
    );
    match &report.done {
        Some(done) => text.push_str(&format!(
            "wrote {}, deleted {}, saved {}, lost {}\n",
            table::count(done.indexes_written, "index file"),
            table::count(done.indexes_deleted, "index file"),
            table::count(done.blobs_saved, "blob"),
            table::count(done.blobs_lost as u64, "blob"),
        )),
        None if text.is_empty() => text.push_str("the index is as it should be\n"),
        None => {}
    }
    text.push_str(&affected_text(&report.affected_points));
    text
}
