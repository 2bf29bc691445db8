//! `refloat forget`.
//!
//! Invariant: what is dropped was shown and confirmed; if the repository changed in between,
//! nothing is.

mod unreadable;

use std::collections::BTreeMap;

use refloat_engine::config::Keep;
use refloat_engine::period::Period;
use refloat_engine::point_list::PointSelector;
use refloat_engine::retention::{self, Changes as Accepting, Circumstances, ForgetPlan};
use refloat_model::finding::Finding;
use refloat_model::id::RunId;
use refloat_model::time::Timestamp;
use refloat_repository::lock::LockMode;
use refloat_repository::prune::PruneOptions;
use refloat_repository::{IndexedRepository, SnapshotId};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind};
use crate::commands::prune::{self, Consent, Reclaimed};
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::output;
use crate::random;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::table;

/// Drop recovery points that no rule keeps, or those that are named
///
/// Rules come from the options, or else from `keep` of each policy in refloat.yaml. They are
/// applied to the points of each policy and host apart, in UTC. Whatever the rules say, the
/// newest point with a good copy of an item that is still selected stays; a point that is named
/// goes all the same, and the plan says of what no copy would be left. The space is reclaimed by
/// `refloat prune`, or at once with `--prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of points to drop, whatever rules would keep them
    #[arg(value_name = "POINT", conflicts_with_all = ["Rules", "policy"])]
    points: Vec<String>,
    /// Drop these snapshot records that cannot be read, as a damaged one keeps every prune from
    /// working; what only they refer to goes with the next prune
    #[arg(
        long,
        value_name = "SNAPSHOT",
        conflicts_with_all = ["points", "Rules", "policy", "accept_changes", "prune"]
    )]
    unreadable: Vec<String>,
    #[command(flatten)]
    rules: Rules,
    /// Only points of this policy
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// Let suspicious copies (empty, shrunk, all renamed, turned into noise) replace the ones before them; without this
    /// the last copy that was not suspicious stays
    #[arg(long)]
    accept_changes: bool,
    /// Reclaim the space afterwards, as `refloat prune` does
    #[arg(long)]
    prune: bool,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Which points stay.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which points stay")]
struct Rules {
    /// The newest N
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_last: u32,
    /// The newest of each of the last N hours that have one
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_hourly: u32,
    /// The newest of each of the last N days that have one
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_daily: u32,
    /// The newest of each of the last N weeks that have one
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_weekly: u32,
    /// The newest of each of the last N months that have one
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_monthly: u32,
    /// The newest of each of the last N years that have one
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    keep_yearly: u32,
    /// All within this time before the newest: 30d, 6mo (m is minutes)
    #[arg(long, value_name = "PERIOD")]
    keep_within: Option<Period>,
    /// All with this tag
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    kept: usize,
    /// How many points are gone, or would be.
    dropped: usize,
    /// How many unfinished snapshots are gone, or would be.
    partials_dropped: usize,
    /// What should be gone and is kept by the storage.
    kept_by_storage: Vec<SnapshotId>,
    #[serde(flatten)]
    plan: &'a ForgetPlan,
    /// What `--prune` did; with `--dry-run` it cannot be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<Reclaimed>,
}

/// Plans, shows, asks, drops.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    if !args.unreadable.is_empty() {
        return unreadable::run(args, settings, signals);
    }
    let request = Request::of(args, settings)?;
    let repository = repository::open_indexed(settings)?;
    let plan = plan(&repository, &request, signals)?;
    let dropped = plan.dropped().count();
    let mut report = Report {
        dry_run: args.dry_run,
        kept: plan.kept_count(),
        dropped,
        partials_dropped: plan.superseded().count(),
        kept_by_storage: Vec::new(),
        plan: &plan,
        prune: None,
    };
    let mut status = ExitStatus::Success;
    if !args.dry_run && dropped + plan.superseded().count() > 0 {
        if !args.yes {
            confirm(args, settings, &report)?;
        }
        let kept = execute(&repository, &request, &plan, settings, signals)?;
        if !kept.is_empty() {
            status = ExitStatus::Incomplete;
        }
        settings.output.findings(&findings(&kept));
        report.count_without(kept);
    }
    if args.prune && !args.dry_run {
        // Who agreed to the points' end agreed to that of their space.
        let consent = if args.yes || dropped > 0 {
            Consent::Given
        } else {
            Consent::Ask
        };
        let options = PruneOptions::default();
        let reclaimed = prune::reclaim(&repository, options, consent, settings, signals);
        let reclaimed = reclaimed.map_err(|error| after_forget(error, report.dropped))?;
        if reclaimed.status() != ExitStatus::Success {
            status = reclaimed.status();
        }
        report.prune = Some(reclaimed);
    }
    settings
        .output
        .report("forget", status, &report, || text(&report))
}

impl Report<'_> {
    /// Counts as dropped only what storage does not keep.
    fn count_without(&mut self, kept: Vec<SnapshotId>) {
        let is_gone = |snapshot: &SnapshotId| !kept.contains(snapshot);
        let points = self.plan.dropped().map(|point| point.snapshot);
        self.dropped = points.filter(is_gone).count();
        let partials = self.plan.superseded().map(|partial| partial.snapshot);
        self.partials_dropped = partials.filter(is_gone).count();
        self.kept_by_storage = kept;
    }
}

fn confirm(args: &Args, settings: &Settings, report: &Report<'_>) -> Result<(), CommandError> {
    let reclaiming = if args.prune {
        " and reclaim their space"
    } else {
        ""
    };
    let points = table::count(report.dropped as u64, "recovery point");
    output::say(&text(&Report {
        dry_run: true,
        kept_by_storage: Vec::new(),
        prune: None,
        ..*report
    }));
    settings
        .output
        .confirm(&format!("Drop {points}{reclaiming}?"))
}

fn findings(kept_by_storage: &[SnapshotId]) -> Vec<Finding> {
    let finding = |snapshot: &SnapshotId| {
        let subject = format!("snapshot {}", snapshot.short());
        Finding::warning(subject, "is kept by the storage and was not dropped")
    };
    kept_by_storage.iter().map(finding).collect()
}

/// An error of the prune that followed: the first half of the command is done all the same.
fn after_forget(error: CommandError, dropped: usize) -> CommandError {
    if dropped == 0 {
        return error;
    }
    error.hint("the recovery points are dropped; run refloat prune to reclaim their space")
}

fn plan(
    repository: &IndexedRepository,
    request: &Request,
    signals: &Signals,
) -> Result<ForgetPlan, CommandError> {
    let candidates = retention::load(repository, &signals.cancel)?;
    let partials = retention::load_partials(repository, &signals.cancel)?;
    let partials = retention::partials(partials, &candidates);
    let circumstances = Circumstances {
        now: Timestamp::from(jiff::Timestamp::now()),
        changes: request.changes,
    };
    let plan = match &request.wanted {
        Wanted::Points(ids) => retention::plan_named(candidates, ids)?,
        rules => retention::plan_under(candidates, circumstances, |policy| rules.of_policy(policy)),
    };
    Ok(ForgetPlan { partials, ..plan })
}

fn execute(
    repository: &IndexedRepository,
    request: &Request,
    shown: &ForgetPlan,
    settings: &Settings,
    signals: &Signals,
) -> Result<Vec<SnapshotId>, CommandError> {
    let run = RunId::from_random(random::bytes()?);
    let lock = repository::lock(repository, LockMode::Exclusive, run, settings)?;
    let now = plan(&repository.renewed()?, request, signals)?;
    if now != *shown {
        return Err(CommandError::new(
            ErrorKind::Refused,
            "the repository changed since the plan was made, so nothing was dropped",
        )
        .hint("run it again"));
    }
    // Before anything goes: what cannot be recorded is not done.
    let points = || shown.dropped().map(|point| point.snapshot);
    let partials = || shown.superseded().map(|partial| partial.snapshot);
    let changes = Changes::dropped(points().chain(partials()));
    let book = ledger::begin(repository, settings, ("forget", &changes))?;
    let ended = retention::execute(repository, &lock, shown, &signals.cancel);
    let kept = ended.as_deref().unwrap_or_default();
    let dropped = points().chain(partials()).filter(|id| !kept.contains(id));
    // Also of a deletion that ended half-way: what is gone by then is gone by our hand.
    let changes = Changes::dropped(dropped);
    let noted = ledger::note_in(book, repository, settings.output, ("forget", &changes));
    let kept = ended?;
    noted?;
    Ok(kept)
}

/// What goes, and what a person said about suspicious copies.
struct Request {
    wanted: Wanted,
    changes: Accepting,
}

impl Request {
    fn of(args: &Args, settings: &Settings) -> Result<Self, CommandError> {
        let changes = if args.accept_changes {
            Accepting::Accepted
        } else {
            Accepting::Suspicious
        };
        let wanted = Wanted::of(args, settings)?;
        Ok(Self { wanted, changes })
    }
}

/// What decides: the rules by policy, or a list.
enum Wanted {
    /// These points go.
    Points(Vec<String>),
    /// From the options, for these policies; for all if none is named.
    Options(Keep, Vec<String>),
    /// From the configuration.
    Policies(BTreeMap<String, Keep>),
}

impl Wanted {
    fn of(args: &Args, settings: &Settings) -> Result<Self, CommandError> {
        if !args.points.is_empty() {
            let is_no_id = |id: &&String| !matches!(id.parse(), Ok(PointSelector::Prefix(_)));
            if let Some(other) = args.points.iter().find(is_no_id) {
                return Err(
                    CommandError::usage(format!("{other:?} is no id of a recovery point"))
                        .hint("refloat points lists them"),
                );
            }
            return Ok(Self::Points(args.points.clone()));
        }
        let keep = Keep {
            last: args.rules.keep_last,
            hourly: args.rules.keep_hourly,
            daily: args.rules.keep_daily,
            weekly: args.rules.keep_weekly,
            monthly: args.rules.keep_monthly,
            yearly: args.rules.keep_yearly,
            within: args.rules.keep_within.clone(),
            tags: args.rules.keep_tag.clone(),
        };
        if !keep.is_empty() {
            return Ok(Self::Options(keep, args.policy.clone()));
        }
        let policies = settings.config.iter().flat_map(|c| &c.config.policies);
        let policies: BTreeMap<String, Keep> = policies
            .filter(|(name, _)| args.policy.is_empty() || args.policy.contains(name))
            .filter_map(|(name, policy)| Some((name.clone(), policy.keep.clone()?)))
            .collect();
        if policies.is_empty() {
            return Err(CommandError::usage("no rule says which points stay").hint(
                "give one, for example --keep-daily 7, or keep: in refloat.yaml; or name points",
            ));
        }
        Ok(Self::Policies(policies))
    }

    fn of_policy(&self, policy: &str) -> Option<Keep> {
        match self {
            Self::Options(keep, names) => {
                (names.is_empty() || names.iter().any(|name| name == policy)).then(|| keep.clone())
            }
            Self::Policies(policies) => policies.get(policy).cloned(),
            Self::Points(_) => None,
        }
    }
}

fn text(report: &Report<'_>) -> String {
    let mut text = String::new();
    for group in &report.plan.groups {
        let covers = match group.covers.is_empty() {
            true => String::new(),
            false => format!(": {}", table::printable(&group.covers.to_string())),
        };
        text.push_str(&format!(
            "policy {} on {}{covers}\n",
            group.policy,
            table::printable(&group.host)
        ));
        let rows = group.decisions.iter().map(|decision| {
            let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
            let verdict = if decision.is_kept() { "keep" } else { "drop" };
            [
                decision.point.short(),
                table::time(decision.point.time),
                verdict.to_owned(),
                reasons.join(", "),
            ]
        });
        text.push_str(&table::table(["point", "time (UTC)", "", "because"], rows));
        text.push('\n');
    }
    if !report.plan.unprotected.is_empty() {
        text.push_str("no other recovery point holds a good copy of\n");
        let rows = report.plan.unprotected.iter().map(|lost| {
            let (source, item) = (lost.source.clone(), lost.item.clone());
            [source, item, table::time(lost.last_copy)]
        });
        let head = ["source", "item", "last copy (UTC)"];
        text.push_str(&table::table(head, rows));
        text.push('\n');
    }
    let partials = &report.plan.partials;
    if !partials.is_empty() {
        let rows = partials.iter().map(|partial| {
            let verdict = if partial.superseded { "drop" } else { "keep" };
            [
                partial.snapshot.short(),
                table::time(partial.time),
                verdict.to_owned(),
                partial.items.join(", "),
            ]
        });
        let head = ["unfinished", "time (UTC)", "", "items"];
        text.push_str(&table::table(head, rows));
        text.push('\n');
    }
    let would = if report.dry_run { "would be " } else { "" };
    let kept = report.kept;
    text.push_str(&format!(
        "{kept} {would}kept, {} {would}dropped\n",
        report.dropped
    ));
    if !report.kept_by_storage.is_empty() {
        let count = table::count(report.kept_by_storage.len() as u64, "snapshot");
        text.push_str(&format!("{count} kept by the storage and not dropped\n"));
    }
    if let Some(reclaimed) = &report.prune {
        text.push_str(&reclaimed.text());
    }
    text
}
