//! `refloat repair packs`.
//!
//! Invariant: a damaged pack is deleted only after what is undamaged in it is in another.

use std::collections::BTreeSet;

use refloat_model::progress::Progress as _;
use refloat_repository::check::{self, CheckFinding, CheckOptions, ReadData};
use refloat_repository::lock::LockMode;
use refloat_repository::repair::{PackRepairReport, repair_packs};
use refloat_repository::{PackId, Repository};
use serde::Serialize;

use super::{Carrying, affected, affected_text, lock};
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
    /// The packs, by their whole ids; without any, all data is read to find the damaged ones
    #[arg(value_name = "PACK")]
    packs: Vec<PackId>,
    #[command(flatten)]
    carrying: Carrying,
}

#[derive(Serialize)]
struct Report {
    repair: &'static str,
    dry_run: bool,
    /// Packs to be repaired.
    packs: Vec<String>,
    /// Packs that cannot be read now and were not named: they are left alone.
    unread: Vec<String>,
    /// None if nothing was carried out.
    done: Option<Done>,
    /// Snapshots that need what is lost.
    affected_points: Vec<String>,
}

#[derive(Serialize)]
struct Done {
    packs: Vec<Salvaged>,
    /// Packs that were not damaged and were left alone.
    sound: Vec<String>,
    packs_written: u64,
    /// Damaged packs that are kept, by storage, or since part of them cannot be read now; no index names them any
    /// more.
    kept: Vec<String>,
    /// Packs of which nothing can be read now; they were left alone.
    withheld: Vec<Withheld>,
}

#[derive(Serialize)]
struct Withheld {
    pack: String,
    reason: String,
}

#[derive(Serialize)]
struct Salvaged {
    pack: String,
    saved: u64,
    lost: Vec<String>,
    /// Bytes of it that cannot be read now.
    withheld_bytes: u64,
}

impl Done {
    fn has_lost(&self) -> bool {
        self.packs.iter().any(|pack| !pack.lost.is_empty())
    }
}

impl From<PackRepairReport> for Done {
    fn from(report: PackRepairReport) -> Self {
        let salvaged = report.salvaged.into_iter().map(|pack| Salvaged {
            pack: pack.pack.to_string(),
            saved: pack.saved,
            lost: pack.lost.iter().map(|(_, blob)| blob.to_string()).collect(),
            withheld_bytes: pack.withheld_bytes,
        });
        let withheld = report.withheld.into_iter().map(|(pack, reason)| Withheld {
            pack: pack.to_string(),
            reason,
        });
        Self {
            packs: salvaged.collect(),
            sound: report.sound.iter().map(ToString::to_string).collect(),
            packs_written: report.packs_written,
            kept: report.kept.iter().map(ToString::to_string).collect(),
            withheld: withheld.collect(),
        }
    }
}

pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open_uncached(settings)?;
    let (packs, unread) = if args.packs.is_empty() {
        let _lock = repository::lock_for_reading(&repository, settings)?;
        damaged(&repository, settings, signals)?
    } else {
        (args.packs.iter().copied().collect(), BTreeSet::new())
    };
    let Carrying { dry_run, yes } = args.carrying;
    let mut report = Report {
        repair: "packs",
        dry_run,
        packs: packs.iter().map(ToString::to_string).collect(),
        unread: unread.iter().map(ToString::to_string).collect(),
        done: None,
        affected_points: Vec::new(),
    };
    if !dry_run && !packs.is_empty() {
        if !yes {
            output::say(&text(&report));
            settings.output.confirm("Repair these packs?")?;
        }
        // Each pack is looked at again under the lock; one that is sound is left alone.
        let lock = lock(&repository, LockMode::Exclusive, settings)?;
        let progress = Shown::start(settings);
        progress.phase("saving what is undamaged");
        let packs: Vec<PackId> = packs.into_iter().collect();
        let (counters, cancel) = (progress.counters(), &signals.cancel);
        let done = repair_packs(&repository, &lock, &packs, counters, cancel)?;
        report.done = Some(done.into());
    }
    if report.done.as_ref().is_some_and(Done::has_lost) {
        report.affected_points = affected(&repository, settings, signals)?;
    }
    let is_partly = !report.unread.is_empty()
        || report.done.as_ref().is_some_and(|done| {
            !done.kept.is_empty() || !done.withheld.is_empty() || done.has_lost()
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

/// The packs that a check of all data finds damaged, and those that cannot be read now.
fn damaged(
    repository: &Repository,
    settings: &Settings,
    signals: &Signals,
) -> Result<(BTreeSet<PackId>, BTreeSet<PackId>), CommandError> {
    let progress = Shown::start(settings);
    progress.phase("reading all data");
    let options = CheckOptions {
        read_data: ReadData::All,
    };
    let report = check::check(repository, &options, progress.counters(), &signals.cancel)?;
    let (mut packs, mut unread) = (BTreeSet::new(), BTreeSet::new());
    for finding in report.errors() {
        match finding {
            // It may be whole.
            CheckFinding::DamagedPack { pack, .. } if finding.is_withheld() => unread.insert(*pack),
            CheckFinding::DamagedPack { pack, .. }
            | CheckFinding::PackSize { pack, .. }
            | CheckFinding::IndexMismatch { pack, .. } => packs.insert(*pack),
            _ => false,
        };
    }
    unread.retain(|pack| !packs.contains(pack));
    Ok((packs, unread))
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for pack in &report.unread {
        text.push_str(&format!(
            "pack {pack} cannot be read now and is left alone; name it to save what can be read of it\n"
        ));
    }
    let Some(done) = &report.done else {
        if report.packs.is_empty() {
            text.push_str("no pack that can be read is damaged\n");
            return text;
        }
        text.push_str("what is undamaged in these packs is saved into new ones:\n");
        for pack in &report.packs {
            text.push_str(&format!("  {pack}\n"));
        }
        return text;
    };
    for pack in &done.packs {
        text.push_str(&format!(
            "pack {}: saved {}, lost {}{}\n",
            pack.pack.get(..8).unwrap_or_default(),
            table::count(pack.saved, "blob"),
            table::count(pack.lost.len() as u64, "blob"),
            match pack.withheld_bytes {
                0 => String::new(),
                bytes => format!(", {} cannot be read", table::bytes(bytes)),
            },
        ));
    }
    for pack in &done.sound {
        text.push_str(&format!("pack {pack} is not damaged\n"));
    }
    for Withheld { pack, reason } in &done.withheld {
        text.push_str(&format!(
            "pack {pack} is left alone, since nothing of it can be read: {}\n",
            table::printable(reason)
        ));
    }
    for pack in &done.kept {
        text.push_str(&format!("pack {pack} is kept, and no index names it\n"));
    }
    if done.packs.iter().any(|pack| pack.withheld_bytes > 0) {
        text.push_str(
            "what could not be read is still in its pack: copy that file away, or run `refloat repair index` \
             once the disk gives it; `refloat prune` deletes it when no point needs it any more\n",
        );
    }
    text.push_str(&affected_text(&report.affected_points));
    text
}
