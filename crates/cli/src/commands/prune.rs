//! `refloat prune`.
//!
//! Invariant: what is deleted was shown and confirmed, but for unfinished files of writers that died
//! a day ago, which nobody can read; the exclusive lock is held for the deletion only.

use std::sync::Arc;
use std::time::Duration;

use refloat_model::finding::Finding;
use refloat_model::id::RunId;
use refloat_model::progress::Progress as _;
use refloat_repository::Repository;
use refloat_repository::lock::LockMode;
use refloat_repository::prune::{
    self, MaxUnused, PruneError, PruneLocks, PruneOptions, PrunePlan, PruneReport,
};
use serde::Serialize;

use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::output;
use crate::progress::Shown;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Reclaim the space of forgotten recovery points
///
/// Backups may go on meanwhile. Packs that no index names are deleted only when they are older
/// than a day, because a backup that runs may have written younger ones.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How much waste may stay in packs that are partly used: 5%, unlimited
    #[arg(long, value_name = "SHARE", value_parser = parse_max_unused)]
    max_unused: Option<MaxUnused>,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// No single write takes so long, by the storage's own clock: whoever made an older temporary file died.
const TEMPORARY_AFTER: Duration = Duration::from_hours(24);
/// How often a prune plans when backups end while it does, and change what was planned for.
const PLANS_MAX: u32 = 4;

/// Whether the plan is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// It is not.
    DryRun,
    /// If a person says so.
    Ask,
    /// It is; a person said so.
    Given,
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    #[serde(flatten)]
    reclaimed: &'a Reclaimed,
}

/// What was planned, and what came of it.
#[derive(Serialize)]
pub struct Reclaimed {
    plan: PrunePlan,
    /// None if nothing was carried out.
    done: Option<Done>,
    /// What writers left that died long ago; none if nothing was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporaries: Option<Temporaries>,
}

/// Temporary files that were removed.
#[derive(Serialize)]
struct Temporaries {
    files: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Done {
    packs_written: u64,
    bytes_written: u64,
    packs_deleted: u64,
    bytes_deleted: u64,
    indexes_written: u64,
    indexes_deleted: u64,
    /// Files that should be gone and that storage keeps.
    kept_by_storage: usize,
}

impl From<&PruneReport> for Done {
    fn from(report: &PruneReport) -> Self {
        Self {
            packs_written: report.packs_written,
            bytes_written: report.bytes_written,
            packs_deleted: report.packs_deleted,
            bytes_deleted: report.bytes_deleted,
            indexes_written: report.indexes_written,
            indexes_deleted: report.indexes_deleted,
            kept_by_storage: report.indexes_kept.len() + report.packs_kept.len(),
        }
    }
}

fn parse_max_unused(text: &str) -> Result<MaxUnused, String> {
    let wrong = || "write a share such as 5%, or unlimited".to_owned();
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let percent: u16 = text
        .strip_suffix('%')
        .and_then(|p| p.parse().ok())
        .filter(|p| *p <= 100)
        .ok_or_else(wrong)?;
    Ok(MaxUnused::PerMille(percent * 10))
}

/// Plans, shows, asks, deletes.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open(settings)?;
    let mut options = PruneOptions::default();
    if let Some(max_unused) = args.max_unused {
        options.max_unused = max_unused;
    }
    let consent = match (args.dry_run, args.yes) {
        (true, _) => Consent::DryRun,
        (false, true) => Consent::Given,
        (false, false) => Consent::Ask,
    };
    let reclaimed = reclaim(&repository, options, consent, settings, signals)?;
    let report = Report {
        dry_run: args.dry_run,
        reclaimed: &reclaimed,
    };
    settings
        .output
        .report("prune", reclaimed.status(), &report, || reclaimed.text())
}

/// Plans, and with consent deletes; tells what storage keeps.
///
/// # Errors
/// The repository is damaged or locked, nobody consents, or storage failed.
pub fn reclaim(
    repository: &Repository,
    options: PruneOptions,
    consent: Consent,
    settings: &Settings,
    signals: &Signals,
) -> Result<Reclaimed, CommandError> {
    let mut plans = 1;
    loop {
        match reclaim_once(repository, options, consent, settings, signals) {
            // Somebody published meanwhile. Whoever did not want to see a plan takes the next one.
            Err(Unreclaimed::Changed(_)) if consent == Consent::Given && plans < PLANS_MAX => {
                plans += 1;
            }
            Err(Unreclaimed::Changed(error)) => return Err(error.into()),
            Err(Unreclaimed::Other(error)) => return Err(error),
            Ok(reclaimed) if consent == Consent::DryRun => return Ok(reclaimed),
            Ok(reclaimed) => {
                let temporaries = remove_temporaries(settings);
                return Ok(Reclaimed {
                    temporaries,
                    ..reclaimed
                });
            }
        }
    }
}

/// Removes what writers left that died long ago, where files have other names while they are being
/// written; that it cannot be is told.
fn remove_temporaries(settings: &Settings) -> Option<Temporaries> {
    let place = settings.repository();
    let place = place.and_then(|place| place.temporaries(&settings.cancel));
    let removed = match place {
        Ok(None) => return None,
        Ok(Some(place)) => place
            .remove_stale(TEMPORARY_AFTER)
            .map_err(CommandError::from),
        Err(error) => Err(error),
    };
    match removed {
        Ok(removed) => Some(Temporaries {
            files: removed.files,
            bytes: removed.bytes,
        }),
        Err(error) => {
            let finding = Finding::warning("temporary files", error.line());
            settings.output.findings(&[finding]);
            None
        }
    }
}

/// Why nothing was reclaimed.
enum Unreclaimed {
    /// The plan was made for what is no longer there.
    Changed(PruneError),
    Other(CommandError),
}

impl From<CommandError> for Unreclaimed {
    fn from(error: CommandError) -> Self {
        Self::Other(error)
    }
}

impl From<PruneError> for Unreclaimed {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::StateChanged => Self::Changed(error),
            other => Self::Other(other.into()),
        }
    }
}

fn reclaim_once(
    repository: &Repository,
    options: PruneOptions,
    consent: Consent,
    settings: &Settings,
    signals: &Signals,
) -> Result<Reclaimed, Unreclaimed> {
    let progress = Shown::start(settings);
    progress.phase("looking for what is unused");
    let (counters, cancel) = (Arc::clone(progress.counters()), &signals.cancel);
    let now = jiff::Timestamp::now();
    let prepared = prune::plan(repository, options, now, &counters, cancel)?;
    drop(progress);
    let plan = prepared.plan().clone();
    if consent == Consent::DryRun || plan.is_empty() {
        return Ok(Reclaimed {
            plan,
            done: None,
            temporaries: None,
        });
    }
    if consent == Consent::Ask {
        output::say(&plan.to_string());
        settings.output.confirm("Reclaim this space?")?;
    }
    let run = RunId::from_random(random::bytes()?);
    let lock = |mode| repository::lock_in_time(repository, mode, run, settings);
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    let progress = Shown::start(settings);
    progress.phase("reclaiming space");
    let done = prepared.execute(repository, &locks, &counters, cancel)?;
    drop(progress);
    let done = Done::from(&done);
    settings.output.findings(&kept(&done));
    let done = Some(done);
    Ok(Reclaimed {
        plan,
        done,
        temporaries: None,
    })
}

impl Reclaimed {
    /// Incomplete if storage keeps what should be gone.
    pub fn status(&self) -> ExitStatus {
        match &self.done {
            Some(done) if done.kept_by_storage > 0 => ExitStatus::Incomplete,
            _ => ExitStatus::Success,
        }
    }

    /// For people: what was done, or else the plan.
    pub fn text(&self) -> String {
        let mut shown = self
            .done
            .as_ref()
            .map_or_else(|| self.plan.to_string(), text);
        if let Some(Temporaries { files, bytes }) = self.temporaries
            && files > 0
        {
            let files = table::count(files, "temporary file");
            let bytes = table::bytes(bytes);
            shown.push_str(&format!("removed {files} of writers that died ({bytes})\n"));
        }
        shown
    }
}

fn kept(done: &Done) -> Vec<Finding> {
    if done.kept_by_storage == 0 {
        return Vec::new();
    }
    let files = table::count(done.kept_by_storage as u64, "file");
    vec![Finding::warning(
        "storage",
        format!("keeps {files} that should be deleted"),
    )]
}

fn text(done: &Done) -> String {
    format!(
        "deleted {} ({}), wrote {} ({})\n",
        table::count(done.packs_deleted, "pack"),
        table::bytes(done.bytes_deleted),
        table::count(done.packs_written, "pack"),
        table::bytes(done.bytes_written),
    )
}
