//! Data into places that only the engine reaches: as a tar through a container that never runs.
//!
//! Invariant: what was sent is read back and compared with what is stored before it counts.

use refloat_model::entry::{Entry, EntryKind, TreeSink as _};
use refloat_model::finding::Finding;
use refloat_model::progress::Counters;
use refloat_model::tree_path::TreePath;
use serde_json::json;

use super::{Execution, Remarks};
use crate::client::{EXPORT_TIMEOUT, encode};
use crate::definition::ProjectDefinition;
use crate::restore::archive::TarSink;
use crate::restore::failure::Failure;
use crate::restore::holding::Held;
use crate::restore::journal::gone;
use crate::restore::{pipe, projects, readback};

/// Where the carried-to place is mounted in the carrier.
const MOUNT: &str = "refloat";

impl Execution<'_> {
    pub(super) fn deliver_volume(
        &mut self,
        name: &str,
        data: &TreePath,
        in_place: bool,
    ) -> Result<Remarks, Failure> {
        if in_place {
            self.findings.push(Finding::warning(
                format!("volume {name}"),
                "files that the recovery point does not have stay in it: the engine's API cannot \
                 remove them",
            ));
        }
        let mount = json!({"Mounts": [{
            "Type": "volume", "Source": name, "Target": format!("/{MOUNT}"),
            "VolumeOptions": {"NoCopy": true},
        }]});
        let title = format!("volume {name}");
        self.through_carrier(&title, name, mount, |this, carrier| {
            this.deliver_folder(&title, carrier, data)
        })
    }

    pub(super) fn deliver_bind(
        &mut self,
        source: &str,
        stored: &TreePath,
        entry: &Entry,
    ) -> Result<Remarks, Failure> {
        let title = format!("bind {source}");
        if entry.kind == EntryKind::Directory {
            return self.through_carrier(&title, source, bind_mount(source), |this, carrier| {
                this.deliver_folder(&title, carrier, stored)
            });
        }
        let (folder, file) = split(source);
        self.through_carrier(&title, source, bind_mount(folder), |this, carrier| {
            this.deliver_file(&title, carrier, stored, file, entry)?;
            Ok(vec!["1 file".to_owned()])
        })
    }

    pub(super) fn deliver_project(
        &mut self,
        held: &Held<ProjectDefinition>,
    ) -> Result<usize, Failure> {
        let mut delivered = 0;
        for file in projects::files(self.tools.point, held, &self.reach) {
            let Some(entry) = &file.entry else {
                continue;
            };
            let (folder, name) = split(&file.target);
            let title = format!("file {}", file.target);
            self.through_carrier(&title, &file.target, bind_mount(folder), |this, carrier| {
                this.deliver_file(&title, carrier, &file.stored, name, entry)?;
                Ok(Vec::new())
            })?;
            delivered += 1;
        }
        Ok(delivered)
    }

    /// Makes a carrier with one mount, uses it, and removes it whatever happens.
    fn through_carrier(
        &mut self,
        title: &str,
        name: &str,
        mount: serde_json::Value,
        work: impl FnOnce(&mut Self, &str) -> Result<Remarks, Failure>,
    ) -> Result<Remarks, Failure> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = name.chars().map(plain).collect();
        let name = format!("refloat-carrier-{}", name.trim_matches('-'));
        let target = format!("/containers/{}?force=true&v=false", encode(&name));
        let client = self.tools.client;
        // One of an earlier run that was killed.
        gone(client.delete(&target)).map_err(Failure::engine("remove", name.clone()))?;
        let made = self.journal.carrier(&name, mount);
        made.map_err(Failure::engine("make a carrier for", title.to_owned()))?;
        let result = work(self, &name);
        let removed = gone(client.delete(&target)).map_err(Failure::engine("remove", name));
        let remarks = result?;
        removed?;
        Ok(remarks)
    }

    fn deliver_folder(
        &mut self,
        title: &str,
        carrier: &str,
        stored: &TreePath,
    ) -> Result<Remarks, Failure> {
        let tools = &self.tools;
        let root = tools.point.stat(stored)?;
        let target = format!("/containers/{}/archive?path=/", encode(carrier));
        let failed = || Failure::engine("fill", title.to_owned());
        let ((entries, failures), _) = pipe::stream(
            |output| {
                let mut tar = TarSink::new(output, MOUNT);
                if let Some(root) = &root {
                    tar.root(root)?;
                }
                tools.point.walk(stored, &mut tar, tools.cancel)?;
                Ok::<_, Failure>(tar.finish()?)
            },
            |body| tools.client.upload("PUT", &target, body).map_err(failed()),
        )?;
        tools.cancel.check()?;
        if let Some(first) = failures.first() {
            return Err(Failure::Entries {
                subject: title.to_owned(),
                count: failures.len(),
                first: first.clone(),
            });
        }
        let source = format!("/containers/{}/archive?path=/{MOUNT}", encode(carrier));
        let read = tools.client.download(&source, EXPORT_TIMEOUT, tools.cancel);
        let read = read.map_err(Failure::engine("read back", title.to_owned()))?;
        let read = readback::Archive::of_folder(read);
        let bytes = readback::compare(tools.point, stored, read, title)?;
        Counters::add(&tools.progress.counters().bytes_done, bytes);
        Counters::add(&tools.progress.counters().entries_done, entries);
        Ok(vec![format!(
            "{entries} entries, {bytes} bytes read back and equal"
        )])
    }

    fn deliver_file(
        &mut self,
        title: &str,
        carrier: &str,
        stored: &TreePath,
        name: &str,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let tools = &self.tools;
        let mut entry = entry.clone();
        entry.name = name.as_bytes().to_vec();
        let target = format!("/containers/{}/archive?path=/", encode(carrier));
        let content = tools.point.open(stored)?;
        let ((_, failures), _) = pipe::stream(
            |output| {
                let mut tar = TarSink::new(output, MOUNT);
                let mut content = content;
                tar.stream(entry, &mut content)
                    .map_err(|error| Failure::Stream(std::io::Error::other(error)))?;
                Ok::<_, Failure>(tar.finish()?)
            },
            |body| {
                let sent = tools.client.upload("PUT", &target, body);
                sent.map_err(Failure::engine("write", title.to_owned()))
            },
        )?;
        match failures.first() {
            None => Ok(()),
            Some(first) => Err(Failure::Needs(first.clone())),
        }
    }
}

/// A folder of the engine's machine, made if it is not there.
fn bind_mount(folder: &str) -> serde_json::Value {
    // The older way to say it: engines make the folder then.
    json!({"Binds": [format!("{folder}:/{MOUNT}")]})
}

/// The folder and the name of an absolute path.
fn split(path: &str) -> (&str, &str) {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => ("/", path),
    }
}
