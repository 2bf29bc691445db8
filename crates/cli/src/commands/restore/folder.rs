//! `refloat restore … --target FOLDER`.
//!
//! Invariant: a folder that holds anything is not written into unasked, `/` and the home folder
//! not without a second flag.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use refloat_engine::folder_changes::{self, ChangeKind, FolderChanges};
use refloat_engine::folder_restore::{self, FolderItself, IntoFolder, Privileges};
use refloat_engine::point_list::Locator;
use refloat_model::finding::Finding;
use refloat_model::progress::{Counters, Progress as _};
use refloat_repository::restore::{RestoreReport, Survey};
use serde::Serialize;

use super::{Args, etcd_keys};
use crate::command_error::{CommandError, ErrorKind};
use crate::environment;
use crate::etcd_path::Inside;
use crate::exit_status::ExitStatus;
use crate::output::{self, has_errors};
use crate::point::OpenPoint;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

#[derive(Serialize)]
struct PlanView {
    point: String,
    path: String,
    target: PathBuf,
    /// Whether it was only planned.
    dry_run: bool,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    /// Directories of which cannot be read what they hold.
    unreadable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<FolderChanges>,
    /// What the point itself lacks of the path; errors are what no restore of it brings back.
    lacks: Vec<Finding>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    plan: PlanView,
    /// Whether everything is as stored, and the point lacks nothing.
    complete: bool,
    /// Entries that are as stored now.
    entries: u64,
    bytes_written: u64,
    /// Bytes that were there already.
    bytes_kept: u64,
    /// Bytes read back and compared.
    bytes_verified: u64,
    failures: Vec<Failure>,
    /// Failures in all; `failures` names the first 1,000.
    failure_count: u64,
    findings: Vec<Finding>,
    /// Whether the folder kept its own owner, mode, attributes and times.
    folder_kept: bool,
    milliseconds: u64,
}

#[derive(Serialize)]
struct Failure {
    path: String,
    reason: String,
}

/// Restores into a folder.
pub fn run(
    args: &Args,
    target: &Path,
    locator: &Locator,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let itself = check_target(args, target)?;
    let opened = repository::open(settings)?;
    let _lock = repository::lock_for_reading(&opened, settings)?;
    let open = OpenPoint::find(opened, &locator.point, settings)?;
    if let Some(inside) = Inside::through(&open, &locator.path)? {
        return etcd_keys::run(args.dry_run, target, &inside, settings);
    }
    let plan = folder_restore::plan(&open.tree, &locator.path, &signals.cancel)?;
    let mut view = view(args, target, locator, &open, plan.survey());
    settings.output.findings(&view.lacks);
    let changes = folder_changes::changes(&open.tree, &plan, target, &signals.cancel)?;
    let room = check_space(args, target, &changes);
    if args.dry_run {
        let lacks = room
            .as_ref()
            .err()
            .map(|error| Finding::error("space", error.message.clone()));
        settings.output.findings(lacks.as_slice());
        let status = match changes.blocked + changes.lost {
            0 if room.is_ok() && !has_errors(&view.lacks) => ExitStatus::Success,
            _ => ExitStatus::Incomplete,
        };
        view.changes = Some(changes);
        return settings
            .output
            .result("restore", status, &view, || plan_text(&view));
    }
    room?;
    std::fs::create_dir_all(target)
        .map_err(|e| CommandError::io("make the folder", target.display(), &e))?;
    let progress = Shown::start(settings);
    expect(progress.counters(), plan.survey());
    progress.phase(&format!("restoring into {}", target.display()));
    let begun = Instant::now();
    let counters = Arc::clone(progress.counters());
    let into = IntoFolder {
        folder: target,
        itself,
        privileges: match args.folder.with_privileges {
            true => Privileges::Restored,
            false => Privileges::LeftOut,
        },
    };
    let folder_kept = plan.has_metadata() && itself == FolderItself::Kept;
    let done = folder_restore::execute(&open.tree, plan, into, counters, &signals.cancel)?;
    drop(progress);
    let report = report(view, done, folder_kept, begun);
    let status = if report.complete {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    tell(&report, settings);
    settings
        .output
        .report("restore", status, &report, || text(&report))
}

/// Refuses folders that hold something or are too dear. What holds nothing of others has no metadata
/// of its own to keep, unless it is such a dear one.
fn check_target(args: &Args, target: &Path) -> Result<FolderItself, CommandError> {
    let failed = |e| CommandError::io("look at the folder", target.display(), &e);
    let mut entries = match std::fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(FolderItself::Restored),
        Err(e) => return Err(failed(e)),
    };
    let real = target.canonicalize().map_err(failed)?;
    let home = environment::path(&environment::HOME).and_then(|home| home.canonicalize().ok());
    let is_dear = real == Path::new("/") || Some(&real) == home.as_ref();
    if is_dear && !args.folder.into_system_folder {
        return Err(CommandError::new(
            ErrorKind::Refused,
            format!("{} is not a folder to restore into", real.display()),
        )
        .hint("restore elsewhere and move, or insist with --into-existing --into-system-folder"));
    }
    let is_empty = entries.next().is_none();
    if !is_empty && !args.folder.into_existing {
        return Err(CommandError::new(
            ErrorKind::Refused,
            format!("the folder {} is not empty", target.display()),
        )
        .hint("choose another, or use --into-existing: entries of the same names are replaced"));
    }
    let is_own = {
        let user = rustix::process::geteuid();
        let owner = std::fs::metadata(target).map_err(failed)?.uid();
        user.is_root() || user.as_raw() == owner
    };
    let is_ours = is_own && (is_empty || folder_restore::was_interrupted(target));
    Ok(match is_ours && !is_dear {
        true => FolderItself::Restored,
        false => FolderItself::Kept,
    })
}

/// Refuses what will not fit, before anything is written.
fn check_space(args: &Args, target: &Path, changes: &FolderChanges) -> Result<(), CommandError> {
    let needed = changes.bytes_needed;
    match folder_restore::bytes_free(target) {
        Some(free) if needed > free && !args.folder.no_space_check => Err(CommandError::new(
            ErrorKind::Refused,
            format!(
                "{} are needed in {} and {} are free",
                table::bytes(needed),
                target.display(),
                table::bytes(free)
            ),
        )
        .hint("make room, restore a part (POINT:/PATH), or go on with --no-space-check")),
        _ => Ok(()),
    }
}

fn view(
    args: &Args,
    target: &Path,
    locator: &Locator,
    open: &OpenPoint,
    survey: Survey,
) -> PlanView {
    PlanView {
        point: open.summary.short(),
        path: locator.path.to_string(),
        target: target.to_owned(),
        dry_run: args.dry_run,
        files: survey.files,
        directories: survey.directories,
        others: survey.others,
        bytes: survey.bytes,
        unreadable: survey.unreadable,
        changes: None,
        lacks: open.lacks(&locator.path),
    }
}

fn plan_text(plan: &PlanView) -> String {
    let changes = plan.changes.as_ref().map(changes_text).unwrap_or_default();
    format!(
        "{changes}would restore {} of point {} into {}:\n  {}, {}, {}, {}\n",
        table::printable(&plan.path),
        plan.point,
        plan.target.display(),
        table::count(plan.files, "file"),
        table::bytes(plan.bytes),
        match plan.directories {
            1 => "1 directory".to_owned(),
            count => format!("{count} directories"),
        },
        match plan.others {
            1 => "1 link or device".to_owned(),
            count => format!("{count} links or devices"),
        },
    )
}

fn changes_text(changes: &FolderChanges) -> String {
    let mut text = String::new();
    for change in &changes.listed {
        let word = match change.change {
            ChangeKind::Create => "create ",
            ChangeKind::Replace => "replace",
            ChangeKind::Blocked => "BLOCKED",
            ChangeKind::Lost => "LOST IN",
        };
        text.push_str(&format!("{word}  {}\n", table::printable(&change.path)));
    }
    let all = changes.created + changes.replaced + changes.blocked + changes.lost;
    let more = all.saturating_sub(changes.listed.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text.push_str(&format!(
        "{} to create, {} to replace, {} look unchanged, {} blocked by directories that are not \
         empty, none to delete\n",
        changes.created, changes.replaced, changes.unchanged, changes.blocked
    ));
    if changes.unknown > 0 {
        text.push_str(&format!(
            "{} of them may be there: their directories may not be looked into\n",
            changes.unknown
        ));
    }
    if changes.lost > 0 {
        text.push_str(&format!(
            "directories whose entries cannot be read in the repository: {}\n",
            changes.lost
        ));
    }
    text
}

fn expect(counters: &Counters, survey: Survey) {
    Counters::add(&counters.bytes_expected, survey.bytes);
    Counters::add(
        &counters.entries_expected,
        survey.files + survey.directories + survey.others,
    );
}

fn report(plan: PlanView, done: RestoreReport, folder_kept: bool, begun: Instant) -> Report {
    Report {
        complete: done.failure_count == 0 && done.findings.is_empty() && !has_errors(&plan.lacks),
        plan,
        entries: done.entries,
        bytes_written: done.bytes_written,
        bytes_kept: done.bytes_kept,
        bytes_verified: done.bytes_verified,
        failures: done
            .failures
            .into_iter()
            .map(|f| Failure {
                path: String::from_utf8_lossy(&f.path).into_owned(),
                reason: f.reason,
            })
            .collect(),
        failure_count: done.failure_count,
        findings: done.findings,
        folder_kept,
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn tell(report: &Report, settings: &Settings) {
    settings.output.findings(&report.findings);
    let left_out = |text: &str| text.ends_with(folder_restore::LEFT_OUT);
    if report.findings.iter().any(|f| left_out(&f.message))
        || report.failures.iter().any(|f| left_out(&f.reason))
    {
        output::say("hint: --with-privileges restores what is left out");
    }
    let failures = report.failures.iter();
    let failures: Vec<Finding> = failures
        .map(|f| Finding::error(f.path.clone(), f.reason.clone()))
        .collect();
    settings.output.findings(&failures);
}

fn text(report: &Report) -> String {
    let state = if report.complete {
        "complete"
    } else {
        "INCOMPLETE"
    };
    format!(
        "restored {} of point {} into {}: {state} in {}\n  {} entries, {} written, {} were there, \
         {} verified, {} failed\n{}{}",
        table::printable(&report.plan.path),
        report.plan.point,
        report.plan.target.display(),
        table::duration(std::time::Duration::from_millis(report.milliseconds)),
        report.entries,
        table::bytes(report.bytes_written),
        table::bytes(report.bytes_kept),
        table::bytes(report.bytes_verified),
        report.failure_count,
        match report.folder_kept {
            true => "  the folder itself was there and keeps its own owner, mode and times\n",
            false => "",
        },
        match has_errors(&report.plan.lacks) {
            true => "  the point itself is not whole, or not the one that is meant: see above\n",
            false => "",
        },
    )
}
