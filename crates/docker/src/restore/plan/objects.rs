//! Images, networks and project files.
//!
//! Invariant: an image is the same exactly if its id is.

use refloat_model::entry::EntryKind;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, OnConflict};

use super::super::holding::Held;
use super::super::image_stream;
use super::super::projects::{FileState, files};
use super::{MISSING, Planner, Relation, is_name};
use crate::definition::ImageDefinition;

impl Planner<'_> {
    pub(super) fn decide_images(&mut self) {
        let name_of = |held: &Held<ImageDefinition>| {
            let image = &held.definition;
            image.tags.first().unwrap_or(&image.id).clone()
        };
        let mut images: Vec<Held<ImageDefinition>> = self
            .selection
            .images
            .iter()
            .filter_map(|id| self.holding.images.get(id).cloned())
            .collect();
        images.sort_by_key(name_of);
        for held in images {
            let (image, name) = (&held.definition, name_of(&held));
            let action = self.image_action(image, &held.record.item.path);
            let bytes = match action {
                Action::Reuse => Some(0),
                _ => Some(held.record.bytes).filter(|bytes| *bytes > 0),
            };
            let path = held.record.item.path.clone();
            self.step(
                ItemKind::Image,
                &name,
                &held.record,
                path,
                action.clone(),
                bytes,
            );
            // Containers ask by id.
            self.decided
                .insert((ItemKind::Image, image.id.clone()), action);
        }
    }

    fn image_action(
        &mut self,
        image: &ImageDefinition,
        path: &refloat_model::tree_path::TreePath,
    ) -> Action {
        if self.ground.present.images.contains_key(&image.id) {
            return Action::Reuse;
        }
        if let Err(failure) = image_stream::Contents::read(self.point, path) {
            return Action::Skip {
                why: format!("{MISSING}{}", crate::error::chain(&failure)),
            };
        }
        let taken: Vec<&str> = image
            .tags
            .iter()
            .filter(|tag| self.ground.present.image_named(tag).is_some())
            .map(String::as_str)
            .collect();
        if taken.is_empty() {
            return Action::Create;
        }
        let why = format!("the target has another image called {}", taken.join(", "));
        match self.request.on_conflict {
            OnConflict::Fail => Action::Conflict {
                why: format!("{why}; replace moves the name, skip and rename load it without"),
            },
            OnConflict::Replace => Action::Replace { why },
            // The image itself cannot clash: it comes without the names that are taken.
            OnConflict::Skip | OnConflict::Rename => {
                let subject = format!("image {}", taken.join(", "));
                let message = format!("{why}; ours is loaded without that name");
                self.findings.push(Finding::note(subject, message));
                Action::Create
            }
        }
    }

    pub(super) fn decide_networks(&mut self) {
        for name in &self.selection.networks {
            let Some(held) = self.holding.networks.get(name).cloned() else {
                continue;
            };
            let wanted = &held.definition;
            let relation = match self.ground.present.networks.get(&wanted.name) {
                _ if wanted.is_built_in() => Relation::Equal,
                None => Relation::Absent,
                Some(found) => {
                    match super::super::compare::networks(wanted, found, self.ground.kin) {
                        places if places.is_empty() => Relation::Equal,
                        places => Relation::Differs(format!(
                            "the target has a network {} that differs in {}",
                            wanted.name,
                            places.join(", ")
                        )),
                    }
                }
            };
            let action =
                if let Some(action) = self.without_swarm().filter(|_| wanted.scope == "swarm") {
                    action
                } else if is_name(&wanted.name) {
                    self.action(ItemKind::Network, name, relation)
                } else {
                    Action::Skip {
                        why: format!("{MISSING}the name is none an engine accepts"),
                    }
                };
            let path = held.record.item.path.clone();
            self.step(ItemKind::Network, name, &held.record, path, action, None);
        }
    }

    pub(super) fn decide_projects(&mut self) {
        for name in &self.selection.projects {
            let Some(held) = self.holding.projects.get(name).cloned() else {
                continue;
            };
            let found = files(self.point, &held, self.ground.reach);
            let different: Vec<&str> = found
                .iter()
                .filter(|file| matches!(file.state, FileState::Differs))
                .map(|file| file.target.as_str())
                .collect();
            let unseen: Vec<&str> = found
                .iter()
                .filter(|file| matches!(file.state, FileState::Unseen))
                .map(|file| file.target.as_str())
                .collect();
            let missing = found.iter().find(|file| {
                !matches!(
                    file.entry.as_ref().map(|e| &e.kind),
                    Some(EntryKind::File { .. })
                )
            });
            let action = if self.names.get(ItemKind::Project, name).is_some() {
                let why = "the project's files say its old name; they stay in the point".to_owned();
                Action::Skip { why }
            } else if let Some(file) = missing {
                Action::Skip {
                    why: format!("{MISSING}the file {}", file.target),
                }
            } else if let Some(file) = found.iter().find(|f| matches!(f.state, FileState::Refused))
            {
                Action::Skip {
                    why: format!("{} is no place for a project's file", file.target),
                }
            } else if !different.is_empty() {
                let why = format!("other files are there: {}", different.join(", "));
                self.action(ItemKind::Project, name, Relation::Differs(why))
            } else if !unseen.is_empty() {
                let files = unseen.join(", ");
                let why = format!("what is there cannot be looked at from here: {files}");
                self.action(ItemKind::Project, name, Relation::Unseen(why))
            } else if found
                .iter()
                .all(|file| matches!(file.state, FileState::Equal))
            {
                Action::Reuse
            } else {
                Action::Create
            };
            // Files cannot be had under a new name: their place is their name.
            let action = match action {
                Action::Rename { .. } => {
                    self.names.remove(ItemKind::Project, name);
                    Action::Skip {
                        why: "other files are there; they are kept".to_owned(),
                    }
                }
                action => {
                    let project = (ItemKind::Project, name.clone());
                    let named = self.selection.explicit.contains(&project);
                    let places: Vec<&str> = found.iter().map(|f| f.target.as_str()).collect();
                    self.guarded(action, named, &places)
                }
            };
            let path = held.record.item.path.clone();
            let bytes = Some(held.record.bytes);
            self.step(ItemKind::Project, name, &held.record, path, action, bytes);
        }
    }
}
