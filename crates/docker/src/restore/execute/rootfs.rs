//! What a container had written into its own filesystem, before it starts again.
//!
//! Files go in through the engine's archive API. It cannot remove anything: what the container had
//! deleted of its image is removed in the container's own layer, where that is within reach.
//!
//! Invariant: the container exists and has never run; it is started only if all of this came back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use refloat_localfs::{FolderWriter, RelativePath};
use refloat_model::entry::{EntryKind, Metadata};
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};
use refloat_model::progress::Counters;
use serde_json::Value;

use super::{Execution, Remarks};
use crate::client::{EXPORT_TIMEOUT, encode};
use crate::definition::ChangeKind;
use crate::layout::ROOTFS_DATA;
use crate::restore::archive::TarSink;
use crate::restore::failure::Failure;
use crate::restore::pipe;
use crate::restore::plan::is_made;
use crate::restore::readback::{self, Prefix};

/// How many paths a message names.
const EXAMPLES_MAX: usize = 3;

impl Execution<'_> {
    pub(super) fn root_filesystem(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(vec!["an earlier run restored it".to_owned()]);
        }
        let name = self
            .tools
            .names
            .of(ItemKind::Container, &step.name)
            .to_owned();
        if self.has_failed(ItemKind::Container, &step.name) {
            return Err(Failure::Needs(format!("container {name} was not created")));
        }
        let held = self.tools.holding.rootfs.get(&step.name).cloned();
        let Some(held) = held else {
            return Err(Failure::Needs(format!(
                "{} is not in the recovery point",
                step.path
            )));
        };
        let title = format!("the filesystem of container {name}");
        self.tools.progress.phase(&format!("restoring {title}"));
        self.journal.begin(ItemKind::RootFilesystem, &name)?;
        let sent = self.send_files(step, &name, &title)?;
        let deleted = held.definition.changes.iter();
        let deleted: Vec<&str> = deleted
            .filter(|change| change.kind == ChangeKind::Deleted)
            .map(|change| change.path.as_str())
            .collect();
        let kept = self.delete(&name, &deleted)?;
        let removed = deleted.len() - kept.len();
        let bytes = self.verify(step, &name, &title, &deleted, &kept)?;
        if !kept.is_empty() {
            let examples: Vec<&str> = kept.iter().copied().take(EXAMPLES_MAX).collect();
            self.findings.push(Finding::error(
                format!("container {name}"),
                format!(
                    "{} paths that it had deleted from its image are there again, because the \
                     engine's API cannot remove them: {}",
                    kept.len(),
                    examples.join(", ")
                ),
            ));
        }
        self.journal.done(ItemKind::RootFilesystem, &name)?;
        Ok(vec![format!(
            "{sent} entries, {bytes} bytes read back and equal, {removed} removed"
        )])
    }

    /// Notes, before a container exists, that it is not whole without its own files.
    pub(super) fn expect_root_filesystem(&self, name: &str) -> Result<(), Failure> {
        let comes = self.plan.steps.iter().any(|step| {
            step.kind == ItemKind::RootFilesystem && step.name == name && is_made(&step.action)
        });
        match comes {
            true => {
                let target = self.tools.names.of(ItemKind::Container, name);
                self.journal.begin(ItemKind::RootFilesystem, target)
            }
            false => Ok(()),
        }
    }

    fn send_files(&self, step: &Step, name: &str, title: &str) -> Result<u64, Failure> {
        let tools = &self.tools;
        let stored = step.path.child(ROOTFS_DATA);
        let target = format!("/containers/{}/archive?path=/", encode(name));
        let ((entries, failures), _) = pipe::stream(
            |output| {
                let mut tar = TarSink::new(output, "");
                tools.point.walk(&stored, &mut tar, tools.cancel)?;
                Ok::<_, Failure>(tar.finish()?)
            },
            |body| {
                let sent = tools.client.upload("PUT", &target, body);
                sent.map_err(Failure::engine("fill", title.to_owned()))
            },
        )?;
        tools.cancel.check()?;
        match failures.first() {
            None => Ok(entries),
            Some(first) => Err(Failure::Entries {
                subject: title.to_owned(),
                count: failures.len(),
                first: first.clone(),
            }),
        }
    }

    /// Removes paths of the image from a container that is not mounted; gives those that stay.
    fn delete<'p>(&self, name: &str, paths: &[&'p str]) -> Result<Vec<&'p str>, Failure> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let Some(layer) = self.own_layer(name)? else {
            return Ok(paths.to_vec());
        };
        let failed = |source: refloat_localfs::WriteError| {
            let source = std::io::Error::other(source);
            Failure::local("remove paths of the image in", &layer)(source)
        };
        let writer = FolderWriter::open(&layer).map_err(failed)?;
        // In a layer of overlayfs a device with the number 0 stands for "deleted".
        let whiteout = EntryKind::CharacterDevice { device: 0 };
        let metadata = Metadata::synthetic(&whiteout);
        let mut kept = Vec::new();
        for path in paths {
            let below = path.trim_start_matches('/').as_bytes();
            let made = match RelativePath::parse(below) {
                Ok(below) => writer.create_node(&below, &whiteout, &metadata).is_ok(),
                Err(_) => false,
            };
            if !made {
                kept.push(*path);
            }
        }
        Ok(kept)
    }

    /// The folder with what a container has of its own, where it is overlayfs' and this machine's.
    fn own_layer(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let Some(root) = &self.reach.data_root else {
            return Ok(None);
        };
        let inspect = self.inspect(name)?;
        let text = |path: &str| inspect.pointer(path).and_then(Value::as_str);
        let upper = text("/GraphDriver/Data/UpperDir").map(PathBuf::from);
        let is_overlay = text("/GraphDriver/Name").is_some_and(|name| name.starts_with("overlay"));
        // A rootless engine's whiteouts are not made by us.
        Ok(upper.filter(|upper| is_overlay && upper.starts_with(root) && upper.is_dir()))
    }

    fn verify(
        &self,
        step: &Step,
        name: &str,
        title: &str,
        deleted: &[&str],
        kept: &[&str],
    ) -> Result<u64, Failure> {
        let tools = &self.tools;
        let gone: BTreeSet<&str> = deleted.iter().copied().collect();
        let gone: BTreeSet<&str> = gone
            .into_iter()
            .filter(|path| !kept.contains(path))
            .collect();
        let target = format!("/containers/{}/export", encode(name));
        let read = tools.client.download(&target, EXPORT_TIMEOUT, tools.cancel);
        let read = read.map_err(Failure::engine("read back", title.to_owned()))?;
        let stored = step.path.child(ROOTFS_DATA);
        let read = readback::Archive {
            stream: Box::new(read),
            prefix: Prefix::None,
            absent: gone,
        };
        let bytes = readback::compare(tools.point, &stored, read, title)?;
        Counters::add(&tools.progress.counters().bytes_done, bytes);
        Ok(bytes)
    }
}
