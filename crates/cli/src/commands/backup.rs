//! `refloat backup`.
//!
//! Invariant: exit code 0 means that everything the policies select is in a recovery point.

mod copies;

use std::fmt::Write as _;
use std::panic::resume_unwind;

use clap::builder::NonEmptyStringValueParser;
use refloat_engine::backup::{
    self, BackupOptions, BackupPlan, BackupPolicy, BackupReport, BackupRun, Discovery, Selection,
    is_complete,
};
use refloat_engine::config::PolicyConfig;
use refloat_engine::period::Period;
use refloat_engine::point_list::{AD_HOC_POLICY, is_reserved};
use refloat_model::cancel::Cancel;
use refloat_model::finding::{Finding, Severity};
use refloat_model::id::{PointId, RunId};
use refloat_model::time::Timestamp;
use refloat_repository::IndexedRepository;
use refloat_repository::archive::ArchiveOptions;
use refloat_repository::codec::Compression;
use refloat_repository::lock::{Lock, LockMode};
use serde::Serialize;

use copies::Copies;

use super::show;
use crate::command_error::{CommandError, one_line};
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::output::Output;
use crate::progress::Shown;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::{self, Connected, Declared, Purpose, SourceArgs};
use crate::table::{self, printable};

/// Workloads that are captured at once: one waits for its application while another is read.
const CAPTURES_AT_ONCE: usize = 4;

/// Make a recovery point of each policy, or of the sources that are named
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policies of refloat.yaml; all if none is named
    #[arg(value_name = "POLICY", conflicts_with = "source")]
    policies: Vec<String>,
    #[command(flatten)]
    sources: SourceArgs,
    /// The host's name in the point; constant, so that points can be told apart by it
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    host: Option<String>,
    /// Mark the point; --keep-tag of forget keeps it
    #[arg(long = "tag", value_name = "TAG", value_parser = parse_tag)]
    tags: Vec<String>,
    /// What is not finished after this time is named as failed: 90m, 2h
    #[arg(long, value_name = "PERIOD")]
    deadline: Option<Period>,
    /// Record after this time, and less and less often from then on, what was downloaded by digest,
    /// so that a run that is killed is taken up by the next one
    #[arg(long, value_name = "PERIOD", default_value = "5m")]
    checkpoint_every: Period,
    /// Read files even if their size, times and inode did not change
    #[arg(long)]
    read_unchanged: bool,
    /// How hard to compress
    #[arg(long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum CompressionArg {
    Off,
    #[default]
    Auto,
    Max,
}

/// A point with a tag of the engine's would be taken for something else, or for none.
fn parse_tag(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a tag has at least one character".to_owned());
    }
    if is_reserved(text) {
        return Err("Refloat sets such tags itself".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Default, Serialize)]
struct Report {
    /// The points that were made.
    points: Vec<PointView>,
    /// Policies of which none could be made.
    failed: Vec<FailedPolicy>,
    #[serde(flatten)]
    copies: Copies,
}

#[derive(Serialize)]
struct PointView {
    /// Whether everything that the policy selects is in it.
    complete: bool,
    #[serde(flatten)]
    report: BackupReport,
}

#[derive(Serialize)]
struct FailedPolicy {
    policy: String,
    error: CommandError,
}

#[derive(Serialize)]
struct PlanReport {
    plans: Vec<PlanView>,
}

#[derive(Serialize)]
struct PlanView {
    policy: String,
    captures: Vec<refloat_model::item::Item>,
    skipped: Vec<refloat_model::item::Item>,
    findings: Vec<Finding>,
}

/// A policy and what it is executed with.
struct Wanted {
    policy: BackupPolicy,
    deadline: Option<Period>,
    sources: Vec<Declared>,
    /// Names of repositories that the points are copied to.
    copy_to: Vec<String>,
}

/// Runs the policies one after the other.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let wanted = wanted(args, settings)?;
    if args.dry_run {
        return dry_run(args, &wanted, settings, signals);
    }
    let mut report = Report::default();
    for wanted in &wanted {
        if let Err(stopped) = run_and_copy(args, wanted, settings, signals, &mut report) {
            // Of the policies before it nothing else will be said.
            tell(&report, settings.output);
            return Err(stopped);
        }
    }
    if report.points.is_empty()
        && let Some(failed) = report.failed.pop_if(|_| true)
    {
        report
            .failed
            .iter()
            .for_each(|f| settings.output.error_text(&f.error));
        return Err(failed.error);
    }
    let all = report.failed.is_empty()
        && report.copies.are_complete()
        && report.points.iter().all(|p| p.complete);
    let status = if all {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    tell(&report, settings.output);
    settings.output.report("backup", status, &report, || {
        let points: Vec<String> = report.points.iter().map(summary).collect();
        format!("{}{}", points.join("\n"), report.copies.text())
    })
}

/// Runs one policy and copies what it came to; an error only if the command was asked to stop.
fn run_and_copy(
    args: &Args,
    wanted: &Wanted,
    settings: &Settings,
    signals: &Signals,
    report: &mut Report,
) -> Result<(), CommandError> {
    let policy = &wanted.policy.name;
    let failed = |error| FailedPolicy {
        policy: policy.clone(),
        error,
    };
    match run_policy(args, wanted, settings, signals) {
        Ok((made, not_noted)) => {
            let hint = "the point itself is saved; refloat audit --accept records it";
            let not_noted = not_noted.map(|error| failed(error.hint(hint)));
            report.failed.extend(not_noted);
            report.points.push(PointView {
                complete: is_complete(&made.record),
                report: made,
            });
            let copies = &mut report.copies;
            copies.update(policy, &wanted.copy_to, settings, signals)
        }
        Err(error) if signals.cancel.is_cancelled() => Err(error),
        Err(error) => {
            report.failed.push(failed(error));
            Ok(())
        }
    }
}

fn wanted(args: &Args, settings: &Settings) -> Result<Vec<Wanted>, CommandError> {
    let declared = sources::declared(&args.sources, settings.config.as_ref())?;
    if args.sources.is_given() {
        let select = declared
            .iter()
            .map(|d| Selection {
                source: d.name.clone(),
                workloads: Vec::new(),
            })
            .collect();
        let policy = BackupPolicy {
            name: AD_HOC_POLICY.to_owned(),
            select,
            waivers: Vec::new(),
        };
        return Ok(vec![Wanted {
            policy,
            deadline: args.deadline.clone(),
            sources: declared,
            copy_to: Vec::new(),
        }]);
    }
    let policies = settings.policies(&args.policies)?;
    let of = |(name, config): (&String, &PolicyConfig)| Wanted {
        policy: policy(name, config),
        deadline: args.deadline.clone().or_else(|| config.deadline.clone()),
        sources: selected(&declared, config),
        copy_to: config.copy_to.iter().map(|c| c.value.clone()).collect(),
    };
    Ok(policies.into_iter().map(of).collect())
}

/// The sources that a policy selects, each with what it selects of it.
pub fn selected(declared: &[Declared], config: &PolicyConfig) -> Vec<Declared> {
    let selected = declared.iter().filter_map(|d| {
        let select = config.select.iter().find(|s| s.source.value == d.name)?;
        Some(Declared {
            namespaces: select.namespaces.clone(),
            ..d.clone()
        })
    });
    selected.collect()
}

/// What a policy wants.
pub fn policy(name: &str, config: &PolicyConfig) -> BackupPolicy {
    let select = config.select.iter().map(|s| Selection {
        source: s.source.value.clone(),
        workloads: s.workloads.clone(),
    });
    BackupPolicy {
        name: name.to_owned(),
        select: select.collect(),
        waivers: config.waive.iter().map(Into::into).collect(),
    }
}

/// The plan of one policy, and sources that could not be reached.
fn plan(
    wanted: &Wanted,
    connected: &mut Connected,
    cancel: &Cancel,
) -> Result<(BackupPlan, Vec<Finding>), CommandError> {
    let Discovery { found, unreachable } = connected.discover(&wanted.policy.select, cancel)?;
    let unreachable = unreachable
        .iter()
        .map(|(name, error)| Finding::error(format!("source {name}"), one_line(error)));
    Ok((backup::plan(&wanted.policy, found), unreachable.collect()))
}

/// The point that was made, and why the ledger could not record it.
fn run_policy(
    args: &Args,
    wanted: &Wanted,
    settings: &Settings,
    signals: &Signals,
) -> Result<(BackupReport, Option<CommandError>), CommandError> {
    let began = Timestamp::from(jiff::Timestamp::now());
    let run = RunId::from_random(random::bytes()?);
    let plain_tcp = args.sources.access.plain_tcp();
    let mut connected = Connected::to(&wanted.sources, plain_tcp, Purpose::Capture)?;
    let looking = signals.cancel.below();
    // Neither the repository nor the sources wait for the other.
    let (opened, planned) = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let opened = open(settings, run);
            opened.inspect_err(|_refused| looking.cancel())
        });
        let planned = plan(wanted, &mut connected, &looking);
        let opened = opening.join();
        (opened.unwrap_or_else(|panic| resume_unwind(panic)), planned)
    });
    let (repository, lock) = opened?;
    let (plan, unreachable) = planned?;
    let progress = Shown::start(settings);
    let options = BackupOptions {
        point: PointId::from_random(random::bytes()?),
        run,
        host: args.host.clone().unwrap_or_else(repository::machine_host),
        program: concat!("refloat ", env!("CARGO_PKG_VERSION")).to_owned(),
        tags: args.tags.clone(),
        deadline: wanted.deadline.clone(),
        began: Some(began),
        checkpoint_every: Some(args.checkpoint_every.clone()),
        captures_at_once: CAPTURES_AT_ONCE,
        archive: ArchiveOptions {
            compression: match args.compression {
                CompressionArg::Off => Compression::Off,
                CompressionArg::Auto => Compression::Auto,
                CompressionArg::Max => Compression::Max,
            },
            read_unchanged: args.read_unchanged,
            ..ArchiveOptions::default()
        },
    };
    let run = BackupRun {
        repository: &repository,
        lock: &lock,
        sources: &connected.sources,
        policy: &wanted.policy,
        options: &options,
        now: &|| Timestamp::from(jiff::Timestamp::now()),
        progress: &progress,
        cancel: &signals.cancel,
    };
    signals.set_keeps(true);
    let made = backup::execute(&run, &plan, unreachable).map(|report| {
        // The point is made, whatever becomes of the ledger.
        let noted = ledger::note(&repository, settings, "backup", &Changes::default());
        (report, noted.err())
    });
    signals.set_keeps(false);
    Ok(made?)
}

/// Opens the repository and locks it for a run.
fn open(settings: &Settings, run: RunId) -> Result<(IndexedRepository, Lock), CommandError> {
    let opened = repository::open(settings)?;
    let lock = repository::lock(&opened, LockMode::Shared, run, settings)?;
    let forged = repository::passed_over(&lock);
    settings.output.findings(forged.as_slice());
    Ok((repository::indexed(opened, settings)?, lock))
}

fn dry_run(
    args: &Args,
    wanted: &[Wanted],
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let mut plans = Vec::new();
    for wanted in wanted {
        let plain_tcp = args.sources.access.plain_tcp();
        let mut connected = Connected::to(&wanted.sources, plain_tcp, Purpose::Look)?;
        let (plan, findings) = plan(wanted, &mut connected, &signals.cancel)?;
        settings.output.findings(&findings);
        let settled = plan.sources.iter().flat_map(|s| &s.settled);
        plans.push(PlanView {
            policy: wanted.policy.name.clone(),
            captures: plan.items().cloned().collect(),
            skipped: settled
                .map(|(item, outcome)| {
                    let skip = Some(outcome.clone());
                    refloat_model::item::Item {
                        skip,
                        ..item.clone()
                    }
                })
                .collect(),
            findings,
        });
    }
    let report = PlanReport { plans };
    // A source out of reach is one that the plan does not tell of.
    let findings = report.plans.iter().flat_map(|plan| &plan.findings);
    let is_whole = findings
        .map(|finding| finding.severity)
        .all(|severity| severity < Severity::Error);
    let status = if is_whole {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    settings
        .output
        .result("backup", status, &report, || plan_text(&report))
}

fn plan_text(report: &PlanReport) -> String {
    let one = |plan: &PlanView| {
        let items = plan.captures.iter().chain(&plan.skipped);
        let rows = items.map(|item| {
            let what = item
                .skip
                .as_ref()
                .map_or_else(|| "save".to_owned(), show::outcome);
            [item.kind.word().to_owned(), item.title.clone(), what]
        });
        format!(
            "policy {}\n{}",
            plan.policy,
            table::table(["kind", "item", "plan"], rows)
        )
    };
    report.plans.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What a person must know even when asking for quiet: what failed and what is missing.
fn tell(report: &Report, output: Output) {
    for point in &report.points {
        output.findings(&point.report.record.findings);
        for item in point
            .report
            .items
            .iter()
            .filter(|i| i.record.outcome.is_incomplete())
        {
            let title = backup::title(&item.record.item);
            let finding = Finding::error(title, show::outcome(&item.record.outcome));
            output.findings(&[finding]);
        }
        for closure in point
            .report
            .record
            .closure
            .iter()
            .filter(|c| !c.is_closed())
        {
            let mut text = String::new();
            show::workload(&mut text, closure);
            crate::output::say(&text);
        }
    }
    report
        .failed
        .iter()
        .for_each(|f| output.error_text(&f.error));
    report.copies.tell(output);
}

fn summary(point: &PointView) -> String {
    let BackupReport {
        record, figures, ..
    } = &point.report;
    let state = if point.complete {
        "complete"
    } else {
        "INCOMPLETE"
    };
    let length = std::time::Duration::from_millis(figures.milliseconds);
    let outcomes: Vec<String> = record
        .outcomes
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let mut text = format!(
        "point {} of policy {}: {state} in {}\n",
        record.id.short(),
        printable(&record.policy),
        table::duration(length)
    );
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "  items    {}\n  files    {} new, {} changed, {} unchanged\n  content  {}, {} of it new, \
         stored as {}",
        outcomes.join(", "),
        figures.files_new,
        figures.files_changed,
        figures.files_unchanged,
        table::bytes(figures.bytes_total),
        table::bytes(figures.bytes_added),
        table::bytes(figures.bytes_stored),
    );
    text
}
