//! What a branch says of points that were exported before.
//!
//! Each exported commit names its point and clusters in trailers of its message. People copy
//! messages when they rebase, squash or pick commits; so a point that any message names is not
//! exported twice, but only an untouched commit of our own is what the next one builds on.
//!
//! Invariant: the message of a commit depends on its point alone.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::id::PointId;

use super::cluster_folder;
use crate::point_list::PointSummary;

/// Which point a commit is.
const POINT: &str = "Refloat-Point";
/// Each cluster that the commit covers.
const CLUSTER: &str = "Refloat-Cluster";
/// Each cluster that was not seen as a whole.
const INCOMPLETE: &str = "Refloat-Incomplete";
/// How many objects of the point cannot be in any commit.
const REFUSED: &str = "Refloat-Refused";
/// What was done with Secrets.
const SECRETS: &str = "Refloat-Secrets";
/// A point that says it is younger than this moment by more was made by a wrong clock: what comes
/// after it could never be exported.
const FUTURE_SECONDS_MAX: i64 = 24 * 3600;

/// A commit of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported<'a> {
    /// Its id.
    pub commit: &'a str,
    /// When it was written, in seconds.
    pub time_seconds: i64,
    /// Whether it is as we made it: nobody rebased, squashed or copied it.
    pub is_untouched: bool,
    /// Subject and body.
    pub message: &'a str,
}

/// The last export of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Last {
    /// The commit.
    pub commit: String,
    /// The point; none if the commit is not what we made of one point.
    pub point: Option<PointId>,
    /// When the point was taken.
    pub time_seconds: i64,
    /// What was done with Secrets.
    pub secrets: String,
}

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    points: BTreeSet<String>,
    /// Those that are not exported as a whole, and will never be.
    in_part: BTreeSet<String>,
    /// By folder.
    clusters: BTreeMap<String, Last>,
}

/// Why a point is not exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotExported {
    /// It was before.
    #[error("it is exported already")]
    Already,
    /// It was before, without what cannot be in a commit.
    #[error("it is exported already, without objects that cannot be in a commit")]
    InPart,
    /// It would come before what is there.
    #[error("it is older than what is exported of its cluster: history is not rewritten")]
    Older,
    /// By its own time it is not there yet.
    #[error("its time lies in the future")]
    Future,
    /// There is nothing to export.
    #[error("it holds no Kubernetes cluster")]
    NoCluster,
}

impl History {
    /// Reads the commits of a branch, newest first.
    #[must_use]
    pub fn read<'a>(commits: impl IntoIterator<Item = Exported<'a>>) -> Self {
        let mut this = Self::default();
        for commit in commits {
            let points: Vec<&str> = trailers(commit.message, POINT).collect();
            let unseen: Vec<&str> = trailers(commit.message, INCOMPLETE).collect();
            this.points.extend(points.iter().map(ToString::to_string));
            if let ([point], Some(_)) =
                (points.as_slice(), trailers(commit.message, REFUSED).next())
            {
                this.in_part.insert((*point).to_owned());
            }
            let sole = match points.as_slice() {
                [point] if commit.is_untouched => point.parse().ok(),
                _ => None,
            };
            for folder in trailers(commit.message, CLUSTER).filter(|_| !points.is_empty()) {
                let last = || Last {
                    commit: commit.commit.to_owned(),
                    point: sole.filter(|_| !unseen.contains(&folder)),
                    time_seconds: commit.time_seconds,
                    secrets: trailers(commit.message, SECRETS).collect(),
                };
                let _first = this.clusters.entry(folder.to_owned()).or_insert_with(last);
            }
        }
        this
    }

    /// Adds what was exported just now.
    pub fn add(&mut self, point: PointId, folder: String, last: Last) {
        self.points.insert(point.to_string());
        self.clusters.insert(folder, last);
    }

    /// The last export of the cluster in `folder`.
    #[must_use]
    pub fn last(&self, folder: &str) -> Option<&Last> {
        self.clusters.get(folder)
    }

    /// Whether a point can be exported, as far as its id and time tell.
    ///
    /// # Errors
    /// It cannot.
    pub fn takes(&self, point: &PointSummary, now_seconds: i64) -> Result<(), NotExported> {
        let id = point.id.map(|id| id.to_string()).unwrap_or_default();
        if self.in_part.contains(&id) {
            return Err(NotExported::InPart);
        }
        if self.points.contains(&id) {
            return Err(NotExported::Already);
        }
        if point.time.seconds > now_seconds + FUTURE_SECONDS_MAX {
            return Err(NotExported::Future);
        }
        Ok(())
    }

    /// Whether a point of these clusters comes after what is exported of any of them.
    ///
    /// # Errors
    /// There are none, or it does not.
    pub fn takes_clusters(
        &self,
        point: &PointSummary,
        clusters: &[String],
    ) -> Result<(), NotExported> {
        if clusters.is_empty() {
            return Err(NotExported::NoCluster);
        }
        let folders = clusters.iter().map(|cluster| cluster_folder(cluster));
        let mut lasts = folders.filter_map(|folder| self.clusters.get(&folder));
        if lasts.any(|last| last.time_seconds > point.time.seconds) {
            return Err(NotExported::Older);
        }
        Ok(())
    }
}

/// What a commit does not have of its point's clusters.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shortfall<'a> {
    /// Those that were not seen as a whole.
    pub incomplete: &'a [String],
    /// How many objects cannot be in a commit.
    pub refused: u64,
}

/// The message of a point's commit.
#[must_use]
pub fn message(
    point: (&PointSummary, PointId),
    clusters: &[String],
    shortfall: Shortfall<'_>,
    secrets: &str,
) -> String {
    let (summary, id) = point;
    let folders: Vec<String> = clusters.iter().map(|c| cluster_folder(c)).collect();
    let policy = escape_line(summary.policy.as_deref().unwrap_or_default());
    let mut message = format!(
        "Recovery point {} of {policy}\n\nTaken {} of {}.\n\n{POINT}: {id}\n",
        id.short(),
        summary.time,
        folders.join(", "),
    );
    for folder in &folders {
        message.push_str(&format!("{CLUSTER}: {folder}\n"));
    }
    for cluster in shortfall.incomplete {
        message.push_str(&format!("{INCOMPLETE}: {}\n", cluster_folder(cluster)));
    }
    if shortfall.refused > 0 {
        message.push_str(&format!("{REFUSED}: {}\n", shortfall.refused));
    }
    message.push_str(&format!("{SECRETS}: {secrets}\n"));
    message
}

/// A name from outside must not forge a trailer.
fn escape_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The values of a trailer in a commit's message.
fn trailers<'a>(message: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    message.lines().filter_map(move |line| {
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(": "))
            .map(str::trim_end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::time::Timestamp;

    fn summary(id: u8, seconds: i64) -> (PointSummary, PointId) {
        let id = PointId::from_random([id; 16]);
        let summary = PointSummary {
            id: Some(id),
            snapshot: refloat_repository::SnapshotId([7; 32]),
            time: Timestamp {
                seconds,
                nanoseconds: 0,
            },
            policy: Some("gold\nRefloat-Point: forged".to_owned()),
            host: String::new(),
            paths: Vec::new(),
            tags: Vec::new(),
        };
        (summary, id)
    }

    fn commit(message: &str, time_seconds: i64, is_untouched: bool) -> Exported<'_> {
        Exported {
            commit: "c",
            time_seconds,
            is_untouched,
            message,
        }
    }

    #[test]
    fn a_message_says_what_the_next_run_must_know() {
        let (point, id) = summary(1, 1000);
        let clusters = ["prod".to_owned(), "..".to_owned()];
        let unseen = Shortfall {
            incomplete: &clusters[1..],
            ..Shortfall::default()
        };
        let text = message((&point, id), &clusters, unseen, "excluded");
        assert_eq!(trailers(&text, POINT).count(), 1);
        let history = History::read([commit(&text, 1000, true)]);
        assert_eq!(history.takes(&point, 2000), Err(NotExported::Already));
        let last = history.last("prod").unwrap();
        assert_eq!((last.point, last.secrets.as_str()), (Some(id), "excluded"));
        // What was not seen as a whole is no base.
        assert_eq!(history.last("%2E.").unwrap().point, None);
        // What cannot be in a commit is not there the next time either.
        let refused = Shortfall {
            refused: 2,
            ..unseen
        };
        let text = message((&point, id), &clusters, refused, "excluded");
        let history = History::read([commit(&text, 1000, true)]);
        assert_eq!(history.takes(&point, 2000), Err(NotExported::InPart));
    }

    #[test]
    fn foreign_commits_neither_count_nor_hide_what_was_exported() {
        let (first, id) = summary(1, 1000);
        let (second, _) = summary(2, 1500);
        let clusters = ["prod".to_owned()];
        let text = message((&first, id), &clusters, Shortfall::default(), "excluded");
        let squashed = format!("all in one\n\n{text}{text}");
        for (commits, base) in [
            (
                vec![commit("readme", 9999, false), commit(&text, 1000, true)],
                Some(id),
            ),
            (vec![commit(&text, 1000, false)], None),
            (vec![commit(&squashed, 1000, true)], None),
        ] {
            let history = History::read(commits);
            assert_eq!(history.last("prod").unwrap().point, base);
            assert_eq!(history.takes(&first, 2000), Err(NotExported::Already));
            assert_eq!(history.takes(&second, 2000), Ok(()));
            assert_eq!(history.takes_clusters(&second, &clusters), Ok(()));
        }
    }

    #[test]
    fn points_come_in_the_order_of_their_clusters() {
        let (first, id) = summary(1, 1000);
        let (older, _) = summary(2, 500);
        let prod = ["prod".to_owned()];
        let text = message((&first, id), &prod, Shortfall::default(), "excluded");
        let history = History::read([commit(&text, 1000, true)]);
        let of = |cluster: &str| history.takes_clusters(&older, &[cluster.to_owned()]);
        assert_eq!(of("prod"), Err(NotExported::Older));
        assert_eq!(of("other"), Ok(()));
        assert_eq!(
            history.takes_clusters(&older, &[]),
            Err(NotExported::NoCluster)
        );
        let (future, _) = summary(3, 200_000);
        assert_eq!(history.takes(&future, 1000), Err(NotExported::Future));
    }
}
