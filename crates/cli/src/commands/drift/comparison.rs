//! One cluster against what it should be.
//!
//! Invariant: what could not be looked at, on either side, is neither missing nor extra: it is
//! named, and the comparison is incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use refloat_engine::git_export::Gaps;
use refloat_kubernetes::drift::{self, Compare, Document, FieldDrift, Manager, ObjectKey};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::progress::Counters;
use refloat_repository::BlobId;

use super::cluster::{Cluster, Place, stored_folders};
use super::folder::Folder;
use super::git_side::GitSide;
use super::point_gaps;
use super::report::{Difference, Report, Side, State};
use crate::command_error::{CommandError, ErrorKind, one_line};
use crate::point::OpenPoint;
use crate::table;

pub struct Comparison<'a> {
    cluster: &'a Cluster<'a>,
    point: Option<PointSide<'a>>,
    git: Option<GitSide>,
    /// Whether objects that Git does not have are named.
    extra: bool,
    /// Whether something of the cluster could not be looked at.
    is_blind: bool,
    /// Objects of Git that are encrypted.
    encrypted: usize,
    /// How many objects of the point are there and not selected any more, by their place.
    unselected: BTreeMap<String, usize>,
    report: &'a mut Report,
    counters: &'a Arc<Counters>,
}

struct PointSide<'a> {
    open: &'a OpenPoint,
    folders: BTreeMap<String, BlobId>,
    gaps: Gaps,
}

impl<'a> Comparison<'a> {
    pub fn new(
        cluster: &'a Cluster<'a>,
        report: &'a mut Report,
        counters: &'a Arc<Counters>,
    ) -> Self {
        Self {
            cluster,
            point: None,
            git: None,
            extra: false,
            is_blind: !cluster.gaps.is_empty(),
            encrypted: 0,
            unselected: BTreeMap::new(),
            report,
            counters,
        }
    }

    /// Compares with a point.
    pub fn with_point(&mut self, open: &'a OpenPoint) -> Result<(), CommandError> {
        self.point = Some(PointSide {
            open,
            folders: stored_folders(&open.tree, &self.cluster.name)?,
            gaps: point_gaps(open, &self.cluster.name)?,
        });
        Ok(())
    }

    /// Compares with a Git folder.
    pub fn with_git(&mut self, mut git: GitSide, extra: bool) {
        self.report.complete &= git.is_complete;
        // What is wrong with a file that several clusters are compared with is told once.
        for finding in std::mem::take(&mut git.findings) {
            if !self.report.findings.contains(&finding) {
                self.report.findings.push(finding);
            }
        }
        self.git = Some(git);
        self.extra = extra;
    }

    /// Compares.
    ///
    /// # Errors
    /// The run was cancelled, or the point cannot be read.
    pub fn run(mut self, cancel: &Cancel) -> Result<(), CommandError> {
        let stored = self.point.iter().flat_map(|point| point.folders.keys());
        let places: BTreeSet<String> = stored.chain(self.cluster.folders.keys()).cloned().collect();
        for place in places {
            match self.look(&place, cancel) {
                Ok(seen) => self.place(&place, &seen)?,
                Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
                Err(error) => self.blind(&place, error.line()),
            }
        }
        for (place, count) in std::mem::take(&mut self.unselected) {
            let objects = table::count(count as u64, "object");
            let why = format!(
                "{objects} of the point are there, and refloat.yaml or the policy does not select \
                 them any more: not compared"
            );
            self.incomplete(&place, why);
        }
        if self.encrypted > 0 {
            let why = format!(
                "{} in Git: what is in them was not compared",
                table::count(self.encrypted as u64, "encrypted document")
            );
            let finding = Finding::note(self.cluster.name.clone(), why);
            self.report.findings.push(finding);
        }
        let left = self.git.take().map(|git| git.objects).unwrap_or_default();
        if !self.is_blind {
            // Nobody saw them.
            for object in left.into_keys() {
                self.differ(object, (Side::Git, State::Missing), Vec::new(), Vec::new());
            }
        }
        Ok(())
    }

    fn place(&mut self, place: &str, seen: &Folder) -> Result<(), CommandError> {
        for failure in &seen.failures {
            self.blind(place, failure.clone());
        }
        Counters::add(&self.counters.entries_done, seen.documents.len() as u64);
        let point = self.point.as_ref().map(|point| &point.folders);
        match point.and_then(|point| versions_apart(place, point, &self.cluster.folders)) {
            Some(why) => self.blind(place, why),
            None => self.against_point(place, seen)?,
        }
        self.against_git(place, seen);
        Ok(())
    }

    /// What is there now, or in the point that is compared with Git.
    fn look(&self, place: &str, cancel: &Cancel) -> Result<Folder, CommandError> {
        match (self.cluster.folders.get(place), self.cluster.tree) {
            (Some(Place::Live(item)), _) => {
                let mut folder = Folder::default();
                if let Some(source) = &self.cluster.source {
                    let _capture = source.capture(item, &mut folder, cancel)?;
                }
                Ok(folder)
            }
            (Some(Place::Stored(directory)), Some(tree)) => Folder::stored(tree, *directory),
            _ => Ok(Folder::default()),
        }
    }

    fn against_point(&mut self, place: &str, seen: &Folder) -> Result<(), CommandError> {
        let Some(point) = &self.point else {
            return Ok(());
        };
        let is_unseen = self.cluster.gaps.hides(place) || !seen.failures.is_empty();
        let is_unsaved = point.gaps.hides(place);
        let stored = match point.folders.get(place) {
            Some(directory) => Folder::stored(&point.open.tree, *directory)?,
            None => Folder::default(),
        };
        if is_unsaved {
            self.incomplete(place, "the point does not hold all of it".to_owned());
        }
        let names = stored.documents.keys().chain(seen.documents.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let (before, after) = (stored.documents.get(name), seen.documents.get(name));
            let is_judged = match (before, after) {
                (Some(_), None) => !is_unseen,
                (None, Some(_)) => !is_unsaved,
                _ => true,
            };
            if is_judged {
                self.report.compared += 1;
                self.object_against_point((place, name), (before, after), seen);
            }
        }
        Ok(())
    }

    fn object_against_point(
        &mut self,
        (place, name): (&str, &str),
        (before, after): (Option<&Vec<u8>>, Option<&Vec<u8>>),
        seen: &Folder,
    ) {
        if before == after {
            return;
        }
        let subject = format!("{place}/{name}");
        let before = before.and_then(|text| self.document(&subject, text, None));
        let after = after.and_then(|text| self.document(&subject, text, Some(seen)));
        let Some(object) = after.as_ref().or(before.as_ref()).and_then(Document::key) else {
            return;
        };
        let side = |state| (Side::Point, state);
        match (before, after) {
            (Some(before), Some(after)) => {
                let fields = drift::compare(&before, &after, Compare::Whole);
                if !fields.is_empty() {
                    self.differ(object, side(State::Changed), fields, Vec::new());
                }
            }
            (None, Some(after)) => {
                self.differ(object, side(State::Extra), Vec::new(), after.managers());
            }
            _ => match self.cluster.has_unselected(place, name) {
                Ok(false) => self.differ(object, side(State::Missing), Vec::new(), Vec::new()),
                Ok(true) => *self.unselected.entry(place.to_owned()).or_default() += 1,
                Err(why) => self.incomplete(&subject, why),
            },
        }
    }

    fn against_git(&mut self, place: &str, seen: &Folder) {
        if self.git.is_none() {
            return;
        }
        for (name, text) in &seen.documents {
            let subject = format!("{place}/{name}");
            let Some(after) = self.document(&subject, text, Some(seen)) else {
                continue;
            };
            let Some(object) = after.key() else { continue };
            let first = self.git.as_ref().and_then(|git| git.matched(&object));
            if let Some(first) = first {
                let why = format!(
                    "Git has it without a namespace, and several namespaces have one: only that \
                     of {first} was compared"
                );
                self.incomplete(&object.to_string(), why);
                continue;
            }
            let taken = self.git.as_mut().and_then(|git| git.take(&object));
            match taken {
                Some(before) => self.object_against_git(object, &before, &after),
                None => {
                    let known = self.git.as_ref().is_some_and(|git| git.has_kind(&object));
                    if self.extra && known {
                        let managers = after.managers();
                        self.differ(object, (Side::Git, State::Extra), Vec::new(), managers);
                    }
                }
            }
        }
    }

    fn object_against_git(&mut self, object: ObjectKey, before: &Document, after: &Document) {
        if drift::is_encrypted(before) {
            // Its values say nothing.
            self.encrypted += 1;
            return;
        }
        if before.version() != after.version() {
            let why = format!(
                "is {} in Git and {} here",
                before.version(),
                after.version()
            );
            return self.incomplete(&object.to_string(), why);
        }
        self.report.compared += 1;
        let mut fields = drift::compare(before, after, Compare::Declared);
        // Who writes an object for another namespace need not say so.
        fields.retain(|field| field.field != "metadata.namespace" || field.before.is_some());
        if !fields.is_empty() {
            self.differ(object, (Side::Git, State::Changed), fields, Vec::new());
        }
    }

    fn document(&mut self, subject: &str, text: &[u8], seen: Option<&Folder>) -> Option<Document> {
        match Document::read(text) {
            Ok(documents) => {
                let document = documents.into_iter().next()?;
                let name = document.key().map(|key| key.name).unwrap_or_default();
                let writers = seen.and_then(|seen| seen.writers.get(&name));
                Some(match writers {
                    Some(writers) => document.written_by(writers.clone()),
                    None => document,
                })
            }
            Err(error) => {
                self.incomplete(subject, one_line(&error));
                None
            }
        }
    }

    /// Something of the cluster could not be looked at.
    fn blind(&mut self, place: &str, why: String) {
        self.is_blind = true;
        self.incomplete(place, why);
    }

    fn incomplete(&mut self, subject: &str, why: String) {
        let subject = format!("{}: {subject}", self.cluster.name);
        self.report.incomplete(&subject, why);
    }

    fn differ(
        &mut self,
        object: ObjectKey,
        (against, state): (Side, State),
        fields: Vec<FieldDrift>,
        managers: Vec<Manager>,
    ) {
        let all = fields.iter().flat_map(|field| &field.managers);
        self.report.differences.push(Difference {
            cluster: self.cluster.name.clone(),
            object,
            against,
            state,
            by_hand: all.chain(&managers).any(|manager| manager.by_hand),
            fields,
            managers,
        });
    }
}

/// Why a folder cannot be compared with the point: one side has it in another version only.
fn versions_apart<P, N>(
    place: &str,
    point: &BTreeMap<String, P>,
    now: &BTreeMap<String, N>,
) -> Option<String> {
    if !now.contains_key(place) {
        let version = other_version(place, now.keys())?;
        return Some(format!("is served as {version} now"));
    }
    if point.contains_key(place) {
        return None;
    }
    // What both have in that version is compared in it.
    let only_there = point.keys().filter(|other| !now.contains_key(*other));
    let version = other_version(place, only_there)?;
    Some(format!("is in the point as {version}"))
}

/// The version in which the kind and namespace of `place` are among `places`, if not in its own.
fn other_version<'a>(place: &str, mut places: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let parts = |place: &'a str| -> Option<(&'a str, &'a str, &'a str)> {
        let (group, rest) = place.split_once('/')?;
        let (version, kind) = rest.split_once('/')?;
        Some((group, version, kind))
    };
    let (group, rest) = place.split_once('/')?;
    let (version, kind) = rest.split_once('/')?;
    places.find_map(|other| {
        let (other_group, other, other_kind) = parts(other)?;
        (other_group == group && other_kind == kind && other != version).then_some(other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_each_side_has_in_its_own_version_is_neither_new_nor_gone() {
        let places = |versions: &[&str]| -> BTreeMap<String, ()> {
            let place = |version: &&str| (format!("apps/{version}/deployments/shop"), ());
            versions.iter().map(place).collect()
        };
        for (point, now, old, new) in [
            (&["v1beta1"][..], &["v1"][..], true, true),
            (&["v1beta1", "v1"], &["v1"], true, false),
            (&["v1beta1"], &["v1beta1", "v1"], false, false),
            (&[], &["v1"], true, false),
        ] {
            let (before, after) = (places(point), places(now));
            let apart = |version: &str| {
                let place = format!("apps/{version}/deployments/shop");
                versions_apart(&place, &before, &after).is_some()
            };
            assert_eq!(
                (apart("v1beta1"), apart("v1")),
                (old, new),
                "{point:?} {now:?}"
            );
        }
    }

    #[test]
    fn a_kind_in_another_version_is_the_same_kind() {
        let places = [
            "apps/v1/deployments/shop".to_owned(),
            "core/v1/secrets/shop".to_owned(),
        ];
        for (place, expected) in [
            ("apps/v1beta1/deployments/shop", Some("v1")),
            ("apps/v1/deployments/shop", None),
            ("apps/v1beta1/deployments/other", None),
            ("odd", None),
        ] {
            assert_eq!(other_version(place, places.iter()), expected, "{place}");
        }
    }
}
