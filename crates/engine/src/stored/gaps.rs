//! What a point lacks of a place in it, by its own account.
//!
//! Invariant: what the account does not rule out is a gap; an account that cannot be read rules
//! nothing out.

use std::collections::BTreeSet;

use refloat_model::finding::{Finding, Severity};
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord, SourceRecord};
use refloat_model::tree_path::{TreePath, escape};

use super::StoredTree;
use crate::backup::{source_title, title};
use crate::chain;
use crate::git_export::{Gaps, item_place};
use crate::manifest;

/// How many missing entries of one item are named.
const MISSING_NAMED_MAX: usize = 10;

/// What of `path` and below the run could not save, the worst first.
///
/// Errors are what does not come back from this point: items that failed or are there in part,
/// what could not be seen of a source, sources that did not answer, manifests that cannot be read.
/// Warnings are about what does come back and was suspicious, or not consistent, when it was saved.
#[must_use]
pub fn gaps(tree: &StoredTree, record: &PointRecord, path: &TreePath) -> Vec<Finding> {
    if manifest::is_own(path) {
        return Vec::new();
    }
    let mut search = Search {
        record,
        path,
        explained: BTreeSet::new(),
        found: BTreeSet::new(),
    };
    for (name, source) in &record.sources {
        search.source(name, source, manifest::read_items(tree, name));
    }
    search.rest();
    let mut found: Vec<Finding> = search.found.into_iter().collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// The folder at the root in which sources of a kind have what they hold, `/docker` for one.
#[must_use]
pub fn folder(kind: &str) -> &str {
    match kind {
        // Where every repository's images are, whoever has them.
        "registry" => "images",
        kind => kind,
    }
}

struct Search<'a> {
    record: &'a PointRecord,
    path: &'a TreePath,
    /// Subjects of findings of which it is known what they are about.
    explained: BTreeSet<String>,
    found: BTreeSet<Finding>,
}

impl<'a> Search<'a> {
    fn source(
        &mut self,
        name: &str,
        source: &SourceRecord,
        items: Result<Vec<ItemRecord>, manifest::ManifestError>,
    ) {
        let items = match items {
            Ok(items) => items,
            Err(error) => {
                if self.is_of(name, &source.kind) {
                    let message = format!("nobody can tell what is missing: {}", chain(&error));
                    self.found
                        .insert(Finding::error(source_title(name), message));
                }
                Vec::new()
            }
        };
        for item in &items {
            self.item(item);
        }
        let subjects = source.errors.iter().flatten();
        self.explained.extend(subjects.clone().cloned());
        let holder = items.iter().find(|i| self.path.starts_with(&i.item.path));
        let is_hidden = |item: &ItemRecord| {
            let gaps = Gaps::of_point(self.record, name);
            item_place(&item.item).is_some_and(|place| gaps.hides(&place))
        };
        // What could not be seen of a source lies beside what was seen, or within a kind of it.
        if !self.is_of(name, &source.kind) || holder.is_some_and(|item| !is_hidden(item)) {
            return;
        }
        for subject in subjects {
            let mut told = self.errors().filter(|f| f.subject == *subject).peekable();
            if told.peek().is_none() {
                let message = "could not be seen when the point was made";
                self.found.insert(Finding::error(subject, message));
            }
            self.found.extend(told.cloned());
        }
    }

    fn item(&mut self, record: &ItemRecord) {
        let subject = title(&record.item);
        let place = &record.item.path;
        if place.starts_with(self.path) || self.path.starts_with(place) {
            match &record.outcome {
                Outcome::Failed { reason } => {
                    let message = format!("is not in this point: {reason}");
                    self.found.insert(Finding::error(&subject, message));
                }
                Outcome::Partial {
                    missing,
                    missing_count,
                } => self.partial(record, missing, *missing_count),
                Outcome::Saved | Outcome::Skipped { .. } => {}
            }
            let doubts = self.errors().filter(|f| f.subject == subject);
            self.found
                .extend(doubts.map(|f| Finding::warning(&subject, &f.message)));
        }
        self.explained.insert(subject);
    }

    fn partial(&mut self, record: &ItemRecord, missing: &[String], count: u64) {
        let named = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        // Entries are named from the item's own name on.
        let depth = record.item.path.components().len().saturating_sub(1);
        let place = self.path.components().get(depth..).unwrap_or_default();
        let place: Vec<_> = place.iter().map(|c| String::from_utf8_lossy(c)).collect();
        let here: Vec<&str> = missing
            .iter()
            .filter(|entry| concerns(entry, &place.join("/")))
            .map(String::as_str)
            .collect();
        if here.is_empty() && named >= count {
            return;
        }
        let shown = here.iter().take(MISSING_NAMED_MAX).copied();
        let shown = shown.collect::<Vec<_>>().join("; ");
        let message =
            format!("is in this point in part only, {count} entries are missing: {shown}");
        let message = message.trim_end_matches([':', ' ']);
        self.found
            .insert(Finding::error(title(&record.item), message));
    }

    /// Findings that are neither of an item nor of what could not be seen of a source.
    fn rest(&mut self) {
        let is_old = self.record.sources.values().any(|s| s.errors.is_none());
        let kind = self.path.components().first();
        let is_here = |source: &SourceRecord| {
            kind.is_some_and(|kind| *kind == escape(folder(&source.kind)).into_bytes())
        };
        let has_source = self.record.sources.values().any(is_here);
        let rest = self
            .errors()
            .filter(|f| !self.explained.contains(&f.subject));
        let rest: Vec<Finding> = rest
            .filter(|_| self.path.components().len() <= 1)
            .map(|finding| match finding.subject.strip_prefix("source ") {
                // It did not answer: the point has nothing of it. Of which kind it is is not written down, so
                // beside one of this kind it may be another's.
                Some(name) if !self.record.sources.contains_key(name) && !has_source => {
                    finding.clone()
                }
                // Which of them are of what could not be seen was not written down then.
                None if is_old => finding.clone(),
                _ => Finding::warning(&finding.subject, &finding.message),
            })
            .collect();
        self.found.extend(rest);
    }

    fn errors(&self) -> impl Iterator<Item = &'a Finding> + use<'a> {
        let findings = self.record.findings.iter();
        findings.filter(|finding| finding.severity == Severity::Error)
    }

    /// Whether the place is one of this source, or holds sources: `/docker/web/…`, `/docker`.
    fn is_of(&self, source: &str, kind: &str) -> bool {
        let place = [folder(kind), source].map(|name| escape(name).into_bytes());
        self.path
            .components()
            .iter()
            .zip(place)
            .all(|(is, of)| *is == of)
    }
}

/// Whether the missing `entry`, `data/a: permission denied`, is the place, below it or above it.
fn concerns(entry: &str, place: &str) -> bool {
    let is = |path: &str| {
        entry
            .strip_prefix(path)
            .is_some_and(|e| e.starts_with(": "))
    };
    let below = || {
        entry
            .strip_prefix(place)
            .is_some_and(|e| e.starts_with('/'))
    };
    let mut above = place.match_indices('/').map(|(end, _)| &place[..end]);
    place.is_empty() || is(place) || below() || above.any(is)
}
