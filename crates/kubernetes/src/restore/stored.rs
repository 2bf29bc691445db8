//! The objects of a recovery point, and which of them a request selects.
//!
//! Invariant: a request that names what the point does not hold is refused, never half done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use refloat_model::entry::EntryKind;
use refloat_model::plan::RestoreRequest;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredError, StoredPoint, TargetError};
use serde_json::Value;

use super::selection::Selection;
use super::unread::{Gaps, Unread};
use crate::kind::{name, namespace, object_name};
use crate::layout::{DOCUMENT_SUFFIX, Folder, SERVER_FILE};
use crate::yaml;

/// How many threads read and parse objects.
const READERS: usize = 4;

/// Folders are nested once (parts), never deeper.
const DEPTH_MAX: usize = 3;

/// One object as it was captured.
pub(super) struct Stored {
    pub(super) folder: Folder,
    pub(super) path: TreePath,
    pub(super) object: Value,
    /// What the server said of it, for the kinds whose restore depends on that.
    pub(super) server: Option<Value>,
    /// Whether that cannot be read.
    pub(super) is_server_lost: bool,
}

impl Stored {
    pub(super) fn id(&self) -> String {
        self.folder.id()
    }

    pub(super) fn name(&self) -> String {
        object_name(&self.id(), namespace(&self.object), name(&self.object))
    }
}

/// The objects a request selects.
pub(super) struct Selected {
    pub(super) objects: Vec<Stored>,
    /// Those that the request names one by one, as `roles.rbac.authorization.k8s.io/shop/r`.
    pub(super) named: BTreeSet<String>,
    /// Namespaces that the request names.
    pub(super) namespaces: BTreeSet<String>,
    /// Objects that only come along because something that was asked for needs them.
    pub(super) companions: BTreeSet<String>,
    /// Single fields that were asked for, as JSON pointers, by object.
    pub(super) fields: BTreeMap<String, Vec<String>>,
    /// What cannot be read.
    pub(super) gaps: Gaps,
}

/// Reads what `request` selects from the only source of this kind in the point.
pub(super) fn read(
    point: &dyn StoredPoint,
    request: &RestoreRequest,
) -> Result<Selected, TargetError> {
    let source = source(point)?;
    let folders: BTreeMap<TreePath, Folder> = point
        .items(&source)?
        .into_iter()
        .filter(|record| record.item.skip.is_none() && record.files > 0)
        .filter_map(|record| {
            Some((
                record.item.path.clone(),
                Folder::of_path(&record.item.path)?,
            ))
        })
        .collect();
    let selection = Selection::parse(&request.only)?;
    let is_all = request.only.is_empty();
    let mut found = Found::default();
    for (path, folder) in &folders {
        if is_all || selection.may_select(folder) {
            list(point, path, folder, 0, &mut found);
        }
    }
    let Read {
        mut objects,
        mut unread,
        servers,
    } = parse(point, found);
    // Storage that gives nothing at all is no damage of single objects.
    if objects.is_empty()
        && let Some(first) = unread.pop()
    {
        return Err(first.error.into());
    }
    let (mut companions, mut needed) = (BTreeSet::new(), BTreeSet::new());
    if !is_all {
        (objects, companions, needed) = selection.choose(objects);
        let spaces: BTreeSet<&String> = folders
            .values()
            .filter_map(|f| f.namespace.as_ref())
            .collect();
        selection.all_found(&objects, &unread, &spaces)?;
    }
    let mut gaps = Gaps::of(&unread, (!is_all).then_some(&selection), &needed);
    for (folder, error) in &servers {
        if objects
            .iter()
            .any(|o| o.is_server_lost && o.folder == *folder)
        {
            gaps.of_server(folder, error);
        }
    }
    Ok(Selected {
        objects,
        named: selection.objects,
        namespaces: selection.namespaces,
        companions,
        fields: selection.fields,
        gaps,
    })
}

fn source(point: &dyn StoredPoint) -> Result<String, TargetError> {
    let sources = &point.record().sources;
    let ours: Vec<&String> = sources
        .iter()
        .filter(|(_, record)| record.kind == "kubernetes")
        .map(|(name, _)| name)
        .collect();
    match ours.as_slice() {
        [one] => Ok((*one).clone()),
        several => Err(TargetError::NotInPoint {
            what: "single source of kind kubernetes".to_owned(),
            candidates: several.iter().map(|name| (*name).clone()).collect(),
        }),
    }
}

/// One document to read.
struct File {
    path: TreePath,
    folder: Folder,
}

/// What is to be read, and which folders do not say what they hold.
#[derive(Default)]
struct Found {
    files: Vec<File>,
    unread: Vec<Unread>,
}

/// What was read, and what could not be.
struct Read {
    objects: Vec<Stored>,
    unread: Vec<Unread>,
    /// Folders of which what the server said is missing.
    servers: BTreeMap<Folder, StoredError>,
}

fn list(
    point: &dyn StoredPoint,
    path: &TreePath,
    folder: &Folder,
    depth: usize,
    found: &mut Found,
) {
    let entries = match point.list(path) {
        Ok(entries) => entries,
        Err(error) => {
            let unread = Unread::folder(folder.clone(), path.clone(), error);
            found.unread.push(unread);
            return;
        }
    };
    for entry in entries {
        // Names come from a tree that was verified; one that is no name cannot be opened either.
        let Ok(inner) = path.clone().join(&entry.name) else {
            continue;
        };
        match entry.kind {
            EntryKind::Directory if depth < DEPTH_MAX => {
                list(point, &inner, folder, depth + 1, found);
            }
            EntryKind::File { .. } => found.files.push(File {
                path: inner,
                folder: folder.clone(),
            }),
            _ => {}
        }
    }
}

/// Kinds whose restore depends on what the server said.
fn needs_server(folder: &Folder) -> bool {
    let kind = (folder.group.as_str(), folder.resource.as_str());
    let is_custom = folder.group.contains('.') && !folder.group.ends_with(".k8s.io");
    is_custom
        || matches!(
            kind,
            ("", "services" | "pods")
                | ("batch", "jobs")
                | (
                    "snapshot.storage.k8s.io",
                    "volumesnapshots" | "volumesnapshotcontents"
                )
        )
}

fn parse(point: &dyn StoredPoint, found: Found) -> Read {
    let Found { files, mut unread } = found;
    let (documents, others): (Vec<File>, Vec<File>) = files
        .into_iter()
        .partition(|file| ends_with(&file.path, DOCUMENT_SUFFIX));
    let (mut server, servers) = said(point, others);
    let share = documents.len().div_ceil(READERS).max(1);
    let read = std::thread::scope(|scope| {
        let threads: Vec<_> = documents
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || chunk.iter().map(|f| one(point, f)).collect::<Vec<_>>())
            })
            .collect();
        let mut read = Vec::with_capacity(documents.len());
        for thread in threads {
            match thread.join() {
                Ok(part) => read.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read
    });
    let mut objects = Vec::with_capacity(read.len());
    for (file, read) in documents.into_iter().zip(read) {
        match read {
            Ok(stored) => objects.push(stored),
            Err(error) => unread.push(Unread::document(file.folder, file.path, error)),
        }
    }
    for stored in &mut objects {
        let key = (stored.folder.clone(), name(&stored.object).to_owned());
        stored.server = server.remove(&key);
        stored.is_server_lost = stored.server.is_none() && servers.contains_key(&stored.folder);
    }
    Read {
        objects,
        unread,
        servers,
    }
}

/// What the server said, by folder and name, and the folders of which that cannot be read.
fn said(
    point: &dyn StoredPoint,
    files: Vec<File>,
) -> (
    BTreeMap<(Folder, String), Value>,
    BTreeMap<Folder, StoredError>,
) {
    let (mut server, mut lost) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        if !needs_server(&file.folder) || !ends_with(&file.path, SERVER_FILE) {
            continue;
        }
        let bytes = match bytes(point, &file.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                lost.insert(file.folder, error);
                continue;
            }
        };
        for line in bytes.split(|byte| *byte == b'\n') {
            // A line that cannot be read costs knowledge about one object, not the object.
            if let Ok(value) = serde_json::from_slice::<Value>(line)
                && let Some(name) = value.get("name").and_then(Value::as_str)
            {
                server.insert((file.folder.clone(), name.to_owned()), value);
            }
        }
    }
    (server, lost)
}

fn ends_with(path: &TreePath, suffix: &str) -> bool {
    path.name()
        .is_some_and(|name| name.ends_with(suffix.as_bytes()))
}

fn bytes(point: &dyn StoredPoint, path: &TreePath) -> Result<Vec<u8>, StoredError> {
    let mut bytes = Vec::new();
    match point.open(path)?.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(cannot_read(path, error)),
    }
}

fn one(point: &dyn StoredPoint, file: &File) -> Result<Stored, StoredError> {
    let object = yaml::read(&bytes(point, &file.path)?).map_err(|e| cannot_read(&file.path, e))?;
    Ok(Stored {
        folder: file.folder.clone(),
        path: file.path.clone(),
        object,
        server: None,
        is_server_lost: false,
    })
}

fn cannot_read(
    path: &TreePath,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> StoredError {
    StoredError {
        operation: "read",
        path: path.clone(),
        cause: Box::new(cause),
    }
}
