//! Files a container changed in its own filesystem.
//!
//! The engine exports a container's whole filesystem, without mounts, as one stream; what the
//! list of changes names is taken out of it.
//!
//! Invariant: the list and the files fit: both are asked for here, one after the other, and files
//! that came between are only missing from the list.

use std::collections::{BTreeMap, HashSet};

use refloat_model::cancel::Cancel;
use refloat_model::outcome::Consistency;
use refloat_source::SourceError;

use super::{Session, Unknown, failed};
use crate::archive::{TarTree, components, single_file};
use crate::client::{Client, EXPORT_TIMEOUT, encode};
use crate::discover::{ChangeKind, Changes};
use crate::layout::{ROOTFS_DATA, ROOTFS_FILE};

impl Session<'_> {
    pub(super) fn rootfs(&mut self, id: &str) -> Result<Consistency, SourceError> {
        let container = self
            .discovered
            .container(id)
            .ok_or_else(|| failed("find", self.item, Unknown))?;
        let mounts = &container.definition.mounts;
        let writer = self.writer(id);
        let target = format!("/containers/{}/changes", encode(id));
        let answer = self
            .client()
            .get(&target)
            .map_err(|error| self.fail("list the changes of", error))?;
        let changes = Changes::from_answer(&answer, mounts);
        self.enter(self.name)?;
        self.document(ROOTFS_FILE.as_bytes(), &changes)?;
        let wanted = Wanted::of(&changes);
        let client = self.client();
        let stream = client
            .download(
                &format!("/containers/{}/export", encode(id)),
                EXPORT_TIMEOUT,
                self.cancel,
            )
            .map_err(|error| self.fail("export", error))?;
        let tree = TarTree {
            keep: &|path| wanted.has(path),
            fetch: &|path| fetch(client, id, path, self.cancel),
        };
        let pushed = tree.push(stream, ROOTFS_DATA.as_bytes(), self.sink, self.cancel);
        let losses = pushed.map_err(|error| self.fail_archive(error))?;
        self.report(&losses);
        self.leave()?;
        Ok(self.consistency_of(&writer, id))
    }
}

/// Paths to take: what changed, and the directories on the way.
struct Wanted(HashSet<Vec<Vec<u8>>>);

impl Wanted {
    fn of(changes: &Changes) -> Self {
        let mut kinds = BTreeMap::new();
        for change in &changes.changes {
            let path = change.path.trim_start_matches('/').as_bytes();
            if let Some(path) = components(path) {
                kinds.insert(path, change.kind);
            }
        }
        let mut wanted = HashSet::new();
        for (path, kind) in kinds {
            if kind != ChangeKind::Deleted {
                for length in 1..=path.len() {
                    wanted.insert(path.iter().take(length).cloned().collect());
                }
            }
        }
        Self(wanted)
    }

    fn has(&self, path: &[Vec<u8>]) -> bool {
        self.0.contains(path)
    }
}

/// The content of a file of the container, for hard links.
fn fetch(
    client: &Client,
    id: &str,
    path: &[Vec<u8>],
    cancel: &Cancel,
) -> std::io::Result<Box<dyn std::io::Read + Send>> {
    let path = String::from_utf8(path.join(&b'/')).map_err(std::io::Error::other)?;
    let id = encode(id);
    let target = format!("/containers/{id}/archive?path=%2F{}", encode(&path));
    single_file(client.download(&target, EXPORT_TIMEOUT, cancel)?)
}
