//! `refloat show`.
//!
//! Invariant: what is missing is never folded away; what is captured may be counted only.

use std::fmt::Write as _;

use refloat_engine::backup::is_complete;
use refloat_engine::manifest;
use refloat_engine::point_list::{PointSelector, PointSummary};
use refloat_model::closure::{ReferenceState, WorkloadClosure};
use refloat_model::item::Placement;
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::subject::SubjectKind;
use serde::Serialize;

use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::output::Verbosity;
use crate::point::{self, OpenPoint};
use crate::settings::Settings;
use crate::table::{self, printable};

/// Show what a recovery point holds, by workload: captured, waived or MISSING
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The point: latest, latest@POLICY, an id, a time
    point: String,
    /// Only this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Also what ran where
    #[arg(long)]
    placement: bool,
}

#[derive(Serialize)]
struct Report {
    point: PointSummary,
    /// Whether everything that the point should hold is in it; none for another program's.
    complete: Option<bool>,
    record: Option<PointRecord>,
    sources: Vec<SourceView>,
}

#[derive(Serialize)]
struct SourceView {
    source: String,
    items: Vec<ItemRecord>,
    placements: Vec<Placement>,
}

/// Shows the point.
pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let selector: PointSelector = args.point.parse()?;
    let open = point::open(settings, &selector)?;
    let report = report(args, open)?;
    let verbose = settings.output.verbosity == Verbosity::Verbose;
    settings
        .output
        .result("show", ExitStatus::Success, &report, || {
            text(&report, args.placement || verbose)
        })
}

fn report(args: &Args, open: OpenPoint) -> Result<Report, CommandError> {
    let wanted = |workload: Option<&str>| {
        args.workload
            .as_deref()
            .is_none_or(|wanted| workload == Some(wanted))
    };
    let mut sources = Vec::new();
    for source in open.record.iter().flat_map(|r| r.sources.keys()) {
        let mut items = manifest::read_items(&open.tree, source)?;
        items.retain(|r| wanted(r.item.workload.as_deref()));
        let mut placements = manifest::read_placements(&open.tree, source)?;
        placements.retain(|p| wanted(Some(&p.workload)));
        sources.push(SourceView {
            source: source.clone(),
            items,
            placements,
        });
    }
    // What a repair left of a point is not all of it, whatever its record says.
    let repaired = open.is_repaired();
    let complete = open
        .record
        .as_ref()
        .map(|record| is_complete(record) && !repaired);
    let mut record = open.record;
    if let Some(record) = &mut record {
        record.closure.retain(|c| wanted(Some(&c.workload)));
    }
    Ok(Report {
        point: open.summary,
        complete,
        record,
        sources,
    })
}

fn text(report: &Report, with_placements: bool) -> String {
    let Some(record) = &report.record else {
        let point = &report.point;
        return format!(
            "snapshot {} of another program, {} UTC, host {}, paths {}\n",
            point.snapshot.short(),
            table::time(point.time),
            printable(&point.host),
            printable(&point.paths.join(" "))
        );
    };
    let mut text = heading(report, record);
    if !record.closure.is_empty() {
        text.push('\n');
        record
            .closure
            .iter()
            .for_each(|closure| workload(&mut text, closure));
    }
    for source in &report.sources {
        text.push('\n');
        text.push_str(&items(source));
        if with_placements && !source.placements.is_empty() {
            text.push('\n');
            text.push_str(&placements(source));
        }
    }
    if !record.findings.is_empty() {
        text.push('\n');
    }
    for finding in &record.findings {
        let word = format!("{:?}", finding.severity).to_lowercase();
        let line = format!("{word}: {}: {}", finding.subject, finding.message);
        text.push_str(&printable(&line));
        text.push('\n');
    }
    text
}

fn heading(report: &Report, record: &PointRecord) -> String {
    let length = record
        .finished
        .to_jiff()
        .duration_since(record.started.to_jiff());
    let state = if report.complete == Some(true) {
        "complete"
    } else {
        "INCOMPLETE"
    };
    let mut text = format!(
        "point     {} ({state})\npolicy    {}\ntaken     {} UTC on {}, in {}, by {}\n",
        record.id,
        record.policy,
        table::time(record.started),
        printable(&report.point.host),
        table::duration(std::time::Duration::try_from(length).unwrap_or_default()),
        record.program,
    );
    for (name, source) in &record.sources {
        let address = printable(&source.address);
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "source    {name}: {} {address}", source.kind);
    }
    text
}

/// One workload's closure: what is captured is counted, the rest is named.
pub fn workload(text: &mut String, closure: &WorkloadClosure) {
    let mut captured = 0_u64;
    let mut lines = String::new();
    for reference in &closure.references {
        let subject = printable(&reference.subject.to_string());
        let _infallible = match &reference.state {
            ReferenceState::Captured { from } => {
                captured += 1;
                match reference.subject.kind {
                    SubjectKind::Image if !from.is_empty() => {
                        writeln!(lines, "  in {}  {subject}", printable(&from.join(", ")))
                    }
                    _ => Ok(()),
                }
            }
            ReferenceState::Waived { who, why, until } => {
                let day = until.to_jiff().strftime("%Y-%m-%d");
                let by = printable(&format!("{who}: {why}"));
                writeln!(lines, "  waived   {subject} until {day} by {by}")
            }
            ReferenceState::Missing { why } => {
                writeln!(lines, "  MISSING  {subject}: {}", printable(why))
            }
        };
    }
    let name = printable(&closure.workload);
    let references = table::count(captured, "reference");
    let _infallible = writeln!(text, "{name} ({}): {references} captured", closure.source);
    text.push_str(&lines);
}

fn items(source: &SourceView) -> String {
    let rows = source.items.iter().map(|record| {
        let consistency = record
            .consistency
            .map_or_else(String::new, |c| format!("{c:?}").to_lowercase());
        [
            record
                .item
                .workload
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
            record.item.kind.word().to_owned(),
            record.item.title.clone(),
            outcome(&record.outcome),
            consistency,
            record.files.to_string(),
            table::bytes(record.bytes),
        ]
    });
    table::table(
        [
            "workload",
            "kind",
            "item",
            "outcome",
            "consistency",
            "files",
            "size",
        ],
        rows,
    )
}

/// An outcome in one cell.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Saved => "saved".to_owned(),
        Outcome::Partial {
            missing,
            missing_count,
        } => {
            let first = missing.first().map(String::as_str).unwrap_or_default();
            format!("partial: {missing_count} missing, {first}")
        }
        Outcome::Skipped { rule, why } => format!("skipped: {rule}: {why}"),
        Outcome::Failed { reason } => format!("failed: {reason}"),
    }
}

fn placements(source: &SourceView) -> String {
    let rows = source.placements.iter().map(|p| {
        [
            p.workload.clone(),
            p.container.clone(),
            p.node.clone(),
            p.image.clone(),
            p.state.clone(),
            p.mounts.join(" "),
        ]
    });
    table::table(
        ["workload", "container", "node", "image", "state", "mounts"],
        rows,
    )
}
