//! Recovery points as lists show them, and finding one by what people type.
//!
//! Invariant: a word that fits two points selects none of them.

use std::str::FromStr;

use refloat_model::finding::Finding;
use refloat_model::id::PointId;
use refloat_model::time::Timestamp;
use refloat_model::tree_path::{InvalidComponent, TreePath};
use refloat_repository::repair::REPAIRED_TAG;
use refloat_repository::{SnapshotFile, SnapshotId};
use serde::Serialize;

/// The shortest prefix of an id that is looked up.
const PREFIX_DIGITS_MIN: usize = 2;
/// How far in the future a point may lie, in seconds: clocks differ.
pub const AHEAD_SECONDS_MAX: i64 = 300;

/// One recovery point, or a snapshot that another program wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PointSummary {
    /// The point's identity; none for snapshots of other programs.
    pub id: Option<PointId>,
    /// The repository's record that holds it.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The policy that made it; none for snapshots of other programs.
    pub policy: Option<String>,
    /// The host that made it.
    pub host: String,
    /// What it covers, as restic shows it.
    pub paths: Vec<String>,
    /// Tags besides Refloat's own.
    pub tags: Vec<String>,
}

/// The tag that tells Refloat's snapshots from others.
pub const TAG: &str = "refloat";
/// The tag of what a run kept of items that it did not finish: no recovery point.
pub const TAG_PARTIAL: &str = "refloat-partial";
/// The tag of a point that lacks something that it should hold: its run ended with exit code 3.
pub const TAG_INCOMPLETE: &str = "incomplete";
/// `point:<id>`.
pub const TAG_POINT: &str = "point";
/// `policy:<name>`.
pub const TAG_POLICY: &str = "policy";
/// The policy of runs whose sources are named on the command line. It says nothing about what they cover: the
/// next run may be of something else.
pub const AD_HOC_POLICY: &str = "default";
/// The kind of source that is folders of this machine.
pub const FILES: &str = "files";

/// Whether a point of this time lies further in the future than clocks differ: some clock is wrong,
/// or it is forged.
#[must_use]
pub const fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.seconds > now.seconds.saturating_add(AHEAD_SECONDS_MAX)
}

/// Sorts the newest first. One of the future comes after all others: by its data it may be the oldest.
pub(crate) fn by_age(
    (id, file): &(SnapshotId, SnapshotFile),
    now: Timestamp,
) -> std::cmp::Reverse<(bool, Timestamp, SnapshotId)> {
    let time = Timestamp::from(file.time.instant());
    std::cmp::Reverse((!is_ahead(time, now), time, *id))
}

/// Whether a tag would be taken for one that the engine or a repair sets.
#[must_use]
pub fn is_reserved(tag: &str) -> bool {
    let is_of = |name: &str| tag.strip_prefix(name).is_some_and(|t| t.starts_with(':'));
    [TAG, TAG_PARTIAL, TAG_INCOMPLETE, REPAIRED_TAG].contains(&tag)
        || is_of(TAG_POINT)
        || is_of(TAG_POLICY)
}

/// Whether a snapshot is what a run kept of unfinished items, and so no recovery point.
#[must_use]
pub fn is_partial(file: &SnapshotFile) -> bool {
    file.tags().iter().any(|tag| tag == TAG_PARTIAL)
}

/// The recovery points, and snapshots of other programs, among all snapshots.
#[must_use]
pub fn summaries(snapshots: &[(SnapshotId, SnapshotFile)]) -> Vec<PointSummary> {
    let points = snapshots.iter().filter(|(_, file)| !is_partial(file));
    points
        .map(|(id, file)| PointSummary::of(*id, file))
        .collect()
}

impl PointSummary {
    /// What a snapshot's record says.
    #[must_use]
    pub fn of(snapshot: SnapshotId, file: &SnapshotFile) -> Self {
        let ours = file.tags().iter().any(|tag| tag == TAG);
        let value = |name| file.tag_value(name).filter(|_| ours);
        let is_own = |tag: &&String| {
            let named = |name: &str| tag.strip_prefix(name).is_some_and(|t| t.starts_with(':'));
            ours && (*tag == TAG || named(TAG_POINT) || named(TAG_POLICY))
        };
        Self {
            id: value(TAG_POINT).and_then(|id| id.parse().ok()),
            snapshot,
            time: file.time.instant().into(),
            policy: value(TAG_POLICY).map(str::to_owned),
            host: file.hostname.clone(),
            paths: file.paths.clone(),
            tags: file
                .tags()
                .iter()
                .filter(|tag| !is_own(tag))
                .cloned()
                .collect(),
        }
    }

    /// What people call it: the short point id, or the short snapshot id.
    #[must_use]
    pub fn short(&self) -> String {
        self.id
            .map_or_else(|| self.snapshot.short(), |id| id.short())
    }
}

/// Which point a person means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PointSelector {
    /// The newest, of one policy if it is named.
    Latest {
        /// The policy.
        policy: Option<String>,
    },
    /// The one whose point or snapshot id begins so.
    Prefix(String),
    /// The newest that is not younger than this.
    At(Timestamp),
}

/// The point that a person means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The point.
    pub point: &'a PointSummary,
    /// Points that would be newer but for their time, which is still to come.
    pub passed_over: Vec<&'a PointSummary>,
    /// When that was.
    pub now: Timestamp,
}

impl Found<'_> {
    /// That points were passed over, for people.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let newest = self.passed_over.iter().max_by_key(|point| point.time)?;
        let message = format!(
            "is of {}, and this machine's clock says {}: it was not taken for the latest; if it is, name it by its id",
            newest.time, self.now
        );
        let subject = format!("point {}", newest.short());
        Some(Finding::warning(subject, message))
    }
}

/// A point, and a path in it: `POINT[:PATH]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Locator {
    /// The point.
    pub point: PointSelector,
    /// Where in it; the root if not given.
    pub path: TreePath,
}

/// Text that names no point.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSelector {
    /// It is neither of the forms.
    #[error("{0:?} is no recovery point: not latest, latest@POLICY, an id or a time")]
    Unreadable(String),
    /// The path cannot be one.
    #[error("the path of a recovery point is not valid")]
    Path(#[source] InvalidComponent),
}

/// Why no point was found.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// Nothing fits.
    #[error("there is no recovery point {wanted}")]
    None {
        /// What was asked for.
        wanted: String,
    },
    /// The repository is empty.
    #[error("the repository holds no recovery points")]
    Empty,
    /// More than one fits.
    #[error("{wanted} fits more than one recovery point: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Ids that fit.
        candidates: Vec<String>,
    },
}

impl FromStr for PointSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if text == "latest" {
            return Ok(Self::Latest { policy: None });
        }
        if let Some(policy) = text.strip_prefix("latest@").filter(|p| !p.is_empty()) {
            return Ok(Self::Latest {
                policy: Some(policy.to_owned()),
            });
        }
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && (PREFIX_DIGITS_MIN..=64).contains(&text.len()) {
            return Ok(Self::Prefix(text.to_owned()));
        }
        parse_time(text)
            .map(Self::At)
            .ok_or_else(|| InvalidSelector::Unreadable(text.to_owned()))
    }
}

/// RFC 3339, or a date with or without a time of day, in UTC. What is left out means its end: lists show whole seconds.
fn parse_time(text: &str) -> Option<Timestamp> {
    let begin = parse_begin(text)?;
    let time = text.get("2026-11-20".len()..).unwrap_or_default();
    let time = time.trim_start_matches(['T', 't', ' ']);
    let time = time.split(['Z', 'z', '+', '-']).next().unwrap_or_default();
    let more = match time.len() {
        _ if time.contains(['.', ',']) => return Some(begin),
        0 => return Some(begin),
        length if length > "12:30".len() => jiff::SignedDuration::from_secs(1),
        length if length > "12".len() => jiff::SignedDuration::from_mins(1),
        _ => jiff::SignedDuration::from_hours(1),
    };
    let end = begin
        .to_jiff()
        .checked_add(more - jiff::SignedDuration::from_nanos(1));
    Some(end.map_or(begin, Into::into))
}

/// The begin of what is meant, but of a date its end.
fn parse_begin(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    let utc = |t: jiff::civil::DateTime| t.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let zoned = if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == "2026-11-20".len()
    {
        utc(date.at(23, 59, 59, 999_999_999))
    } else {
        text.parse().ok().and_then(utc)
    };
    Some(zoned?.timestamp().into())
}

impl FromStr for Locator {
    type Err = InvalidSelector;

    /// The path begins with `/`, so that the colons of a time are not taken for its start.
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let (point, path) = match text.find(":/") {
            Some(colon) => text.split_at(colon),
            None => (text.strip_suffix(':').unwrap_or(text), ""),
        };
        Ok(Self {
            point: point.parse()?,
            path: TreePath::parse(path.strip_prefix(':').unwrap_or(path))
                .map_err(InvalidSelector::Path)?,
        })
    }
}

impl std::fmt::Display for PointSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest { policy: None } => f.write_str("latest"),
            Self::Latest {
                policy: Some(policy),
            } => write!(f, "latest@{policy}"),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::At(time) => write!(f, "at or before {time}"),
        }
    }
}

impl PointSelector {
    /// The point that is meant, out of `points` in any order.
    ///
    /// # Errors
    /// None fits, or more than one.
    pub fn find<'a>(&self, points: &'a [PointSummary]) -> Result<&'a PointSummary, SelectError> {
        if points.is_empty() {
            return Err(SelectError::Empty);
        }
        let newest = |fits: &dyn Fn(&PointSummary) -> bool| {
            points
                .iter()
                .filter(|p| fits(p))
                .max_by_key(|p| (p.time, p.snapshot))
                .ok_or_else(|| SelectError::None {
                    wanted: self.to_string(),
                })
        };
        match self {
            Self::Latest { policy: None } => newest(&|_| true),
            Self::Latest { policy } => newest(&|p| p.policy == *policy),
            Self::At(time) => newest(&|p| p.time <= *time),
            Self::Prefix(prefix) => self.find_prefix(prefix, points),
        }
    }

    /// The point that is meant at this moment: the newest is not one whose time is still to come,
    /// if there are others.
    ///
    /// # Errors
    /// None fits, or more than one.
    pub fn find_at<'a>(
        &self,
        points: &'a [PointSummary],
        now: Timestamp,
    ) -> Result<Found<'a>, SelectError> {
        let is_of = |point: &PointSummary| match self {
            Self::Latest { policy } => policy.is_none() || point.policy == *policy,
            Self::Prefix(_) | Self::At(_) => false,
        };
        let (ahead, past): (Vec<_>, Vec<_>) = points
            .iter()
            .filter(|point| is_of(point))
            .partition(|point| is_ahead(point.time, now));
        match past.into_iter().max_by_key(|p| (p.time, p.snapshot)) {
            Some(point) => Ok(Found {
                point,
                passed_over: ahead,
                now,
            }),
            None => Ok(Found {
                point: self.find(points)?,
                passed_over: Vec::new(),
                now,
            }),
        }
    }

    fn find_prefix<'a>(
        &self,
        prefix: &str,
        points: &'a [PointSummary],
    ) -> Result<&'a PointSummary, SelectError> {
        let mut fitting: Vec<&PointSummary> = points
            .iter()
            .filter(|p| {
                p.snapshot.to_string().starts_with(prefix)
                    || p.id.is_some_and(|id| id.to_string().starts_with(prefix))
            })
            .collect();
        fitting.sort_by_key(|p| std::cmp::Reverse((p.time, p.snapshot)));
        // A point that was tagged again has two records; they are the same point.
        fitting.dedup_by(|a, b| a.id.is_some() && a.id == b.id);
        match fitting.as_slice() {
            [] => Err(SelectError::None {
                wanted: self.to_string(),
            }),
            [one] => Ok(one),
            many => Err(SelectError::Ambiguous {
                wanted: prefix.to_owned(),
                candidates: many.iter().take(10).map(|p| p.short()).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
