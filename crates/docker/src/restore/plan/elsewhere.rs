//! Volumes whose data lies elsewhere than with the engine: in a folder of the host, on a share, with a
//! plugin.
//!
//! Invariant: what is there already, or may be, is not written to unless the request says so. (ADR 0008)

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::Action;
use refloat_model::tree_path::TreePath;

use super::super::likeness;
use super::data::is_free;
use super::{Planner, Relation, is_made};
use crate::definition::VolumeDefinition;

impl Planner<'_> {
    /// The action for a volume whose data lies at `place`, where something is already or may be.
    pub(super) fn elsewhere(
        &mut self,
        wanted: &VolumeDefinition,
        place: &str,
        emptied: bool,
        action: Action,
    ) -> Action {
        let is_there = self.ground.present.volumes.contains_key(&wanted.name);
        let why = match action {
            Action::Rename { .. } => {
                let old = self.old_name(ItemKind::Volume, &wanted.name);
                self.names.remove(ItemKind::Volume, &old);
                format!("its data lies on {place}, whatever the volume is called")
            }
            // Without the volume its containers would get an empty one of that name.
            Action::Skip { .. } if !is_there => format!(
                "its data on {place} can be kept only if the volume is there: make it first, or replace \
                 the data"
            ),
            action => {
                if emptied && is_made(&action) && self.is_out_of_reach(wanted) {
                    let message = format!(
                        "what lies on {place} already cannot be seen from here and stays: a server may \
                         take it for its data, and the dump is loaded on top"
                    );
                    let subject = format!("volume {}", wanted.name);
                    self.findings.push(Finding::warning(subject, message));
                }
                return action;
            }
        };
        Action::Conflict { why }
    }

    /// Whether the data of a volume that is not there lies where it cannot be removed.
    pub(super) fn is_out_of_reach(&self, volume: &VolumeDefinition) -> bool {
        let is_there = self.ground.present.volumes.contains_key(&volume.name);
        let folder = self.ground.reach.folder_of(volume);
        !is_there && folder.is_none() && volume.place().is_some()
    }

    /// What a volume that is not there would show once it is made: its data may lie in a folder of the
    /// host or on another machine, where it outlived the volume, or where others use it.
    pub(super) fn data_elsewhere(
        &self,
        wanted: &VolumeDefinition,
        data: Option<&TreePath>,
    ) -> Relation {
        let Some(folder) = wanted.bound_folder() else {
            return match wanted.foreign_place() {
                Some(place) => Relation::Unseen(format!(
                    "its data lies on {place}, where it may be in use, and cannot be looked at from \
                     here"
                )),
                None => Relation::Absent,
            };
        };
        if let Some(why) = self.ground.reach.refusal(folder) {
            return Relation::Unseen(format!("its folder {folder} is not looked at: {why}"));
        }
        let Some(place) = self.ground.reach.folder_of(wanted) else {
            return Relation::Unseen(format!("its folder {folder} cannot be looked at from here"));
        };
        if is_free(&place) {
            return Relation::Absent;
        }
        match data.map(|data| likeness::compare(self.point, data, &place)) {
            // The volume has still to be made of it.
            Some(None) => Relation::Absent,
            Some(Some(difference)) => Relation::Differs(format!(
                "its folder {folder} is there with other data ({difference})"
            )),
            None => Relation::Differs(format!("its folder {folder} is there with data")),
        }
    }
}
