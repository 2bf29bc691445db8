//! `refloat drift`.
//!
//! Invariant: nothing is changed anywhere; exit code 0 means that everything was compared and
//! nothing differs.

mod cluster;
mod comparison;
mod folder;
mod git_side;
mod report;
mod unselected;

use std::path::PathBuf;

use refloat_engine::git_export::Gaps;
use refloat_model::progress::Progress as _;

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::point::{self, OpenPoint};
use crate::progress::Shown;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::SourceArgs;
use cluster::{live_clusters, stored_clusters};
use comparison::Comparison;
use git_side::GitFolder;
use report::{Report, text};

/// Compare Kubernetes objects as they are with a recovery point, or with a Git folder, and say who
/// changed what by hand
///
/// What only the server says (managedFields, status, defaults that it fills in) does not count.
/// Values of Secrets are never shown. Exit code 4 means differences.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The point that the cluster is compared with; the newest if neither it nor --git is given
    #[arg(value_name = "POINT")]
    point: Option<String>,
    /// Compare with the objects in this folder: an export of refloat, or any folder of YAML files.
    /// Fields that are not written there count only if somebody added them by hand
    #[arg(long, value_name = "FOLDER")]
    git: Option<PathBuf>,
    /// Name objects too that the Git folder does not have, of kinds that it has
    #[arg(long, requires = "git")]
    extra: bool,
    /// Ask no cluster: compare the point with the Git folder
    #[arg(long, requires = "git", requires = "point", conflicts_with = "source")]
    offline: bool,
    /// Only what a person changed, and what is gone: nobody keeps a record of who removed it
    #[arg(long)]
    by_hand: bool,
    #[command(flatten)]
    sources: SourceArgs,
}

/// Compares.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let open = opened_point(args, settings)?;
    let mut report = Report::new(open.as_ref().and_then(|open| open.summary.id), &args.git);
    let progress = Shown::start(settings);
    let observed = if args.offline {
        stored_clusters(open.as_ref())?
    } else {
        progress.phase("looking at clusters");
        live_clusters(args, open.as_ref(), (settings, signals), &mut report)?
    };
    if observed.is_empty() && report.complete {
        return Err(
            CommandError::new(ErrorKind::NotFound, "there is no Kubernetes cluster")
                .hint("name one with --source kubernetes:CONTEXT, or in refloat.yaml"),
        );
    }
    let clusters = observed.iter().map(|cluster| cluster.name.as_str());
    let git = args
        .git
        .as_deref()
        .map(|folder| GitFolder::read(folder, clusters));
    let git = git.transpose()?;
    for cluster in &observed {
        progress.phase(&format!("comparing {}", cluster.name));
        if args.offline && !cluster.gaps.is_empty() {
            let why = "the point does not hold all of this cluster";
            report.incomplete(&cluster.name, why.to_owned());
        }
        let wanted = open.as_ref().filter(|_| !args.offline);
        if let Some(open) = wanted.filter(|open| !holds(open, &cluster.name)) {
            let point = open.summary.short();
            let why = format!("the point {point} does not hold this cluster");
            report.incomplete(&cluster.name, why);
            continue;
        }
        let mut comparison = Comparison::new(cluster, &mut report, progress.counters());
        if let Some(open) = wanted {
            comparison.with_point(open)?;
        }
        if let Some(git) = &git {
            comparison.with_git(git.side(&cluster.name), args.extra);
        }
        comparison.run(&signals.cancel)?;
    }
    drop(progress);
    if args.by_hand {
        report.only_by_hand();
    }
    settings.output.findings(&report.findings);
    let status = report.status();
    settings
        .output
        .result("drift", status, &report, || text(&report))
}

fn holds(open: &OpenPoint, cluster: &str) -> bool {
    let mut sources = open.record.iter().flat_map(|record| record.sources.keys());
    sources.any(|name| name == cluster)
}

/// What a point could not see of a cluster.
fn point_gaps(open: &OpenPoint, cluster: &str) -> Result<Gaps, CommandError> {
    let record = open.record.as_ref();
    let mut gaps = record.map_or_else(Gaps::default, |record| Gaps::of_point(record, cluster));
    for record in refloat_engine::manifest::read_items(&open.tree, cluster)? {
        gaps.add(&record.item, &record.outcome);
    }
    Ok(gaps)
}

fn opened_point(args: &Args, settings: &Settings) -> Result<Option<OpenPoint>, CommandError> {
    let text = match (&args.point, &args.git) {
        (Some(text), _) => text.as_str(),
        (None, None) => "latest",
        (None, Some(_)) => return Ok(None),
    };
    let locator = point::locator(text)?;
    if !locator.path.components().is_empty() {
        return Err(CommandError::usage(
            "a point is compared as a whole, not a path in it",
        ));
    }
    Ok(Some(point::open(settings, &locator.point)?))
}
