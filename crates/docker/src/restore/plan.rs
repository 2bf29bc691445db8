//! Decides what a restore does with every object, against the real target.
//!
//! Order: images, networks, project files, volumes, bind mounts, a swarm's secrets, configs and
//! services, then containers in the order in which they start, each followed by its own
//! filesystem and its dump. All containers are created before the first is
//! started; a dump is loaded between its server's start and the start of what depends on it.
//!
//! Databases: where a point holds both a dump of a database and a copy of its volume, the dump is
//! restored into a new server and the volume starts empty, unless the copy was made while nothing
//! wrote to it, or the volume was asked for by name. A copy of a running database is what a power
//! cut leaves *spread over the time of the copy*; the dump is consistent in itself.
//!
//! Invariant: only `GET` requests and looks at local folders; nothing is changed.

mod containers;
mod data;
mod elsewhere;
mod objects;
mod swarm;

pub(super) use containers::{starting_order, waits_for};
pub(super) use data::{beside, is_free, recipe};

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, OnConflict, Permission, RestorePlan, RestoreRequest, Step};
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredPoint, TargetError};

use super::checks;
use super::compare::Kin;
use super::holding::Holding;
use super::journal::Notes;
use super::naming::Names;
use super::present::Present;
use super::reach::Reach;
use super::selection::Selection;

/// Begins the reason of a step that is left out because the point lacks something: the restore is
/// then incomplete.
pub(super) const MISSING: &str = "missing in the recovery point: ";

/// How often planning starts again because an object got a new name; new names of new names do
/// not happen, so two rounds settle it.
const ROUNDS_MAX: usize = 3;

/// What is known on the target's side.
pub(super) struct Ground<'a> {
    pub(super) present: &'a Present,
    pub(super) notes: &'a Notes,
    pub(super) reach: &'a Reach,
    /// The target's address without credentials.
    pub(super) address: String,
    pub(super) kin: Kin,
}

/// How a thing of the point relates to one of the same name on the target.
pub(super) enum Relation {
    Absent,
    Equal,
    Differs(String),
    /// It may be there: nobody can look.
    Unseen(String),
    /// An earlier run of this restore left it half-filled: ours to finish, whatever the user
    /// wants of conflicts.
    Unfinished,
}

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) point: &'a dyn StoredPoint,
    pub(super) holding: Holding,
    pub(super) ground: &'a Ground<'a>,
    pub(super) selection: &'a Selection,
    pub(super) request: &'a RestoreRequest,
    pub(super) names: Names,
    pub(super) steps: Vec<Step>,
    pub(super) findings: Vec<Finding>,
    /// Containers of the target that must go because their volume is made anew.
    pub(super) displaced: BTreeSet<String>,
    /// What was decided, by kind and name in the point.
    pub(super) decided: BTreeMap<(ItemKind, String), Action>,
}

/// Plans a restore.
pub(super) fn plan(
    point: &dyn StoredPoint,
    holding: &Holding,
    request: &RestoreRequest,
    ground: &Ground<'_>,
) -> Result<RestorePlan, TargetError> {
    let selection = Selection::of(holding, &request.only)?;
    let mut names = requested_names(holding, request)?;
    for _ in 0..ROUNDS_MAX {
        let mut renamed = holding.clone();
        names.apply(&mut renamed);
        let mut planner = Planner {
            point,
            holding: renamed,
            ground,
            selection: &selection,
            request,
            names: names.clone(),
            steps: Vec::new(),
            findings: holding.notes.clone(),
            displaced: BTreeSet::new(),
            decided: BTreeMap::new(),
        };
        planner.decide()?;
        if planner.names == names {
            checks::check(&mut planner);
            return Ok(RestorePlan {
                target: ground.address.clone(),
                steps: planner.steps,
                findings: planner.findings,
                ..RestorePlan::default()
            });
        }
        names = planner.names;
    }
    Err(TargetError::NotInPoint {
        what: "set of names that settles".to_owned(),
        candidates: Vec::new(),
    })
}

/// The new names a request gives, spread over what carries a project's name.
pub(super) fn requested_names(
    holding: &Holding,
    request: &RestoreRequest,
) -> Result<Names, TargetError> {
    let mut names = Names::default();
    for (old, new) in &request.rename {
        let (kind, name) = old.split_once(':').unwrap_or(("", old));
        let known = |kind| match kind {
            ItemKind::Container => holding.containers.contains_key(name),
            ItemKind::Volume => holding.volumes.contains_key(name),
            ItemKind::Network => holding.networks.contains_key(name),
            _ => {
                let mut members = holding.containers.values();
                members.any(|c| {
                    c.definition
                        .project
                        .as_ref()
                        .is_some_and(|p| p.project == name)
                }) || holding.projects.contains_key(name)
            }
        };
        let kinds = [
            ItemKind::Container,
            ItemKind::Volume,
            ItemKind::Network,
            ItemKind::Project,
        ];
        let mut kinds = kinds
            .into_iter()
            .filter(|k| kind.is_empty() || k.word() == kind);
        let Some(kind) = kinds.find(|kind| known(*kind)) else {
            return Err(TargetError::NotInPoint {
                what: old.clone(),
                candidates: Vec::new(),
            });
        };
        if !is_name(new) {
            return Err(TargetError::NotInPoint {
                what: format!("usable new name {new:?} (letters, digits, '.', '_' and '-')"),
                candidates: Vec::new(),
            });
        }
        names.insert(kind, name, new);
    }
    names.spread_projects(holding);
    Ok(names)
}

/// Whether engines accept the name for a volume, container or network.
pub(super) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 255
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

impl Planner<'_> {
    fn decide(&mut self) -> Result<(), TargetError> {
        self.decide_damaged();
        self.decide_images();
        self.decide_networks();
        self.decide_projects();
        let rules = self.database_rules();
        self.decide_volumes(&rules);
        self.decide_binds(&rules);
        self.decide_swarm();
        self.decide_containers(&rules);
        Ok(())
    }

    /// Items that are named in the manifest and cannot be used.
    fn decide_damaged(&mut self) {
        for (record, reason) in self.holding.damaged.clone() {
            if !self.selection.everything {
                continue;
            }
            let action = Action::Skip {
                why: format!("{MISSING}{reason}"),
            };
            let name = record.item.title.clone();
            self.step(
                record.item.kind,
                &name,
                &record,
                record.item.path.clone(),
                action,
                None,
            );
        }
    }

    pub(super) fn step(
        &mut self,
        kind: ItemKind,
        name: &str,
        record: &ItemRecord,
        path: TreePath,
        action: Action,
        bytes: Option<u64>,
    ) {
        self.decided.insert((kind, name.to_owned()), action.clone());
        self.steps.push(Step {
            kind,
            name: name.to_owned(),
            path,
            workload: record.item.workload.clone(),
            action,
            bytes,
        });
    }

    /// The action that follows from how things are and what the user wants of conflicts.
    pub(super) fn action(&mut self, kind: ItemKind, name: &str, relation: Relation) -> Action {
        let renamed = self.names.get(kind, name).map(str::to_owned);
        let why = match (relation, &renamed) {
            (Relation::Absent | Relation::Equal | Relation::Unfinished, Some(to)) => {
                return Action::Rename { to: to.clone() };
            }
            (Relation::Absent, None) => return Action::Create,
            (Relation::Equal, None) => return Action::Reuse,
            (Relation::Unfinished, None) => {
                return Action::Replace {
                    why: "half-filled by an unfinished restore".to_owned(),
                };
            }
            (Relation::Differs(why), _) => why,
            (Relation::Unseen(why), _) if self.allows(Permission::UnseenFiles) => {
                return Action::Replace { why };
            }
            (Relation::Unseen(why), _) if self.request.on_conflict == OnConflict::Fail => {
                return Action::Conflict {
                    why: format!("{why}; {}", allowing(Permission::UnseenFiles)),
                };
            }
            (Relation::Unseen(why), _) => why,
        };
        match self.request.on_conflict {
            OnConflict::Fail => Action::Conflict {
                why: format!("{why}; keep it (skip), replace it, or restore under a new name"),
            },
            OnConflict::Skip => Action::Skip {
                why: format!("{why}; it is kept"),
            },
            OnConflict::Replace => Action::Replace { why },
            OnConflict::Rename if renamed.is_some() => Action::Conflict { why },
            OnConflict::Rename => {
                let to = format!("{name}-restored");
                self.names.insert(kind, name, &to);
                Action::Rename { to }
            }
        }
    }

    pub(super) fn allows(&self, permission: Permission) -> bool {
        self.request.allow.contains(&permission)
    }

    /// The action for files at `places` of the host, which nobody writes into the system's own
    /// places unless it is allowed or `named`: what is there and equal or kept is no matter.
    pub(super) fn guarded(&self, action: Action, named: bool, places: &[&str]) -> Action {
        let system = || {
            let mut places = places.iter();
            places.find(|place| self.ground.reach.is_system_place(place))
        };
        match system() {
            Some(place) if is_made(&action) && !named && !self.allows(Permission::SystemPlaces) => {
                let allowing = allowing(Permission::SystemPlaces);
                Action::Conflict {
                    why: format!("{place} is a place of the system; {allowing}"),
                }
            }
            _ => action,
        }
    }

    /// What was decided for an object.
    pub(super) fn decision(&self, kind: ItemKind, name: &str) -> Option<&Action> {
        self.decided.get(&(kind, name.to_owned()))
    }

    /// Whether a container of the target, by its name there, is made anew.
    pub(super) fn replaces(&self, container: &str) -> bool {
        let name = self.old_name(ItemKind::Container, container);
        let decision = self.decision(ItemKind::Container, &name);
        matches!(decision, Some(Action::Replace { .. }))
    }
}

/// What to do about a refusal.
fn allowing(permission: Permission) -> String {
    format!("allow it ({}), or leave it out", permission.word())
}

/// Whether the step brings content of the point to the target.
pub(super) const fn is_made(action: &Action) -> bool {
    matches!(
        action,
        Action::Create | Action::Replace { .. } | Action::Rename { .. }
    )
}
