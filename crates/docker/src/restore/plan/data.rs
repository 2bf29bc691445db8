//! Volumes and bind mounts: whether they come back from their copies, from a dump, or stay.
//!
//! Invariant: what is on the target is called equal only if every entry was looked at; what could
//! not be looked at differs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use refloat_database::{Recipe, VolumeCopy};
use refloat_model::entry::EntryKind;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Consistency;
use refloat_model::plan::Action;
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;

use super::super::holding::{Holding, child};
use super::super::journal::Progress;
use super::super::reach::Reach;
use super::super::{compare, likeness};
use super::{MISSING, Planner, Relation, is_name};
use crate::definition::{ContainerDefinition, MountDefinition, MountKind, VolumeDefinition};
use crate::layout::{VOLUME_DATA, VOLUME_FILE};

/// A file system's own folder at its top.
const LOST_AND_FOUND: &str = "lost+found";

/// Where each database's content comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct DatabaseRules {
    /// Volumes (names in the point) that start empty, with the container that fills them.
    pub(super) emptied: BTreeMap<String, String>,
    /// Binds that start empty, likewise.
    pub(super) emptied_binds: BTreeMap<TreePath, String>,
    /// Containers whose dump is not needed, with the reason.
    pub(super) unneeded: BTreeMap<String, String>,
    /// What holds each dumped database's data: names of volumes in the point.
    pub(super) volumes: BTreeMap<String, Vec<String>>,
}

/// The recipe for a container's database, from its definition alone.
pub(in crate::restore) fn recipe(container: &ContainerDefinition) -> Option<Recipe> {
    let words = |key: &str| {
        let list = container.config.get(key).and_then(|v| v.as_array());
        list.into_iter()
            .flatten()
            .filter_map(|v| v.as_str())
            .map(str::to_owned)
    };
    let command: Vec<String> = words("Entrypoint").chain(words("Cmd")).collect();
    let environment: Vec<String> = container
        .environment()
        .into_iter()
        .map(str::to_owned)
        .collect();
    Recipe::recognise(&refloat_database::Container {
        image: &container.image.name,
        environment: &environment,
        command: &command,
    })
}

/// What lies beside a database's data in its mounts and does not come back where the dump does:
/// empty folders and the dot-files of programs that ran there are no loss.
pub(in crate::restore) fn beside(
    point: &dyn StoredPoint,
    holding: &Holding,
    reach: &Reach,
    container: &str,
) -> Option<String> {
    let wanted = &holding.containers.get(container)?.definition;
    let recipe = recipe(wanted)?;
    let mut found = Vec::new();
    // What cannot be listed is no whole copy, and named as that.
    let mut look = |folder: &TreePath, place: Option<&Path>, is_known: &dyn Fn(&str) -> bool| {
        for entry in point.list(folder).unwrap_or_default() {
            let name = String::from_utf8_lossy(&entry.name);
            if is_known(&name) || name == LOST_AND_FOUND || name.starts_with('.') {
                continue;
            }
            let is_there = place.is_some_and(|place| {
                let place = place.join(OsStr::from_bytes(&entry.name));
                place.symlink_metadata().is_ok()
            });
            let Ok(path) = child(folder, &entry.name) else {
                continue;
            };
            let is_empty = || point.list(&path).is_ok_and(|entries| entries.is_empty());
            if !is_there && (entry.kind != EntryKind::Directory || !is_empty()) {
                found.push(path.to_string());
            }
        }
    };
    'mounts: for mount in wanted.mounts.iter().filter(|mount| !mount.read_only) {
        let (Some(below), Some(data)) = (recipe.data_below(&mount.destination), &mount.data) else {
            continue;
        };
        let mut folder = match mount.kind {
            MountKind::Volume => data.child(VOLUME_DATA),
            _ => data.clone(),
        };
        // A bound folder stays as it is: only what the target lacks there is lost.
        let is_bound = mount.kind == MountKind::Bind && reach.is_local();
        let mut place = is_bound.then(|| Path::new(&mount.source).to_owned());
        for step in below.split('/').filter(|step| !step.is_empty()) {
            look(&folder, place.as_deref(), &|name| name == step);
            place = place.map(|place| place.join(step));
            // No name that a point can have: what lies above was looked at.
            let Ok(next) = child(&folder, step.as_bytes()) else {
                continue 'mounts;
            };
            folder = next;
        }
        look(&folder, place.as_deref(), &|name| recipe.is_dumped(name));
    }
    let first = found.first()?;
    Some(format!(
        "not restored beside the database's data: {} ({} in all); `restore POINT:PATH --target \
         FOLDER` brings them back",
        first,
        found.len()
    ))
}

/// Whether nothing is at a place, or an empty folder; what cannot be looked at may hold data.
pub(in crate::restore) fn is_free(place: &Path) -> bool {
    match place.symlink_metadata() {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(found) if found.is_dir() => {
            std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(_) => false,
    }
}

/// Whether a copy was made while nothing wrote to it.
const fn is_settled(record: &ItemRecord) -> bool {
    record.outcome.is_saved()
        && matches!(
            record.consistency,
            Some(Consistency::Application | Consistency::Quiesced | Consistency::Definition)
        )
}

impl Planner<'_> {
    /// Decides for every dumped database whether its dump or the copy of its files comes back.
    pub(super) fn database_rules(&mut self) -> DatabaseRules {
        let mut rules = DatabaseRules::default();
        for name in self.selection.dumps.clone() {
            let explicit =
                |kind, name: &str| self.selection.explicit.contains(&(kind, name.to_owned()));
            let dumped = self
                .holding
                .dumps
                .get(&name)
                .is_some_and(|d| d.record.outcome.is_saved());
            let Some(held) = self.holding.containers.get(&name) else {
                continue;
            };
            let Some(recipe) = recipe(&held.definition) else {
                continue;
            };
            let (mut volumes, mut binds) = (Vec::new(), Vec::new());
            for mount in &held.definition.mounts {
                if !self.holds_data(&recipe, mount) {
                    continue;
                }
                let old = self.old_name(ItemKind::Volume, &mount.source);
                if mount.kind == MountKind::Volume && self.holding.volumes.contains_key(&old) {
                    volumes.push(old);
                } else if let Some(path) = mount
                    .data
                    .clone()
                    .filter(|p| self.holding.binds.contains_key(p))
                {
                    binds.push(path);
                }
            }
            let records = volumes
                .iter()
                .filter_map(|v| Some(&self.holding.volumes.get(v)?.record));
            let records = records.chain(binds.iter().filter_map(|b| self.holding.binds.get(b)));
            let records: Vec<&ItemRecord> = records.collect();
            let settled = !records.is_empty() && records.iter().all(|r| is_settled(r));
            let asked = volumes.iter().any(|v| explicit(ItemKind::Volume, v));
            rules.volumes.insert(name.clone(), volumes.clone());
            if explicit(ItemKind::Dump, &name) && !asked {
                // Into whatever server is there; volumes are not touched beyond their selection.
            } else if asked {
                let why = "its volume was asked for by name".to_owned();
                rules.unneeded.insert(name.clone(), why);
                continue;
            } else if settled {
                let why = "its volume was copied while nothing wrote to it".to_owned();
                rules.unneeded.insert(name.clone(), why);
                continue;
            }
            if dumped {
                self.say_what_stays_behind(&name, &recipe, &volumes);
                if let Some(beside) = beside(self.point, &self.holding, self.ground.reach, &name) {
                    let subject = format!("container {name}");
                    self.findings.push(Finding::warning(subject, beside));
                }
                rules
                    .emptied
                    .extend(volumes.into_iter().map(|v| (v, name.clone())));
                rules
                    .emptied_binds
                    .extend(binds.into_iter().map(|b| (b, name.clone())));
            }
        }
        rules
    }

    fn say_what_stays_behind(&mut self, name: &str, recipe: &Recipe, volumes: &[String]) {
        let place = match volumes {
            [] => "its data folder".to_owned(),
            some => format!("volume {}", some.join(", ")),
        };
        let mut message = format!(
            "{} is restored from its dump into a new server; {place} starts empty",
            recipe.engine()
        );
        if let VolumeCopy::HoldsMore { what } = recipe.volume_copy() {
            message.push_str(&format!(
                ". What only the files hold ({what}) comes back with `--only volume:NAME`"
            ));
        }
        self.findings
            .push(Finding::note(format!("container {name}"), message));
    }

    /// The name in the point of a thing whose definition was renamed.
    pub(in crate::restore) fn old_name(&self, kind: ItemKind, name: &str) -> String {
        self.names.old(kind, name).unwrap_or(name).to_owned()
    }

    pub(super) fn decide_volumes(&mut self, rules: &DatabaseRules) {
        for name in &self.selection.volumes {
            let Some(held) = self.holding.volumes.get(name).cloned() else {
                continue;
            };
            let folder = held.record.item.path.clone();
            let (path, bytes) = match rules.emptied.get(name) {
                // The definition alone says: nothing of the copy is used.
                Some(_) => (folder.child(VOLUME_FILE), Some(0)),
                None => (folder.clone(), Some(held.record.bytes)),
            };
            let emptied = rules.emptied.contains_key(name);
            let action = if !is_name(&held.definition.name) {
                Action::Skip {
                    why: format!("{MISSING}the name is none an engine accepts"),
                }
            } else if held.record.outcome.is_saved() || emptied {
                let data = (!emptied).then(|| folder.child(VOLUME_DATA));
                let asked = (ItemKind::Volume, name.clone());
                let asked = self.selection.explicit.contains(&asked);
                let relation = self.volume_relation(&held.definition, data.as_ref(), asked);
                let place = match &relation {
                    Relation::Differs(_) | Relation::Unseen(_) => held.definition.place(),
                    _ => None,
                };
                let action = self.action(ItemKind::Volume, name, relation);
                let action = match place {
                    Some(place) => self.elsewhere(&held.definition, &place, emptied, action),
                    None => action,
                };
                let places = held.definition.bound_folder();
                let action = self.guarded(action, asked, places.as_slice());
                // What is there the engine removes, and what is not there cannot be emptied.
                let is_emptied = emptied && !self.is_out_of_reach(&held.definition);
                match (is_emptied, &action) {
                    (true, Action::Replace { .. }) => {
                        self.emptied_action(&held.definition.name, action)
                    }
                    _ => action,
                }
            } else {
                Action::Skip {
                    why: format!("{MISSING}its copy is not whole"),
                }
            };
            let bytes = bytes.filter(|_| super::is_made(&action));
            self.warn_of_users(name, &held.definition.name, &action);
            self.step(ItemKind::Volume, name, &held.record, path, action, bytes);
        }
    }

    fn volume_relation(
        &self,
        wanted: &VolumeDefinition,
        data: Option<&TreePath>,
        asked: bool,
    ) -> Relation {
        let name = &wanted.name;
        let Some((found, mountpoint)) = self.ground.present.volumes.get(name) else {
            // A copy that was begun and given up is ours, wherever it lies. What a dump is to fill was
            // empty then: what is there now came since.
            return match self.ground.notes.progress(ItemKind::Volume, name) {
                Progress::Begun if data.is_some() => Relation::Unfinished,
                _ => self.data_elsewhere(wanted, data),
            };
        };
        match self.ground.notes.progress(ItemKind::Volume, name) {
            // What was asked for by name is looked at, whatever was noted.
            Progress::Done if !asked => return Relation::Equal,
            Progress::Begun => return Relation::Unfinished,
            Progress::Done | Progress::Untouched => {}
        }
        let places = compare::volumes(wanted, found);
        if !places.is_empty() {
            let places = places.join(", ");
            return Relation::Differs(format!(
                "the target has a volume {name} that differs in {places}"
            ));
        }
        let Some(data) = data else {
            return Relation::Differs(format!("the target has a volume {name} with data"));
        };
        match self.ground.reach.volume_folder(found, mountpoint) {
            Some(folder) => match likeness::compare(self.point, data, &folder) {
                None => Relation::Equal,
                Some(difference) => Relation::Differs(format!(
                    "the target has a volume {name} with other data ({difference})"
                )),
            },
            None => Relation::Differs(format!(
                "the target has a volume {name} whose data cannot be looked at from here"
            )),
        }
    }

    /// Replacing a volume by an empty one that a dump fills: its old data must go. Where its
    /// folder is out of reach the volume itself has to, and with it whoever has it.
    fn emptied_action(&mut self, name: &str, replace: Action) -> Action {
        let present = self.ground.present;
        let place = present.volumes.get(name);
        let in_reach =
            place.is_some_and(|(v, at)| self.ground.reach.volume_folder(v, at).is_some());
        let mut foreign = Vec::new();
        for user in present.users_of_volume(name).filter(|_| !in_reach) {
            let user = &user.definition.name;
            let old = self.old_name(ItemKind::Container, user);
            match self.selection.containers.contains(&old) {
                true => drop(self.displaced.insert(user.clone())),
                false => foreign.push(user.clone()),
            }
        }
        if !foreign.is_empty() {
            return Action::Conflict {
                why: format!(
                    "its data is to be replaced, cannot be removed from here, and {} has it; \
                     remove that container first",
                    foreign.join(", ")
                ),
            };
        }
        if !matches!(
            self.ground.notes.progress(ItemKind::Volume, name),
            Progress::Begun
        ) {
            self.findings.push(Finding::warning(
                format!("volume {name}"),
                "its present data is removed; the dump is loaded in its place",
            ));
        }
        replace
    }

    /// Says whom replacing a volume's data stops.
    fn warn_of_users(&mut self, name: &str, target_name: &str, action: &Action) {
        if !matches!(action, Action::Replace { .. }) {
            return;
        }
        let users: BTreeSet<String> = self
            .ground
            .present
            .stopped_for_volume(target_name)
            .filter(|user| user.definition.started)
            .map(|user| user.definition.name.clone())
            .collect();
        if !users.is_empty() {
            let users = users.into_iter().collect::<Vec<_>>().join(", ");
            self.findings.push(Finding::warning(
                format!("volume {name}"),
                format!("{users} will be stopped while its data is replaced"),
            ));
        }
    }

    pub(super) fn decide_binds(&mut self, rules: &DatabaseRules) {
        // Outer folders first: what is bound inside them comes on top.
        let mut binds: Vec<(String, TreePath)> = self
            .selection
            .binds
            .iter()
            .map(|path| (self.bind_source(path).unwrap_or_default(), path.clone()))
            .collect();
        binds.sort();
        for (source, path) in binds {
            let Some(record) = self.holding.binds.get(&path).cloned() else {
                continue;
            };
            let action = if let Some(container) = rules.emptied_binds.get(&path) {
                Action::Skip {
                    why: format!("it is filled by the dump of {container}"),
                }
            } else if !record.outcome.is_saved() {
                Action::Skip {
                    why: format!("{MISSING}its copy is not whole"),
                }
            } else if source.is_empty() {
                Action::Skip {
                    why: "no container of the recovery point binds it".to_owned(),
                }
            } else if let Some(why) = self.ground.reach.refusal(&source) {
                Action::Skip {
                    why: format!("{MISSING}{source} is not written to: {why}"),
                }
            } else {
                let relation = self.bind_relation(&source, &path, &record.item.title);
                let named = self.is_bind_named(&path, &record.item.title);
                let action = self.action(ItemKind::Bind, &source, relation);
                match self.guarded(action, named, &[&source]) {
                    Action::Rename { .. } => {
                        self.names.remove(ItemKind::Bind, &source);
                        Action::Conflict {
                            why: "a host path cannot be restored under another name".to_owned(),
                        }
                    }
                    action => action,
                }
            };
            let name = if source.is_empty() {
                record.item.title.clone()
            } else {
                source
            };
            let bytes = Some(record.bytes).filter(|_| super::is_made(&action));
            self.step(ItemKind::Bind, &name, &record, path, action, bytes);
        }
    }

    /// Whether a bind was asked for by itself.
    fn is_bind_named(&self, path: &TreePath, title: &str) -> bool {
        [path.to_string(), title.to_owned()]
            .into_iter()
            .any(|name| self.selection.explicit.contains(&(ItemKind::Bind, name)))
    }

    fn bind_relation(&self, source: &str, path: &TreePath, title: &str) -> Relation {
        // What was asked for by name is looked at, whatever was noted.
        let asked = self.is_bind_named(path, title);
        match self.ground.notes.progress(ItemKind::Bind, source) {
            Progress::Done if !asked && !self.ground.reach.is_gone(source) => {
                return Relation::Equal;
            }
            Progress::Begun => return Relation::Absent,
            Progress::Done | Progress::Untouched => {}
        }
        if !self.ground.reach.is_local() {
            // Files of other names stay, those of the same name are replaced: said by the check.
            return Relation::Unseen(format!("{source} cannot be looked at from here"));
        }
        let place = Path::new(source);
        if is_free(place) {
            return Relation::Absent;
        }
        match likeness::compare_entry(self.point, path, place) {
            None => Relation::Equal,
            Some(difference) => Relation::Differs(format!(
                "{source} is there with other content ({difference})"
            )),
        }
    }

    /// What a server finds where it keeps its data, beside `volumes`, on which steps of their own
    /// decide: folders of the host, and volumes of which the point has nothing.
    pub(super) fn data_beside(&self, container: &str, volumes: &[String]) -> Option<Relation> {
        let wanted = &self.holding.containers.get(container)?.definition;
        let recipe = recipe(wanted)?;
        let owned = wanted
            .mounts
            .iter()
            .filter(|mount| self.holds_data(&recipe, mount));
        let mut found = owned.filter_map(|mount| match mount.kind {
            MountKind::Volume => {
                let old = self.old_name(ItemKind::Volume, &mount.source);
                let decided = volumes.contains(&old);
                let below = recipe.data_below(&mount.destination)?;
                (!decided).then(|| self.data_in_volume(&mount.source, below))?
            }
            MountKind::Bind => {
                let below = recipe.data_below(&mount.destination)?;
                self.data_in_folder(&Path::new(&mount.source).join(below))
            }
            MountKind::Tmpfs | MountKind::Other => None,
        });
        found.next()
    }

    fn data_in_volume(&self, name: &str, below: &str) -> Option<Relation> {
        let (volume, mountpoint) = self.ground.present.volumes.get(name)?;
        match self.ground.reach.volume_folder(volume, mountpoint) {
            Some(folder) if is_free(&folder.join(below)) => None,
            Some(_) => Some(Relation::Differs(format!(
                "the target has a volume {name} with data"
            ))),
            None => Some(Relation::Differs(format!(
                "the target has a volume {name} whose data cannot be looked at from here"
            ))),
        }
    }

    fn data_in_folder(&self, source: &Path) -> Option<Relation> {
        let shown = source.display();
        if !self.ground.reach.is_local() {
            let why = format!("{shown} cannot be looked at from here");
            return Some(Relation::Unseen(why));
        }
        // A link is followed, as the engine follows it.
        let place = source.canonicalize();
        let place = place.unwrap_or_else(|_| source.to_owned());
        (!is_free(&place)).then(|| Relation::Differs(format!("{shown} is there with data")))
    }

    /// Whether a mount holds the data of a server, which its dump fills: a writable folder.
    pub(super) fn holds_data(&self, recipe: &Recipe, mount: &MountDefinition) -> bool {
        let is_file = || {
            let stored = mount.data.as_ref().map(|path| self.point.stat(path));
            matches!(stored, Some(Ok(Some(entry))) if entry.kind != EntryKind::Directory)
        };
        !mount.read_only && recipe.owns_mount(&mount.destination) && !is_file()
    }

    /// The host path that containers bind the data at `path` from.
    pub(in crate::restore) fn bind_source(&self, path: &TreePath) -> Option<String> {
        self.holding.bind_source(path)
    }
}
