//! `refloat restore … --to KIND:ADDRESS`.
//!
//! Invariant: the plan that is shown is the plan that is executed.

use std::fmt::Write as _;

use refloat_engine::point_list::PointSelector;
use refloat_engine::stored::{RepositoryPoint, folder};
use refloat_model::finding::{Finding, Severity};
use refloat_model::id::PointId;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest, StepOutcome};
use refloat_model::point::PointRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::Target;
use serde::Serialize;

use super::Args;
use super::accepted::Accepted;
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::output::{self, has_errors};
use crate::point::OpenPoint;
use crate::progress::Shown;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources;
use crate::table;

#[derive(Serialize)]
struct PlanView<'a> {
    dry_run: bool,
    executable: bool,
    point: Option<PointId>,
    request: &'a RestoreRequest,
    plan: &'a RestorePlan,
    lacks: &'a [Finding],
}

impl PlanView<'_> {
    fn show(&self, settings: &Settings) -> Result<ExitStatus, CommandError> {
        let is_whole = self.executable && !self.plan.has_conflicts() && !has_errors(self.lacks);
        let status = match is_whole {
            true => ExitStatus::Success,
            false => ExitStatus::Incomplete,
        };
        settings
            .output
            .result("restore", status, self, || plan_text(self.plan))
    }
}

#[derive(Serialize)]
struct ReportView<'a> {
    complete: bool,
    #[serde(flatten)]
    report: &'a RestoreReport,
    /// What the point itself lacks; errors are what no restore of it brings back.
    lacks: &'a [Finding],
}

/// Restores into a running system.
pub fn run(
    args: &Args,
    to: &str,
    selector: &PointSelector,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let accepted = args
        .system
        .plan
        .as_deref()
        .map(Accepted::read)
        .transpose()?;
    let request = match &accepted {
        Some(accepted) => accepted.request.clone(),
        None => args.system.request()?,
    };
    let target = match args.etcd.target(to)? {
        Some(target) => target,
        None => sources::target(to, &args.system.access, settings.config.as_ref())?,
    };
    let opened = repository::open(settings)?;
    let _lock = repository::lock_for_reading(&opened, settings)?;
    let open = OpenPoint::find(opened, selector, settings)?;
    let id = open.summary.id;
    let lacks = lacks(&open, &*target, &request);
    let point = RepositoryPoint::open(open.tree)?;
    let plan = target.plan(&point, &request)?;
    if let Some(accepted) = &accepted {
        accepted.check(id, &plan)?;
    }
    settings.output.findings(&plan.findings);
    settings.output.findings(&lacks);
    let executable = plan.is_executable();
    if args.dry_run {
        let view = PlanView {
            dry_run: true,
            executable,
            point: id,
            request: &request,
            plan: &plan,
            lacks: &lacks,
        };
        return view.show(settings);
    }
    if !executable {
        output::say(&plan_text(&plan));
        return Err(
            CommandError::new(ErrorKind::Refused, "the plan cannot be executed").hint(
                "see the conflicts above; choose with --on-conflict, --only, --as or --allow",
            ),
        );
    }
    if accepted.is_none() {
        confirm(args, &plan, settings)?;
    }
    let progress = Shown::start(settings);
    let report = target.execute(&plan, &point, &request, &progress, &signals.cancel)?;
    drop(progress);
    settings.output.findings(&report.findings);
    let complete = report.is_complete() && !has_errors(&lacks);
    let status = if complete {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    let view = ReportView {
        complete,
        report: &report,
        lacks: &lacks,
    };
    settings
        .output
        .report("restore", status, &view, || report_text(&view))
}

/// What the point lacks of what this target takes. Of what was not asked for it is no more than a warning.
fn lacks(open: &OpenPoint, target: &dyn Target, request: &RestoreRequest) -> Vec<Finding> {
    let kind = target.description().kind;
    let has_such = |record: &PointRecord| record.sources.values().any(|s| s.kind == kind);
    let place = match &open.record {
        Some(record) if has_such(record) => TreePath::root().child(folder(kind)),
        _ => TreePath::root(),
    };
    let mut lacks = open.lacks(&place);
    if !request.only.is_empty() {
        for finding in &mut lacks {
            finding.severity = finding.severity.min(Severity::Warning);
        }
    }
    lacks
}

/// Something that is replaced is gone: the plan is shown and confirmed.
fn confirm(args: &Args, plan: &RestorePlan, settings: &Settings) -> Result<(), CommandError> {
    let replaced = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Replace { .. }))
        .count();
    if replaced == 0 || args.system.yes {
        return Ok(());
    }
    output::say(&plan_text(plan));
    let question = format!("Replace {}?", table::count(replaced as u64, "object"));
    settings.output.confirm(&question)
}

fn plan_text(plan: &RestorePlan) -> String {
    let rows = plan.steps.iter().map(|step| {
        [
            step.action.word().to_owned(),
            step.kind.word().to_owned(),
            step.name.clone(),
            step.workload.clone().unwrap_or_default(),
            step.bytes.map_or_else(String::new, table::bytes),
            why(&step.action),
        ]
    });
    let steps = table::table(["action", "kind", "name", "workload", "size", "why"], rows);
    format!("plan for {}\n{steps}", table::printable(&plan.target))
}

fn why(action: &Action) -> String {
    match action {
        Action::Create | Action::Reuse => String::new(),
        Action::Skip { why } | Action::Replace { why } | Action::Conflict { why } => why.clone(),
        Action::Rename { to } => format!("as {to}"),
    }
}

/// What shows that a step was done, or why it was not to be.
fn proof(outcome: &StepOutcome) -> String {
    match &outcome.step.action {
        action @ Action::Skip { .. } if outcome.remarks.is_empty() => why(action),
        _ => outcome.remarks.join("; "),
    }
}

fn report_text(view: &ReportView<'_>) -> String {
    let report = view.report;
    let rows = report.steps.iter().map(|outcome| {
        [
            outcome.step.action.word().to_owned(),
            outcome.step.kind.word().to_owned(),
            outcome.step.name.clone(),
            outcome
                .error
                .as_ref()
                .map_or_else(|| "ok".to_owned(), |e| format!("FAILED: {e}")),
            table::duration(std::time::Duration::from_millis(outcome.milliseconds)),
            proof(outcome),
        ]
    });
    let steps = table::table(["action", "kind", "name", "outcome", "time", "proof"], rows);
    let state = match (report.is_complete(), view.complete) {
        (_, true) => "complete",
        (true, false) => {
            "INCOMPLETE: the point itself is not whole, or not the one that is meant: see above"
        }
        (false, false) => "INCOMPLETE",
    };
    let mut text = format!("{steps}restore {state}\n");
    if !report.next_steps.is_empty() {
        text.push_str("\nnow:\n");
    }
    for (number, step) in (1..).zip(&report.next_steps) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{number:>3}. {step}");
    }
    text
}
