//! What a recovery point holds of one Docker host, read once.
//!
//! Invariant: a definition that cannot be read or understood is named in `damaged`, never left
//! out in silence.

use std::collections::BTreeMap;
use std::io::Read;

use refloat_model::entry::EntryKind;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::point::ItemRecord;
use refloat_model::subject::SubjectKind;
use refloat_model::tree_path::{TreePath, unescape};
use refloat_source::{StoredError, StoredPoint, TargetError};

use super::failure::Failure;
use super::registry_images::name_fits;
use crate::definition::{
    self, Changes, ContainerDefinition, Document, HostDefinition, ImageDefinition,
    NetworkDefinition, ObjectKind, ProjectDefinition, SwarmObject, VolumeDefinition,
};
use crate::discover::named_image;
use crate::error::chain;
use crate::layout::{IMAGE_FILE, Layout, PROJECT_FILE, ROOTFS_FILE, VOLUME_FILE};

/// The largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One thing of the point with its definition.
#[derive(Clone, Debug)]
pub(super) struct Held<D> {
    /// Its line of the manifest.
    pub(super) record: ItemRecord,
    /// Its definition, renamed where the restore renames it.
    pub(super) definition: D,
}

/// The dumps of one container.
#[derive(Clone, Debug)]
pub(super) struct HeldDumps {
    /// Its line of the manifest.
    pub(super) record: ItemRecord,
    /// Name, place and size of each file.
    pub(super) files: Vec<(String, TreePath, u64)>,
}

/// All that a point holds of one Docker host. Keys are the names in the point.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) layout: Layout,
    pub(super) host: Option<HostDefinition>,
    pub(super) containers: BTreeMap<String, Held<ContainerDefinition>>,
    pub(super) networks: BTreeMap<String, Held<NetworkDefinition>>,
    pub(super) volumes: BTreeMap<String, Held<VolumeDefinition>>,
    pub(super) projects: BTreeMap<String, Held<ProjectDefinition>>,
    /// By image id.
    pub(super) images: BTreeMap<String, Held<ImageDefinition>>,
    pub(super) binds: BTreeMap<TreePath, ItemRecord>,
    /// By container name.
    pub(super) dumps: BTreeMap<String, HeldDumps>,
    /// Changed root filesystems, by container name.
    pub(super) rootfs: BTreeMap<String, Held<Changes>>,
    /// By kind and name.
    pub(super) swarm: BTreeMap<(ObjectKind, String), Held<SwarmObject>>,
    /// Items that are not whole or not readable, with the reason.
    pub(super) damaged: Vec<(ItemRecord, String)>,
    /// What a person should know of what is not restored.
    pub(super) notes: Vec<Finding>,
}

impl Holding {
    /// Nothing of a source with this name.
    pub(super) fn empty(source: &str) -> Self {
        Self {
            layout: Layout::new(source),
            host: None,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            projects: BTreeMap::new(),
            images: BTreeMap::new(),
            binds: BTreeMap::new(),
            dumps: BTreeMap::new(),
            rootfs: BTreeMap::new(),
            swarm: BTreeMap::new(),
            damaged: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Reads everything the point holds of `source`.
    pub(super) fn read(point: &dyn StoredPoint, source: &str) -> Result<Self, TargetError> {
        let mut holding = Self::empty(source);
        for record in point.items(source)? {
            // What was skipped by a rule is not expected to be here.
            if record.item.skip.is_none()
                && let Err(failure) = holding.add(point, record.clone())
            {
                holding.damaged.push((record, chain(&failure)));
            }
        }
        Ok(holding)
    }

    fn add(&mut self, point: &dyn StoredPoint, record: ItemRecord) -> Result<(), Failure> {
        let path = record.item.path.clone();
        if !record.outcome.is_saved() && !record.outcome.is_incomplete() {
            return Ok(());
        }
        match record.item.kind {
            ItemKind::Host => self.host = Some(document(point, &path)?),
            ItemKind::Container => {
                let definition: ContainerDefinition = document(point, &path)?;
                let name = definition.name.clone();
                self.containers.insert(name, Held { record, definition });
            }
            ItemKind::Network => {
                let mut definition: NetworkDefinition = document(point, &path)?;
                definition.normalise();
                let name = definition.name.clone();
                self.networks.insert(name, Held { record, definition });
            }
            ItemKind::Volume => {
                let definition: VolumeDefinition = document(point, &path.child(VOLUME_FILE))?;
                let name = definition.name.clone();
                self.volumes.insert(name, Held { record, definition });
            }
            ItemKind::Project => {
                let definition: ProjectDefinition = document(point, &path.child(PROJECT_FILE))?;
                let name = definition.name.clone();
                self.projects.insert(name, Held { record, definition });
            }
            ItemKind::Image => {
                let definition: ImageDefinition = document(point, &path.child(IMAGE_FILE))?;
                let id = definition.id.clone();
                self.images.insert(id, Held { record, definition });
            }
            ItemKind::Bind => drop(self.binds.insert(path, record)),
            ItemKind::Dump => self.add_dump(point, record)?,
            ItemKind::RootFilesystem => {
                let definition: Changes = document(point, &path.child(ROOTFS_FILE))?;
                let container = self.container_of(&path)?;
                self.rootfs.insert(container, Held { record, definition });
            }
            ItemKind::Object => {
                let mut definition: SwarmObject = document(point, &path)?;
                // Points of before had ids beside the names.
                definition.normalise();
                let key = (definition.kind, definition.name.clone());
                self.swarm.insert(key, Held { record, definition });
            }
            ItemKind::Folder => {}
        }
        Ok(())
    }

    /// The container whose things lie at `/docker/<source>/<kind>/<container>/…`.
    fn container_of(&self, path: &TreePath) -> Result<String, Failure> {
        let depth = self.layout.root().components().len() + 1;
        let component = path.components().get(depth);
        component
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(unescape)
            .ok_or_else(|| Failure::Needs(format!("{path} names no container")))
    }

    /// A dump item is one file, or the folder of all files of a container.
    fn add_dump(&mut self, point: &dyn StoredPoint, record: ItemRecord) -> Result<(), Failure> {
        let path = &record.item.path;
        let container = self.container_of(path)?;
        let entry = point.stat(path)?;
        let mut files = Vec::new();
        match entry.as_ref().map(|e| &e.kind) {
            Some(EntryKind::Directory) => {
                for entry in point.list(path)? {
                    if let (EntryKind::File { size }, Ok(name)) =
                        (&entry.kind, String::from_utf8(entry.name.clone()))
                    {
                        let path = child(path, &entry.name)?;
                        files.push((name, path, *size));
                    }
                }
            }
            Some(EntryKind::File { size }) => {
                let name = path.name().map(String::from_utf8_lossy).unwrap_or_default();
                files.push((name.into_owned(), path.clone(), *size));
            }
            _ => {
                return Err(Failure::Needs(format!(
                    "{path} is not in the recovery point"
                )));
            }
        }
        let held = self.dumps.entry(container).or_insert_with(|| HeldDumps {
            record: record.clone(),
            files: Vec::new(),
        });
        if record.outcome.is_incomplete() {
            held.record = record;
        }
        held.files.extend(files);
        Ok(())
    }

    /// An image by id or by any of its names, with or without its registry.
    pub(super) fn image_named(&self, name: &str) -> Option<&ImageDefinition> {
        let mut images = self.images.values().map(|held| &held.definition);
        images.find(|image| {
            image.id == name
                || image.tags.iter().any(|tag| {
                    named_image(tag, "") == named_image(name, "") || name_fits(tag, name)
                })
        })
    }

    /// The image with this id, if the point holds it.
    pub(super) fn image(&self, id: &str) -> Option<&Held<ImageDefinition>> {
        self.images.get(id)
    }
}

/// The stored child of a stored directory: its name is a valid component already.
pub(super) fn child(path: &TreePath, name: &[u8]) -> Result<TreePath, Failure> {
    path.clone()
        .join(name)
        .map_err(|e| Failure::Needs(e.to_string()))
}

/// Reads one JSON document of the point.
pub(super) fn document<D: Document>(
    point: &dyn StoredPoint,
    path: &TreePath,
) -> Result<D, Failure> {
    let bytes = bytes(point, path)?;
    definition::from_bytes(&bytes).map_err(|source| Failure::Document {
        path: path.to_string(),
        source: Box::new(source),
    })
}

/// Reads a small file of the point.
pub(super) fn bytes(point: &dyn StoredPoint, path: &TreePath) -> Result<Vec<u8>, StoredError> {
    let mut bytes = Vec::new();
    point
        .open(path)?
        .take(DOCUMENT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| StoredError {
            operation: "read",
            path: path.clone(),
            cause: Box::new(error),
        })?;
    Ok(bytes)
}

impl Holding {
    /// The host path whose data lies at `path`: containers that bind it say so.
    pub(super) fn bind_source(&self, path: &TreePath) -> Option<String> {
        let mounts = self
            .containers
            .values()
            .flat_map(|held| &held.definition.mounts);
        let mut sources = mounts
            .filter(|mount| mount.kind == definition::MountKind::Bind)
            .filter(|mount| mount.data.as_ref() == Some(path))
            .map(|mount| mount.source.clone());
        // Tasks of a swarm are no containers of the point; what the item brings back tells.
        sources.next().or_else(|| {
            let mut provides = self.binds.get(path)?.item.provides.iter();
            let bind = provides.find(|subject| subject.kind == SubjectKind::Bind)?;
            Some(bind.name.clone())
        })
    }
}
