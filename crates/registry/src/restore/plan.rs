//! Decides what happens with every image, against the real target.
//!
//! Invariant: only `GET` and `HEAD` requests; every image that is asked for is a step, also one
//! that cannot be restored.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreRequest, Step};
use refloat_source::{StoredPoint, TargetError};

use super::rename::Renames;
use super::selection::select;
use super::stored::{Layouts, Origin, Parts, StoredLayout, StoredRoot};
use super::unreadable::Unreadable;
use super::{MISSING, unavailable};
use crate::api::Registry;
use crate::digest::Digest;
use crate::name::{ImageName, Reference};
use crate::parallel;

/// What is restored into.
pub(super) enum Ground<'a> {
    /// A registry, asked with so many requests at once.
    Registry(&'a Registry, usize),
    /// A folder of layouts, with its name and what it holds.
    Folder(String, &'a BTreeMap<ImageName, Digest>),
}

/// One image before it was compared with the target.
struct Candidate<'a> {
    layout: &'a StoredLayout,
    root: &'a StoredRoot,
    name: ImageName,
    target: ImageName,
    parts: Parts,
}

/// What an image is beside an earlier one that goes by the same name in the target.
enum Beside {
    /// The same under its manifest's digest, from elsewhere or under a name that was asked for.
    Alone,
    /// The same image: that there is one of it is enough.
    Same,
    /// An engine's, and another.
    Skip { why: String },
    /// Only a person can decide.
    Conflict { why: String },
}

impl Candidate<'_> {
    /// The digests of its configurations, which are what engines call an image by.
    fn configurations(&self) -> BTreeSet<Digest> {
        let manifests = self.parts.manifests.iter();
        manifests
            .filter_map(|(_, manifest)| manifest.config)
            .collect()
    }

    /// With the registry's host, if that is known.
    fn full_name(&self) -> String {
        match self.root.hosts.first() {
            Some(host) => format!("{host}/{}", self.name),
            None => self.name.to_string(),
        }
    }

    fn is_renamed(&self) -> bool {
        self.name != self.target
    }

    fn beside(&self, first: &Self) -> Beside {
        let is_of_engine = self.layout.origin != Origin::Registry;
        let is_plain = is_of_engine && !self.is_renamed() && !first.is_renamed();
        let is_same = self.root.digest == first.root.digest;
        if !is_plain {
            return match is_same {
                true => Beside::Alone,
                false => Beside::Conflict {
                    why: format!(
                        "another image of the point becomes {} as well; rename one, or choose \
                         with --only",
                        self.target
                    ),
                },
            };
        }
        let own = self.configurations();
        let manifests = &first.parts.manifests;
        let is_same = is_same
            || manifests
                .iter()
                .any(|(digest, _)| *digest == self.root.digest)
            || !own.is_empty() && own.is_subset(&first.configurations());
        if is_same {
            return Beside::Same;
        }
        let why = format!(
            "it is another image than {} of {}, which becomes {}; to have both, restore this one by \
             itself: --only image:{}",
            first.full_name(),
            first.layout.source,
            self.target,
            self.full_name(),
        );
        Beside::Skip { why }
    }
}

/// Plans a restore.
pub(super) fn plan(
    point: &dyn StoredPoint,
    request: &RestoreRequest,
    ground: &Ground<'_>,
    cancel: &Cancel,
) -> Result<RestorePlan, TargetError> {
    let mut layouts = StoredLayout::all(point)?;
    ground.leave_out(&mut layouts, &request.only);
    if layouts.readable.is_empty() && layouts.unreadable.is_empty() {
        return Err(TargetError::NotInPoint {
            what: "image of a registry or an engine".to_owned(),
            candidates: point.record().sources.keys().cloned().collect(),
        });
    }
    let renames = Renames::new(&request.rename, &layouts.readable)?;
    let selected = select(point, &layouts, &request.only)?;
    let mut candidates = Vec::new();
    for (layout, numbers) in layouts.readable.iter().zip(selected) {
        for root in numbers
            .into_iter()
            .filter_map(|number| layout.roots.get(number))
        {
            candidates.push(Candidate {
                layout,
                root,
                name: layout.name(root),
                target: renames.apply(layout, root)?,
                parts: layout.parts(point, root),
            });
        }
    }
    let there = present(ground, &candidates, cancel)?;
    let mut plan = RestorePlan {
        target: ground.name(),
        ..RestorePlan::default()
    };
    let mut taken: BTreeMap<ImageName, usize> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for (number, (candidate, there)) in candidates.iter().zip(there).enumerate() {
        let first = *taken.entry(candidate.target.clone()).or_insert(number);
        let rival = candidates.get(first).filter(|_| first != number);
        let action = match rival.map_or(Beside::Alone, |first| candidate.beside(first)) {
            Beside::Alone => decide(candidate, there, request, &mut plan.findings),
            Beside::Same => continue,
            Beside::Skip { why } => {
                let finding = Finding::warning(candidate.full_name(), why.clone());
                plan.findings.push(finding);
                Action::Skip { why }
            }
            Beside::Conflict { why } => Action::Conflict { why },
        };
        let bytes = candidate
            .parts
            .blobs
            .iter()
            .filter(|(digest, _)| counted.insert((&candidate.target.repository, **digest)))
            .map(|(_, size)| size)
            .sum();
        plan.steps.push(Step {
            kind: ItemKind::Image,
            name: candidate.name.to_string(),
            path: candidate.layout.path.clone(),
            workload: Some(candidate.layout.repository.to_string()),
            bytes: matches!(
                action,
                Action::Create | Action::Replace { .. } | Action::Rename { .. }
            )
            .then_some(bytes),
            action,
        });
    }
    plan.steps.extend(unreadable(&layouts, &request.only));
    plan.findings.extend(unpacked_note(&candidates));
    Ok(plan)
}

/// Steps for what is asked for and cannot be read.
fn unreadable(layouts: &Layouts, only: &[String]) -> impl Iterator<Item = Step> {
    let is_wanted =
        |layout: &&Unreadable| only.is_empty() || only.iter().any(|word| layout.is_wanted(word));
    let wanted = layouts.unreadable.iter().filter(is_wanted);
    wanted.map(Unreadable::step)
}

/// What to say of images whose layers an engine had unpacked.
fn unpacked_note(candidates: &[Candidate<'_>]) -> Option<Finding> {
    let unpacked = candidates
        .iter()
        .filter(|candidate| candidate.layout.origin == Origin::UnpackedByEngine);
    let count = unpacked.count();
    let message = format!(
        "{count} of the images come from an engine's own store, which keeps layers unpacked: the \
         image ids are the same, the manifests have other digests than registries had, and their \
         layers are not compressed"
    );
    (count > 0).then(|| Finding::warning("images of engines", message))
}

impl Ground<'_> {
    /// Leaves out images of engines where they would be a surprise: a registry gets back what
    /// registries had, and those of engines if there is nothing else, or by name.
    fn leave_out(&self, layouts: &mut Layouts, only: &[String]) {
        let is_of_registry = |layout: &StoredLayout| layout.origin == Origin::Registry;
        let is_alone = !layouts.readable.iter().any(is_of_registry)
            && !layouts
                .unreadable
                .iter()
                .any(|layout| layout.is_of_registry);
        if matches!(self, Self::Registry(..)) && only.is_empty() && !is_alone {
            layouts.readable.retain(is_of_registry);
            layouts.unreadable.retain(|layout| layout.is_of_registry);
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Registry(registry, _) => registry.address().to_string(),
            Self::Folder(name, _) => name.clone(),
        }
    }
}

/// What each target name stands for at the moment.
fn present(
    ground: &Ground<'_>,
    candidates: &[Candidate<'_>],
    cancel: &Cancel,
) -> Result<Vec<Option<Digest>>, TargetError> {
    match ground {
        Ground::Folder(_, held) => Ok(candidates
            .iter()
            .map(|c| held.get(&c.target).copied())
            .collect()),
        Ground::Registry(registry, at_once) => {
            let answers = parallel::map(candidates, *at_once, |candidate| {
                let ImageName {
                    repository,
                    reference,
                } = &candidate.target;
                registry.resolve(repository, reference, cancel)
            });
            let answers = answers
                .into_iter()
                .zip(candidates)
                .map(|(answer, candidate)| {
                    answer
                        .map(|resolved| resolved.map(|resolved| resolved.digest))
                        .map_err(|error| {
                            unavailable("look for", candidate.target.to_string(), error)
                        })
                });
            answers.collect()
        }
    }
}

fn decide(
    candidate: &Candidate<'_>,
    there: Option<Digest>,
    request: &RestoreRequest,
    findings: &mut Vec<Finding>,
) -> Action {
    let Candidate {
        name,
        target,
        parts,
        root,
        ..
    } = candidate;
    if let [first, rest @ ..] = parts.missing.as_slice() {
        let more = match rest.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        return Action::Skip {
            why: format!("{MISSING}{first}{more}"),
        };
    }
    if !parts.sparse.is_empty() {
        let count = parts.sparse.len();
        let message = format!(
            "{count} platforms of it were not captured; most registries refuse such an index"
        );
        findings.push(Finding::warning(name.to_string(), message));
    }
    let renamed = target != name;
    match there {
        Some(digest) if digest == root.digest && !renamed => Action::Reuse,
        Some(digest) if digest != root.digest => {
            differs(candidate, &digest, request.on_conflict, findings)
        }
        _ if renamed => Action::Rename {
            to: target.to_string(),
        },
        _ => Action::Create,
    }
}

/// The target has the tag, and it stands for something else.
fn differs(
    candidate: &Candidate<'_>,
    there: &Digest,
    on_conflict: OnConflict,
    findings: &mut Vec<Finding>,
) -> Action {
    let Candidate { name, target, .. } = candidate;
    let why = format!("{target} is {there} there");
    match on_conflict {
        OnConflict::Fail => Action::Conflict {
            why: format!("{why}; keep it (skip), replace it, or restore under a new name"),
        },
        OnConflict::Skip => Action::Skip {
            why: format!("{why}; it is kept"),
        },
        OnConflict::Replace if target != name => {
            findings.push(Finding::warning(
                name.to_string(),
                format!("{why} and is replaced"),
            ));
            Action::Rename {
                to: target.to_string(),
            }
        }
        OnConflict::Replace => Action::Replace { why },
        OnConflict::Rename if target != name => Action::Conflict { why },
        OnConflict::Rename => match &target.reference {
            Reference::Tag(tag) => Action::Rename {
                to: format!("{}:{tag}-restored", target.repository),
            },
            // A digest cannot stand for something else.
            Reference::Digest(_) => Action::Conflict { why },
        },
    }
}
