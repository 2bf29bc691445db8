//! `refloat forget --unreadable`.
//!
//! Invariant: nothing that can be read is dropped, and each record is named by a person.

use refloat_engine::retention::{UnreadableRecord, unreadable};
use refloat_model::id::RunId;
use refloat_repository::forget::{ForgetOutcome, forget};
use refloat_repository::lock::LockMode;
use refloat_repository::{IndexedRepository, SnapshotId};
use serde::Serialize;

use super::{Args, findings};
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::output;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// The shortest prefix of an id that names a record.
const PREFIX_DIGITS_MIN: usize = 4;

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    /// Those that were named.
    unreadable: Vec<UnreadableRecord>,
    /// What is gone; none if nothing was carried out.
    dropped: Option<Vec<SnapshotId>>,
}

/// Looks, shows, asks, drops.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::indexed(repository::open_uncached(settings)?, settings)?;
    let named = named(&repository, args, signals)?;
    let mut report = Report {
        dry_run: args.dry_run,
        unreadable: named,
        dropped: None,
    };
    let mut status = ExitStatus::Success;
    if !args.dry_run {
        if !args.yes {
            output::say(&text(&report));
            settings.output.confirm("Drop what cannot be read?")?;
        }
        let kept = drop_all(&repository, &report.unreadable, args, settings, signals)?;
        if !kept.is_empty() {
            status = ExitStatus::Incomplete;
        }
        settings.output.findings(&findings(&kept));
        let ids = report.unreadable.iter().map(|record| record.snapshot);
        report.dropped = Some(ids.filter(|id| !kept.contains(id)).collect());
    }
    settings
        .output
        .report("forget", status, &report, || text(&report))
}

/// The records that the arguments name.
fn named(
    repository: &IndexedRepository,
    args: &Args,
    signals: &Signals,
) -> Result<Vec<UnreadableRecord>, CommandError> {
    let records = unreadable(repository, &signals.cancel)?;
    let mut named = Vec::new();
    for id in &args.unreadable {
        let is_prefix = id.len() >= PREFIX_DIGITS_MIN && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_prefix {
            return Err(
                CommandError::usage(format!("{id:?} is no id of a snapshot"))
                    .hint("refloat check lists what cannot be read"),
            );
        }
        let fits = |snapshot: &SnapshotId| snapshot.to_string().starts_with(id);
        let found: Vec<&UnreadableRecord> = records.iter().filter(|r| fits(&r.snapshot)).collect();
        match found.as_slice() {
            [one] => named.push((*one).clone()),
            [] => return Err(not_unreadable(repository, id)?),
            _ => {
                let message = format!("{id} fits more than one snapshot that cannot be read");
                return Err(
                    CommandError::new(ErrorKind::NotFound, message).hint("give more digits")
                );
            }
        }
    }
    named.sort_by_key(|record| record.snapshot);
    named.dedup();
    Ok(named)
}

fn not_unreadable(repository: &IndexedRepository, id: &str) -> Result<CommandError, CommandError> {
    let list = repository.snapshots()?.snapshots;
    let is_readable = list
        .iter()
        .any(|(known, _)| known.to_string().starts_with(id));
    Ok(if is_readable {
        let message = format!("snapshot {id} can be read, so it was not dropped");
        CommandError::new(ErrorKind::Refused, message).hint("refloat forget POINT drops points")
    } else {
        let message = format!("there is no unreadable snapshot {id}");
        CommandError::new(ErrorKind::NotFound, message).hint("refloat check lists them")
    })
}

/// Drops them under a lock, if they are still the same; those that storage keeps.
fn drop_all(
    repository: &IndexedRepository,
    shown: &[UnreadableRecord],
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<Vec<SnapshotId>, CommandError> {
    let run = RunId::from_random(random::bytes()?);
    let lock = repository::lock(repository, LockMode::Exclusive, run, settings)?;
    if named(&repository.renewed()?, args, signals)? != shown {
        let message = "the repository changed since the plan was made, so nothing was dropped";
        return Err(CommandError::new(ErrorKind::Refused, message).hint("run it again"));
    }
    let ids: Vec<SnapshotId> = shown.iter().map(|record| record.snapshot).collect();
    // Before anything goes: what cannot be recorded is not done.
    let changes = Changes::dropped(ids.iter().copied());
    let book = ledger::begin(repository, settings, ("forget", &changes))?;
    let ended = forget(repository, &lock, &ids);
    let outcomes = ended.as_deref().unwrap_or_default();
    let kept = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == ForgetOutcome::Kept);
    let kept: Vec<SnapshotId> = kept.map(|(snapshot, _)| *snapshot).collect();
    let dropped = ids.into_iter().filter(|id| !kept.contains(id));
    // Also of a deletion that ended half-way: what is gone by then is gone by our hand.
    let changes = Changes::dropped(dropped);
    let noted = ledger::note_in(book, repository, settings.output, ("forget", &changes));
    let _outcomes = ended?;
    noted?;
    Ok(kept)
}

fn text(report: &Report) -> String {
    let rows = report
        .unreadable
        .iter()
        .map(|record| [record.snapshot.short(), table::printable(&record.cause)]);
    let mut text = table::table(["snapshot", "cannot be read because"], rows);
    let (count, done) = match &report.dropped {
        Some(dropped) => (dropped.len(), "dropped"),
        None => (report.unreadable.len(), "would be dropped"),
    };
    text.push_str(&format!(
        "\n{} {done}\n",
        table::count(count as u64, "record")
    ));
    text
}
