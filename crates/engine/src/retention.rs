//! Retention: which recovery points stay, and why.
//!
//! [`load`] reads what there is, [`plan`] decides, [`execute`] deletes.
//!
//! Invariants: points of other programs are never dropped; of every item that the newest point of
//! a group that has seen the whole of the item's source still selects, the newest point that holds
//! it saved stays, however old it is. So a source that is unreachable, seen in part or gone keeps
//! its newest copies: no rule drops them.

mod coverage;
mod execute;
mod named;
mod partial;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use serde::Serialize;

use crate::backup::{EMPTY, source_title};
use crate::config::Keep;
use crate::point_list::{PointSummary, is_ahead};

pub use coverage::Coverage;
pub use execute::{execute, load, load_partials};
pub use named::{NamedError, plan_named};
pub use partial::{PartialCandidate, PartialDecision, partials};
pub use unreadable::{UnreadableRecord, unreadable};

/// What a point holds, by item.
pub type Holdings = BTreeMap<TreePath, Holding>;

/// What a point holds of one item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// The source it is of.
    pub source: String,
    /// The item's name for people.
    pub title: String,
    /// Whether all of it is there.
    pub saved: bool,
    /// Whether there is anything in it.
    pub has_data: bool,
    /// Whether the point's policy wanted it: false if a rule left it out.
    pub selected: bool,
    /// Whether it was left out because nothing is in it: a copy of nothing, until a person accepts that.
    pub is_nothing: bool,
    /// Whether the backup found it suspicious: empty, shrunk, renamed or turned into noise all at
    /// once.
    pub suspicious: bool,
}

impl Holding {
    /// What a line of the manifest of `source` says.
    #[must_use]
    pub fn of(source: &str, record: &ItemRecord) -> (TreePath, Self) {
        let (is_skipped, is_nothing) = match &record.outcome {
            Outcome::Skipped { rule, .. } => (rule != EMPTY, rule == EMPTY),
            _ => (false, false),
        };
        let holding = Self {
            source: source.to_owned(),
            title: format!("{} {}", record.item.kind.word(), record.item.title),
            saved: record.outcome.is_saved() || is_nothing,
            has_data: record.has_data() && !is_nothing,
            selected: !is_skipped,
            is_nothing,
            suspicious: false,
        };
        (record.item.path.clone(), holding)
    }
}

/// A point with what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The point.
    pub point: PointSummary,
    /// What it holds; none if its manifest cannot be read.
    pub holdings: Option<Holdings>,
    /// What it covers, if its policy does not say.
    pub coverage: Coverage,
    /// The sources of which something could not be seen: what it lacks of them may be wanted.
    pub unseen: BTreeSet<String>,
    /// The sources that the backup found to have lost most of what they held.
    pub emptied: BTreeSet<String>,
    /// Whether it is what a repair left.
    pub is_repaired: bool,
}

/// Why a point stays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// One of the newest.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// Young enough.
    Within,
    /// It carries a tag.
    Tag(String),
    /// No younger point holds these items saved.
    OnlyCopy(Vec<String>),
    /// These items looked suspicious, and nobody accepted that yet.
    Suspicious(Vec<String>),
    /// The last copies of these items before one that looked suspicious, which nobody accepted.
    BeforeChange(Vec<String>),
    /// Its time is not to come for a while: some clock is wrong, or it is forged. No rule counts it.
    Future,
    /// Nobody can tell what would be lost with it.
    Unreadable,
    /// Others were named to be dropped.
    NotNamed,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Hourly => f.write_str("hourly"),
            Self::Daily => f.write_str("daily"),
            Self::Weekly => f.write_str("weekly"),
            Self::Monthly => f.write_str("monthly"),
            Self::Yearly => f.write_str("yearly"),
            Self::Within => f.write_str("within"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Unreadable => f.write_str("its manifest cannot be read"),
            Self::NotNamed => f.write_str("not named"),
            Self::Future => f.write_str("its time is in the future: no rule counts it"),
            Self::OnlyCopy(items) => write!(f, "newest good copy{}", of(items)),
            Self::Suspicious(items) => write!(f, "suspicious copy{}, not accepted", of(items)),
            Self::BeforeChange(items) => {
                write!(f, "last copy{} before a suspicious change", of(items))
            }
        }
    }
}

fn of(items: &[String]) -> String {
    match items {
        [one] => format!(" of {one}"),
        [one, rest @ ..] => format!(" of {one} and {} more", rest.len()),
        [] => String::new(),
    }
}

/// What becomes of one point.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Decision {
    /// The point.
    #[serde(flatten)]
    pub point: PointSummary,
    /// Why it stays; empty if it is dropped.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether the point stays.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// The points of one policy and host; of runs that were told their sources on the command line, those that cover
/// the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ForgetGroup {
    /// The policy.
    pub policy: String,
    /// The host.
    pub host: String,
    /// What they cover, if the policy does not say.
    #[serde(skip_serializing_if = "Coverage::is_empty")]
    pub covers: Coverage,
    /// Every point, newest first.
    pub decisions: Vec<Decision>,
}

/// What `forget` would do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ForgetPlan {
    /// By policy and host.
    pub groups: Vec<ForgetGroup>,
    /// What no remaining point holds; only where points are dropped by name.
    pub unprotected: Vec<Unprotected>,
    /// What runs kept of items that they did not finish.
    pub partials: Vec<PartialDecision>,
}

/// Something of which the last good copy is dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Unprotected {
    /// The source.
    pub source: String,
    /// The item's name for people.
    pub item: String,
    /// When the last copy was taken.
    pub last_copy: Timestamp,
}

impl ForgetPlan {
    /// The points to be dropped.
    pub fn dropped(&self) -> impl Iterator<Item = &PointSummary> {
        self.groups
            .iter()
            .flat_map(|g| &g.decisions)
            .filter(|d| !d.is_kept())
            .map(|d| &d.point)
    }

    /// Partial snapshots that nothing needs any more.
    pub fn superseded(&self) -> impl Iterator<Item = &PartialDecision> {
        self.partials.iter().filter(|partial| partial.superseded)
    }

    /// How many points stay.
    #[must_use]
    pub fn kept_count(&self) -> usize {
        self.groups
            .iter()
            .flat_map(|g| &g.decisions)
            .filter(|d| d.is_kept())
            .count()
    }
}

/// When the plan is made, and what a person said about suspicious copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// The moment, by our clock.
    pub now: Timestamp,
    /// Whether a suspicious copy replaces the one before it.
    pub changes: Changes,
}

/// Whether a suspicious copy replaces the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Changes {
    /// It does not: the last copy that was not suspicious stays.
    #[default]
    Suspicious,
    /// A person looked and says that they are right.
    Accepted,
}

/// Decides for each policy and host, under circumstances: points of the future are counted by no rule
/// and kept, so that forged ones cannot push real ones out.
#[must_use]
pub fn plan_under(
    mut candidates: Vec<Candidate>,
    circumstances: Circumstances,
    keep: impl Fn(&str) -> Option<Keep>,
) -> ForgetPlan {
    if circumstances.changes == Changes::Accepted {
        for candidate in &mut candidates {
            candidate.emptied.clear();
            let holdings = candidate.holdings.iter_mut().flatten();
            holdings.for_each(|(_, holding)| {
                holding.suspicious = false;
                holding.saved &= !holding.is_nothing;
                holding.selected &= !holding.is_nothing;
            });
        }
    }
    let is_future = |c: &Candidate| is_ahead(c.point.time, circumstances.now);
    let (future, present): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_future);
    let mut plan = plan(present, &keep);
    for candidate in future {
        let host = candidate.point.host.clone();
        let Some(policy) = candidate.point.policy.clone() else {
            continue;
        };
        if keep(&policy).is_none_or(|keep| keep.is_empty()) {
            continue;
        }
        let decision = Decision {
            point: candidate.point,
            reasons: vec![Reason::Future],
        };
        let group = plan.groups.iter_mut();
        match group
            .into_iter()
            .find(|g| g.policy == policy && g.host == host && g.covers == candidate.coverage)
        {
            Some(group) => group.decisions.insert(0, decision),
            None => plan.groups.push(ForgetGroup {
                policy,
                host,
                covers: candidate.coverage,
                decisions: vec![decision],
            }),
        }
    }
    plan
}

/// Decides for each policy and host, and for each coverage where the policy does not say what is covered. `keep` gives the rules of a policy; a policy for which it
/// gives none keeps everything and is not part of the plan.
#[must_use]
pub fn plan(candidates: Vec<Candidate>, keep: impl Fn(&str) -> Option<Keep>) -> ForgetPlan {
    let mut groups: BTreeMap<(String, String, Coverage), Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        if let (Some(policy), Some(_)) = (&candidate.point.policy, candidate.point.id) {
            let (host, covers) = (candidate.point.host.clone(), candidate.coverage.clone());
            let group = (policy.clone(), host, covers);
            groups.entry(group).or_default().push(candidate);
        }
    }
    let groups = groups
        .into_iter()
        .filter_map(|((policy, host, covers), candidates)| {
            let keep = keep(&policy).filter(|k| !k.is_empty())?;
            let decisions = decide(candidates, &keep);
            Some(ForgetGroup {
                policy,
                host,
                covers,
                decisions,
            })
        })
        .collect();
    ForgetPlan {
        groups,
        ..ForgetPlan::default()
    }
}

fn decide(mut candidates: Vec<Candidate>, keep: &Keep) -> Vec<Decision> {
    candidates.sort_by_key(|c| std::cmp::Reverse((c.point.time, c.point.snapshot)));
    let only_copies = only_copies(&candidates);
    let mut rules = Rules::new(keep, candidates.first().map(|c| c.point.time));
    candidates
        .into_iter()
        .zip(only_copies)
        .map(|(candidate, only)| {
            let mut reasons = rules.reasons(&candidate.point);
            if candidate.holdings.is_none() {
                reasons.push(Reason::Unreadable);
            }
            if !only.newest.is_empty() {
                reasons.push(Reason::OnlyCopy(only.newest));
            }
            if !only.suspicious.is_empty() {
                reasons.push(Reason::Suspicious(only.suspicious));
            }
            if !only.before_change.is_empty() {
                reasons.push(Reason::BeforeChange(only.before_change));
            }
            Decision {
                point: candidate.point,
                reasons,
            }
        })
        .collect()
}

/// The items that a point is kept for.
#[derive(Default)]
struct OnlyCopies {
    newest: Vec<String>,
    suspicious: Vec<String>,
    before_change: Vec<String>,
}

/// The sources that had lost most of what they held by a newer point.
#[derive(Default)]
struct Emptied<'a> {
    /// Of which no point before that was met yet.
    without_last: BTreeSet<&'a str>,
    /// Of which none was met that has seen the whole source.
    without_whole: BTreeSet<&'a str>,
}

impl OnlyCopies {
    /// Adds the sources that had lost most of what they held, and those that had not yet.
    /// The last one before may have been seen in part, and lack just what was lost then: the last
    /// whole one counts as well.
    fn add_sources<'a>(&mut self, candidate: &'a Candidate, emptied: &mut Emptied<'a>) {
        let holdings = candidate.holdings.iter().flat_map(Holdings::values);
        let saved = holdings.filter(|holding| holding.saved);
        let sources: BTreeSet<&str> = saved.map(|holding| holding.source.as_str()).collect();
        for source in sources
            .into_iter()
            .filter(|s| !candidate.emptied.contains(*s))
        {
            let is_last = emptied.without_last.remove(source);
            let is_whole = !candidate.unseen.contains(source);
            if (is_whole && emptied.without_whole.remove(source)) || is_last {
                self.before_change.push(source_title(source));
            }
        }
        for source in &candidate.emptied {
            emptied.without_last.insert(source);
            emptied.without_whole.insert(source);
            self.suspicious.push(source_title(source));
        }
    }
}

/// For each point, newest first, the still selected items of which it holds the newest good copy.
///
/// An empty or otherwise suspicious copy does not replace one with data: it may be the accident to
/// recover from.
fn only_copies(newest_first: &[Candidate]) -> Vec<OnlyCopies> {
    let selected = still_selected(newest_first);
    let (mut wanted, mut empty_only) = (selected.clone(), selected.clone());
    let mut doubted: BTreeSet<&TreePath> = BTreeSet::new();
    let mut emptied = Emptied::default();
    newest_first
        .iter()
        .map(|candidate| {
            let mut only = OnlyCopies::default();
            for (path, holding) in candidate.holdings.iter().flatten().filter(|(_, h)| h.saved) {
                let newest_with_data = holding.has_data && wanted.remove(path);
                let newest_at_all = empty_only.remove(path);
                if newest_with_data || newest_at_all {
                    only.newest.push(holding.title.clone());
                }
                // Each suspicious copy stays, so that the doubt does, and the last copy before it
                // that was not suspicious: which of them is the accident only a person can tell.
                if holding.suspicious && selected.contains(path) {
                    let is_newest = doubted.insert(path);
                    // Of those that repairs left, one tells as much as all.
                    if is_newest || !candidate.is_repaired {
                        only.suspicious.push(holding.title.clone());
                    }
                } else if holding.has_data && !holding.suspicious && doubted.remove(path) {
                    only.before_change.push(holding.title.clone());
                }
            }
            only.add_sources(candidate, &mut emptied);
            only
        })
        .collect()
}

/// The items that each source's newest whole account of itself selects, or a newer one in part.
///
/// A point has nothing of a source that could not be reached, and not all of one that could not be
/// seen as a whole, which says nothing about what is wanted of it; nor does a point that could not
/// be read.
fn still_selected(newest_first: &[Candidate]) -> BTreeSet<&TreePath> {
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut selected = BTreeSet::new();
    for candidate in newest_first {
        let Some(holdings) = &candidate.holdings else {
            continue;
        };
        let news = holdings
            .iter()
            .filter(|(_, holding)| !told.contains(holding.source.as_str()));
        selected.extend(news.filter(|(_, h)| h.selected).map(|(path, _)| path));
        let sources = holdings.values().map(|h| h.source.as_str());
        told.extend(sources.filter(|source| !candidate.unseen.contains(*source)));
    }
    selected
}

/// The counting rules with what is left of each.
struct Rules<'a> {
    keep: &'a Keep,
    within: Option<Timestamp>,
    last_left: u32,
    periods: Vec<PeriodRule>,
}

struct PeriodRule {
    reason: Reason,
    left: u32,
    /// The period that the point kept last lies in.
    last: Option<String>,
    /// `strftime` format that names a period, in UTC.
    format: &'static str,
}

impl<'a> Rules<'a> {
    fn new(keep: &'a Keep, newest: Option<Timestamp>) -> Self {
        let period = |reason, left, format| PeriodRule {
            reason,
            left,
            last: None,
            format,
        };
        Self {
            keep,
            within: keep
                .within
                .as_ref()
                .zip(newest)
                .map(|(within, newest)| within.before(newest)),
            last_left: keep.last,
            periods: vec![
                period(Reason::Hourly, keep.hourly, "%Y-%m-%d %H"),
                period(Reason::Daily, keep.daily, "%Y-%m-%d"),
                period(Reason::Weekly, keep.weekly, "%G-%V"),
                period(Reason::Monthly, keep.monthly, "%Y-%m"),
                period(Reason::Yearly, keep.yearly, "%Y"),
            ],
        }
    }

    /// Why a point stays; to be asked newest first.
    fn reasons(&mut self, point: &PointSummary) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.last_left > 0 {
            self.last_left -= 1;
            reasons.push(Reason::Last);
        }
        for rule in &mut self.periods {
            let period = point.time.to_jiff().strftime(rule.format).to_string();
            if rule.left > 0 && rule.last.as_ref() != Some(&period) {
                rule.left -= 1;
                rule.last = Some(period);
                reasons.push(rule.reason.clone());
            }
        }
        if self.within.is_some_and(|start| point.time >= start) {
            reasons.push(Reason::Within);
        }
        let tags = self.keep.tags.iter().filter(|t| point.tags.contains(t));
        reasons.extend(tags.map(|tag| Reason::Tag(tag.clone())));
        reasons
    }
}

#[cfg(test)]
mod tests;
