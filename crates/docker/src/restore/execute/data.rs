//! Volumes and bind mounts.
//!
//! Invariant: a volume is noted as done only after its data was verified in place; one made here
//! that could not be filled is removed again.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use refloat_model::entry::{Entry, EntryKind};
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};
use refloat_model::progress::Counters;
use refloat_model::tree_path::TreePath;
use refloat_source::WrittenFolder;

use super::{Execution, Remarks};
use crate::client::encode;
use crate::definition::VolumeDefinition;
use crate::layout::{VOLUME_DATA, VOLUME_FILE};
use crate::restore::failure::Failure;
use crate::restore::journal::{Progress as Noted, gone};
use crate::restore::plan::{is_free, is_made};
use crate::restore::present::PresentContainer;
use crate::restore::reach::inspect_volume;
use crate::restore::{spec, strangers};

impl Execution<'_> {
    pub(super) fn volume(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(vec!["its data is as stored".to_owned()]);
        }
        let Some(held) = self.tools.holding.volumes.get(&step.name).cloned() else {
            return Err(Failure::Needs(format!(
                "volume {} is not in the point",
                step.name
            )));
        };
        let wanted = held.definition;
        let noted = self.journal.progress(ItemKind::Volume, &wanted.name);
        let found = self.look_at_volume(&wanted.name)?;
        // A plan that replaces has looked at what is there.
        let replaces = matches!(step.action, Action::Replace { .. });
        if noted == Noted::Done && found.is_some() && !replaces {
            return Ok(vec!["an earlier run restored it".to_owned()]);
        }
        if found.is_some() && noted == Noted::Untouched && !replaces {
            return Err(Failure::Outdated {
                subject: format!("volume {}", wanted.name),
                why: "it is there now".to_owned(),
            });
        }
        if let Some((definition, at)) = &found
            && let Some(place) = self.reach.volume_folder(definition, at)
            && let Some(mount) = strangers::mounts_below(&place)?.first()
        {
            // The engine, too, removes what is mounted in a volume with it.
            return Err(Failure::Needs(strangers::why_mounted(mount)));
        }
        let users: Vec<PresentContainer> = self
            .tools
            .present
            .stopped_for_volume(&wanted.name)
            .cloned()
            .collect();
        self.may_be_stopped(&users)?;
        self.journal.begin(ItemKind::Volume, &wanted.name)?;
        let stopped = self.release(&users)?;
        let in_place = self.clear_volume(&wanted.name, found.is_some())?;
        let filled = self.make_and_fill(step, &held.record.item.path, &wanted, in_place);
        match filled {
            Ok(remarks) => {
                self.journal.done(ItemKind::Volume, &wanted.name)?;
                Ok(remarks)
            }
            Err(failure) => {
                self.give_up_volume(&wanted.name, in_place, stopped);
                Err(failure)
            }
        }
    }

    fn look_at_volume(&self, name: &str) -> Result<Option<(VolumeDefinition, String)>, Failure> {
        let failed = Failure::engine("look at", format!("volume {name}"));
        inspect_volume(self.tools.client, name).map_err(failed)
    }

    fn make_and_fill(
        &mut self,
        step: &Step,
        folder: &TreePath,
        wanted: &VolumeDefinition,
        in_place: bool,
    ) -> Result<Remarks, Failure> {
        if !in_place {
            if let Some(folder) = self.reach.folder_of(wanted) {
                // The engine does not make it.
                make_folder(&folder)?;
            }
            let failed = Failure::engine("create", format!("volume {}", wanted.name));
            self.tools
                .client
                .post("/volumes/create", Some(&spec::volume(wanted)))
                .map_err(failed)?;
        }
        if step.path.name() == Some(VOLUME_FILE.as_bytes()) {
            if in_place {
                self.empty_volume(&wanted.name)?;
            } else {
                self.empty_place(step, wanted)?;
            }
            return Ok(vec!["empty, to be filled from a dump".to_owned()]);
        }
        let data = folder.child(VOLUME_DATA);
        if self.tools.point.stat(&data)?.is_none() {
            return Ok(vec!["the point holds its definition only".to_owned()]);
        }
        let (found, mountpoint) =
            self.look_at_volume(&wanted.name)?
                .ok_or_else(|| Failure::Outdated {
                    subject: format!("volume {}", wanted.name),
                    why: "it vanished".to_owned(),
                })?;
        match self.reach.volume_folder(&found, &mountpoint) {
            Some(place) => {
                if in_place {
                    strangers::remove(self.tools.point, &data, &place, self.tools.cancel)?;
                }
                let title = format!("volume {}", wanted.name);
                self.write_directly(&title, &data, &place)
            }
            None => {
                // What lies elsewhere was there before the volume.
                let replaces = matches!(step.action, Action::Replace { .. });
                let is_kept = replaces && wanted.place().is_some();
                self.deliver_volume(&wanted.name, &data, in_place || is_kept)
            }
        }
    }

    /// Empties a volume where it is: a server that finds old files does not take them for a new
    /// database, and the dump would be loaded on top of them. Its users have been stopped.
    fn empty_volume(&self, name: &str) -> Result<(), Failure> {
        let found = self.look_at_volume(name)?;
        let place = found.and_then(|(found, at)| self.reach.volume_folder(&found, &at));
        let Some(place) = place else {
            return Err(Failure::Needs(format!(
                "volume {name} holds data that cannot be removed through the engine's API while a \
                 container has it"
            )));
        };
        strangers::remove_all(&place)
    }

    /// Empties what a volume shows that was made anew and keeps its data elsewhere.
    fn empty_place(&self, step: &Step, wanted: &VolumeDefinition) -> Result<(), Failure> {
        // The plan says what cannot be looked at, and was allowed.
        let Some(folder) = self.reach.folder_of(wanted) else {
            return Ok(());
        };
        if !matches!(step.action, Action::Replace { .. }) && !is_free(&folder) {
            return Err(Failure::Outdated {
                subject: format!("folder {}", folder.display()),
                why: "it has data now".to_owned(),
            });
        }
        strangers::remove_all(&folder)
    }

    /// Whether a container of the target is started by the step that loads its dump, not before.
    pub(super) fn waits_for_dump(&self, container: &str) -> bool {
        self.plan.steps.iter().any(|step| {
            step.kind == ItemKind::Dump
                && is_made(&step.action)
                && self.tools.names.of(ItemKind::Container, &step.name) == container
        })
    }

    /// Writes a stored folder into one of this machine; every byte is verified in place.
    pub(super) fn write_directly(
        &self,
        title: &str,
        stored: &TreePath,
        place: &Path,
    ) -> Result<Remarks, Failure> {
        let written = self
            .tools
            .point
            .write_folder(stored, place, self.tools.cancel)?;
        let WrittenFolder {
            entries,
            bytes_verified,
            failures,
        } = written;
        Counters::add(&self.tools.progress.counters().bytes_done, bytes_verified);
        Counters::add(&self.tools.progress.counters().entries_done, entries);
        self.tools.cancel.check()?;
        match failures.first() {
            None => Ok(vec![format!(
                "{entries} entries, {bytes_verified} bytes verified"
            )]),
            Some(first) => Err(Failure::Entries {
                subject: title.to_owned(),
                count: failures.len(),
                first: first.clone(),
            }),
        }
    }

    /// Removes a volume that is to be made anew; true if it must be filled where it is, because
    /// containers that are not restored mount it.
    fn clear_volume(&self, name: &str, exists: bool) -> Result<bool, Failure> {
        if !exists {
            return Ok(false);
        }
        if self
            .tools
            .present
            .users_of_volume(name)
            .any(|user| !self.replaces(user))
        {
            return Ok(true);
        }
        let target = format!("/volumes/{}", encode(name));
        let removed = gone(self.tools.client.delete(&target));
        removed.map_err(Failure::engine("remove", format!("volume {name}")))?;
        Ok(false)
    }

    /// After a failure: what we made goes, and whoever would find it half-filled stays stopped.
    fn give_up_volume(&mut self, name: &str, in_place: bool, stopped: Vec<String>) {
        let subject = format!("volume {name}");
        if !in_place {
            let target = format!("/volumes/{}?force=true", encode(name));
            if let Err(error) = gone(self.tools.client.delete(&target)) {
                let message = format!("it is half-filled and could not be removed: {error}");
                self.findings.push(Finding::error(subject, message));
            }
            return;
        }
        self.withhold(subject, stopped);
    }

    pub(super) fn bind(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(vec!["its content is as stored".to_owned()]);
        }
        let source = step.name.clone();
        if let Some(why) = self.reach.refusal(&source) {
            return Err(Failure::Needs(format!("{source} is not written to: {why}")));
        }
        let noted = self.journal.progress(ItemKind::Bind, &source);
        let replaces = matches!(step.action, Action::Replace { .. });
        if noted == Noted::Done && !replaces && !self.reach.is_gone(&source) {
            return Ok(vec!["an earlier run restored it".to_owned()]);
        }
        let Some(entry) = self.tools.point.stat(&step.path)? else {
            return Err(Failure::Needs(format!(
                "{} is not in the recovery point",
                step.path
            )));
        };
        let place = Path::new(&source);
        if replaces
            && self.reach.is_local()
            && place.is_dir()
            && let Some(stranger) = strangers::mounted(self.tools.point, &step.path, place)?
        {
            return Err(Failure::Needs(strangers::why_mounted(&stranger)));
        }
        let users: Vec<PresentContainer> = self
            .tools
            .present
            .users_of_bind(&source, &self.reach)
            .cloned()
            .collect();
        self.may_be_stopped(&users)?;
        self.journal.begin(ItemKind::Bind, &source)?;
        let is_folder = entry.kind == EntryKind::Directory;
        if is_folder && self.reach.is_local() {
            make_folder(place)?;
        }
        // A file that is replaced is another file: who has it mounted keeps the old one.
        let stopped = self.release(&users)?;
        let written = match self.reach.is_local() {
            true => self.write_bind(step, &entry, place),
            false => self.deliver_bind(&source, &step.path, &entry),
        };
        // A file takes its place as the last thing: what fails before leaves the old one.
        if written.is_err() && (is_folder || !self.reach.is_local()) {
            self.withhold(format!("bind {source}"), stopped);
        }
        let remarks = written?;
        self.journal.done(ItemKind::Bind, &source)?;
        Ok(remarks)
    }

    fn write_bind(&self, step: &Step, entry: &Entry, place: &Path) -> Result<Remarks, Failure> {
        if entry.kind == EntryKind::Directory {
            if matches!(step.action, Action::Replace { .. }) {
                strangers::remove(self.tools.point, &step.path, place, self.tools.cancel)?;
            }
            return self.write_directly(&format!("bind {}", step.name), &step.path, place);
        }
        // A single file is written as part of the folder it is stored in, in a folder of its own,
        // and then moved: the folder around it on the host is not ours.
        let parent = place.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(Failure::local("make", parent))?;
        let staging = tempfile::Builder::new()
            .prefix(".refloat-")
            .tempdir_in(parent)
            .map_err(Failure::local("write into", parent))?;
        crate::restore::single_file::write(self.tools.point, &step.path, entry, staging.path())?;
        let name = std::ffi::OsStr::from_bytes(&entry.name);
        fs::rename(staging.path().join(name), place)
            .map_err(Failure::local("put into its place", place))?;
        Ok(vec!["1 file".to_owned()])
    }
}

/// Makes the folder of a bind if it is not there: not open to others before it has its own mode.
fn make_folder(place: &Path) -> Result<(), Failure> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(Failure::local("make", parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::local("make", place)(error))
        }
        _ => Ok(()),
    }
}
