//! `refloat points`.
//!
//! Invariant: every snapshot is listed, also those of other programs and those that cannot be
//! read.

use refloat_engine::point_list::{self, PointSummary, is_ahead};
use refloat_model::finding::Finding;
use refloat_model::time::Timestamp;
use refloat_repository::{Repository, SnapshotFile, SnapshotId, protect};
use serde::Serialize;

use crate::command_error::{CommandError, one_line};
use crate::exit_status::ExitStatus;
use crate::repository;
use crate::settings::{LoadedConfig, Settings};
use crate::signals::Signals;
use crate::table;

/// A policy is overdue when its newest point is older than this many of its periods.
const PERIODS_MISSED_MAX: u32 = 2;

/// List the recovery points, oldest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only points of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only points of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Show until when the storage keeps each point from deletion; asks for every file it needs
    #[arg(long)]
    protection: bool,
}

#[derive(Serialize)]
struct PointView {
    #[serde(flatten)]
    point: PointSummary,
    /// Until when nobody can delete any part of it; only with --protection, and null if part of
    /// it is not protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    protected_until: Option<Option<Timestamp>>,
}

#[derive(Serialize)]
struct Report {
    /// Oldest first.
    points: Vec<PointView>,
    /// Snapshots that cannot be read, and policies that are overdue.
    findings: Vec<Finding>,
}

/// Lists the points.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let repository = repository::open(settings)?;
    let list = repository.snapshots()?;
    let mut points = point_list::summaries(&list.snapshots);
    let mut findings: Vec<Finding> = list
        .unreadable
        .iter()
        .map(|(id, error)| Finding::error(format!("snapshot {}", id.short()), one_line(error)))
        .collect();
    let status = if findings.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    let now = jiff::Timestamp::now().into();
    findings.extend(of_the_future(&points, now));
    findings.extend(
        settings
            .config
            .iter()
            .flat_map(|c| overdue(c, &points, now)),
    );
    let fits = |wanted: &Option<String>, have: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| have == Some(wanted))
    };
    points.retain(|p| fits(&args.policy, p.policy.as_deref()) && fits(&args.host, Some(&p.host)));
    settings.output.findings(&findings);
    let points = view(args, (repository, list.snapshots), points, signals)?;
    let report = Report { points, findings };
    settings
        .output
        .result("points", status, &report, || text(&report.points))
}

fn view(
    args: &Args,
    (repository, mut snapshots): (Repository, Vec<(SnapshotId, SnapshotFile)>),
    points: Vec<PointSummary>,
    signals: &Signals,
) -> Result<Vec<PointView>, CommandError> {
    let mut ends = None;
    if args.protection {
        let repository = repository.into_indexed()?;
        snapshots.retain(|(id, _)| points.iter().any(|point| point.snapshot == *id));
        ends = protect::protected_until(&repository, &snapshots, &signals.cancel)?;
        ends.get_or_insert_default();
    }
    let view = |point: PointSummary| PointView {
        protected_until: ends
            .as_ref()
            .map(|ends| ends.get(&point.snapshot).copied().flatten()),
        point,
    };
    Ok(points.into_iter().map(view).collect())
}

fn text(points: &[PointView]) -> String {
    if points.is_empty() {
        return "no recovery points\n".to_owned();
    }
    let rows = points.iter().map(|PointView { point, .. }| {
        let policy = point
            .policy
            .clone()
            .unwrap_or_else(|| "(another program)".to_owned());
        let mut covers = point.paths.join(" ");
        for tag in &point.tags {
            covers.push_str(&format!(" #{tag}"));
        }
        [
            point.short(),
            table::time(point.time),
            policy,
            point.host.clone(),
            covers,
        ]
    });
    if points.iter().all(|point| point.protected_until.is_none()) {
        return table::table(["point", "time (UTC)", "policy", "host", "covers"], rows);
    }
    let rows = rows
        .zip(points)
        .map(|([point, time, policy, host, covers], view)| {
            let until = view.protected_until.flatten();
            let until = until.map_or_else(|| "not protected".to_owned(), table::time);
            [point, time, until, policy, host, covers]
        });
    let head = [
        "point",
        "time (UTC)",
        "kept until (UTC)",
        "policy",
        "host",
        "covers",
    ];
    table::table(head, rows)
}

/// Points whose time is still to come: the clock of the machine that made them was wrong.
fn of_the_future(points: &[PointSummary], now: Timestamp) -> Vec<Finding> {
    let ahead = points.iter().filter(|point| is_ahead(point.time, now));
    ahead
        .map(|point| {
            let message = format!(
                "says that it was made at {} UTC, which is still to come: a clock was or is wrong",
                table::time(point.time)
            );
            Finding::warning(format!("point {}", point.short()), message)
        })
        .collect()
}

/// Alarm on absence: policies whose newest point is too old for the period they state.
fn overdue(config: &LoadedConfig, points: &[PointSummary], now: Timestamp) -> Vec<Finding> {
    let policies = config.config.policies.iter();
    policies
        .filter_map(|(name, policy)| {
            let every = policy.every.as_ref()?;
            // One of a clock that ran ahead says nothing about when a backup was last made.
            let newest = points
                .iter()
                .filter(|p| p.policy.as_ref() == Some(name) && !is_ahead(p.time, now))
                .map(|p| p.time)
                .max();
            let Some(newest) = newest else {
                return Some(Finding::warning(
                    format!("policy {name}"),
                    format!("has no recovery point; one is due every {every}"),
                ));
            };
            let due = (0..PERIODS_MISSED_MAX).fold(newest, |time, _| every.after(time));
            (due < now).then(|| {
                Finding::warning(
                    format!("policy {name}"),
                    format!(
                        "is overdue: the newest point is of {}, one is due every {every}",
                        table::time(newest)
                    ),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use refloat_engine::config::Config;

    use super::*;

    fn point(seconds: i64) -> PointSummary {
        PointSummary {
            id: None,
            snapshot: SnapshotId([1; 32]),
            time: Timestamp {
                seconds,
                nanoseconds: 0,
            },
            policy: Some("daily".to_owned()),
            host: "h".to_owned(),
            paths: Vec::new(),
            tags: Vec::new(),
        }
    }

    #[test]
    fn a_clock_that_ran_ahead_neither_hides_nor_makes_an_absence() {
        let yaml = "repository: {url: /srv/repo, password: {file: p}}\n\
                    sources: {f: {files: {paths: [/srv]}}}\n\
                    policies: {daily: {select: [{source: f}], every: 1d}}\n";
        let config = LoadedConfig {
            config: Config::parse(yaml).unwrap(),
            base: "/".into(),
        };
        let day = 86_400;
        let now = Timestamp {
            seconds: 1_000 * day,
            nanoseconds: 0,
        };
        let told = |points: &[PointSummary]| {
            let found = of_the_future(points, now)
                .into_iter()
                .chain(overdue(&config, points, now));
            found.map(|f| f.message).collect::<Vec<_>>()
        };
        assert_eq!(told(&[point(999 * day)]), [""; 0]);
        assert_eq!(told(&[point(now.seconds + 299)]), [""; 0], "clocks differ");
        let [ahead, late] = &told(&[point(990 * day), point(5_000 * day)])[..] else {
            panic!("two findings");
        };
        assert!(
            ahead.contains("1983-09-10") && ahead.contains("still to come"),
            "{ahead}"
        );
        assert!(
            late.contains("is overdue: the newest point is of 1972-09-17"),
            "{late}"
        );
        let [_, none] = &told(&[point(5_000 * day)])[..] else {
            panic!("two findings");
        };
        assert!(none.contains("has no recovery point"), "{none}");
    }
}
