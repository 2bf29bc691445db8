//! The source itself: discover and capture.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use refloat_localfs::walk::{Candidate, LookAhead};
use refloat_localfs::{Owners, WalkError, WalkOptions, WalkSummary, walk_entry};
use refloat_model::cancel::Cancel;
use refloat_model::entry::TreeSink;
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Inventory, Item, ItemKind, Workload};
use refloat_model::outcome::Consistency;
use refloat_model::tree_path::TreePath;
use refloat_source::{Description, NothingHeld, Quiesced, Source, SourceError};

use crate::rules::Rules;
use crate::{FilesError, FilesOptions};

/// Identifies a Linux machine, also when it is renamed.
const MACHINE_ID: &str = "/etc/machine-id";

/// Folders, or single files, of this machine.
#[derive(Debug)]
pub struct FilesSource {
    name: String,
    roots: Vec<Root>,
    rules: Rules,
    options: FilesOptions,
    owners: Arc<Owners>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    in_point: TreePath,
}

/// What discovery found at a root.
enum Found {
    Folder { is_empty: bool },
    File { size: u64 },
    Other,
}

impl FilesSource {
    /// A source called `name` that captures each of `roots`, which are absolute paths.
    ///
    /// # Errors
    /// There is no root, one is not absolute or lies in another one, or a pattern is not valid.
    /// Whether the roots exist is asked by [`discover`](Source::discover).
    pub fn new(
        name: impl Into<String>,
        roots: impl IntoIterator<Item = PathBuf>,
        options: FilesOptions,
    ) -> Result<Self, FilesError> {
        let name = name.into();
        let roots: Vec<Root> = roots
            .into_iter()
            .map(|path| Root::new(&name, &path))
            .collect::<Result<_, _>>()?;
        if roots.is_empty() {
            return Err(FilesError::NoRoots);
        }
        refuse_nested(&roots)?;
        Ok(Self {
            rules: Rules::compile(&options)?,
            owners: Arc::new(Owners::system()),
            name,
            roots,
            options,
        })
    }

    fn walk(
        &self,
        root: &Root,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<WalkSummary, WalkError> {
        let exclude = |candidate: &Candidate<'_>| self.rules.leave_out(&root.path, candidate);
        let options = WalkOptions {
            exclude: Some(&exclude),
            mounts: self.options.mounts,
            caches: self.options.caches,
            owners: Arc::clone(&self.owners),
            look_ahead: LookAhead::default(),
        };
        let name = root.in_point.name().unwrap_or_default();
        walk_entry(&root.path, name, &options, sink, cancel)
    }
}

impl Source for FilesSource {
    fn description(&self) -> Description {
        let paths: Vec<String> = self.roots.iter().map(Root::title).collect();
        Description {
            name: self.name.clone(),
            kind: "files",
            address: paths.join(", "),
        }
    }

    /// A root that cannot be read is a finding if others can, and its capture will fail.
    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError> {
        let mut inventory = Inventory {
            // A machine without an id (a container) cannot be told from others.
            identity: fs::read_to_string(MACHINE_ID)
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            ..Inventory::default()
        };
        let mut unreadable = None;
        for root in &self.roots {
            cancel
                .check()
                .map_err(|_cancelled| SourceError::Cancelled)?;
            let title = root.title();
            let mut bytes_estimate = None;
            match look(&root.path) {
                Ok(Found::Folder { is_empty: false } | Found::Other) => {}
                Ok(Found::Folder { is_empty: true }) => {
                    inventory.findings.push(Finding::warning(&title, EMPTY));
                }
                Ok(Found::File { size }) => bytes_estimate = Some(size),
                Err(cause) => {
                    let message = format!("cannot be read: {cause}");
                    inventory.findings.push(Finding::error(&title, message));
                    unreadable.get_or_insert((root, cause));
                }
            }
            if let Some(finding) = root.link_finding() {
                inventory.findings.push(finding);
            }
            inventory.workloads.push(Workload {
                name: title.clone(),
                kind: "folder".to_owned(),
                requires: Vec::new(),
            });
            inventory.items.push(root.item(bytes_estimate));
        }
        let failures = inventory
            .findings
            .iter()
            .filter(|finding| finding.severity == refloat_model::finding::Severity::Error)
            .count();
        match unreadable {
            Some((root, cause)) if failures == self.roots.len() => {
                Err(unavailable(&root.path, cause))
            }
            _ => Ok(inventory),
        }
    }

    fn quiesce(
        &self,
        _workload: &Workload,
        _cancel: &Cancel,
    ) -> Result<Box<dyn Quiesced>, SourceError> {
        Ok(Box::new(NothingHeld))
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        let root = self
            .roots
            .iter()
            .find(|root| root.in_point == item.path)
            .ok_or_else(|| SourceError::Item {
                operation: "find",
                subject: item.title.clone(),
                cause: format!("source {} has no such folder", self.name).into(),
            })?;
        let summary = self
            .walk(root, sink, cancel)
            .map_err(|error| item_error(root, error))?;
        Ok(Capture {
            consistency: Consistency::Crash,
            findings: findings(root, summary),
        })
    }
}

const EMPTY: &str = "is empty: perhaps something is not mounted";

impl Root {
    fn new(source: &str, path: &Path) -> Result<Self, FilesError> {
        let refuse = || FilesError::NotAbsolute(path.to_owned());
        let mut in_point = TreePath::root().child("files").child(source);
        let mut is_absolute = false;
        let mut has_name = false;
        for component in path.components() {
            match component {
                Component::RootDir => is_absolute = true,
                Component::Normal(name) => {
                    in_point = in_point
                        .join(name.as_bytes())
                        .map_err(|_invalid| refuse())?;
                    has_name = true;
                }
                Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(refuse()),
            }
        }
        if !is_absolute {
            return Err(refuse());
        }
        if !has_name {
            in_point = in_point.child("/");
        }
        Ok(Self {
            // Without doubled slashes and such, so that absolute patterns can match.
            path: path.components().collect(),
            in_point,
        })
    }

    fn title(&self) -> String {
        self.path.display().to_string()
    }

    fn item(&self, bytes_estimate: Option<u64>) -> Item {
        Item {
            kind: ItemKind::Folder,
            title: self.title(),
            path: self.in_point.clone(),
            workload: Some(self.title()),
            skip: None,
            provides: Vec::new(),
            requires: Vec::new(),
            bytes_estimate,
            sensitive: false,
            risks: vec!["copied while it is in use".to_owned()],
        }
    }

    /// A root that is a link is followed: the user means what it leads to. It may lead elsewhere
    /// tomorrow, so it is said.
    fn link_finding(&self) -> Option<Finding> {
        let target = fs::read_link(&self.path).ok()?;
        let message = format!("is a symbolic link; captured is {}", target.display());
        Some(Finding::note(self.title(), message))
    }
}

fn refuse_nested(roots: &[Root]) -> Result<(), FilesError> {
    for (index, outer) in roots.iter().enumerate() {
        for (other, inner) in roots.iter().enumerate() {
            if index != other && inner.path.starts_with(&outer.path) {
                return Err(FilesError::Nested {
                    inner: inner.path.clone(),
                    outer: outer.path.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Opens what will be captured, because a `stat` succeeds on much that cannot be read.
fn look(path: &Path) -> io::Result<Found> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        let is_empty = match fs::read_dir(path)?.next() {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => return Err(error),
        };
        return Ok(Found::Folder { is_empty });
    }
    if metadata.is_file() {
        let size = File::open(path)?.metadata()?.len();
        return Ok(Found::File { size });
    }
    Ok(Found::Other)
}

fn unavailable(path: &Path, cause: io::Error) -> SourceError {
    let hint = match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let parent = existing_parent(path);
            format!(
                "{} exists: check the path, and that all is mounted",
                parent.display()
            )
        }
        io::ErrorKind::PermissionDenied => "run as root, or as a user who may read it".to_owned(),
        _ => "check the file system and the medium below it".to_owned(),
    };
    SourceError::Unavailable {
        operation: "read",
        subject: path.display().to_string(),
        cause: cause.into(),
        hint: Some(hint),
    }
}

fn existing_parent(path: &Path) -> &Path {
    path.ancestors()
        .skip(1)
        .find(|parent| parent.exists())
        .unwrap_or_else(|| Path::new(OsStr::new("/")))
}

fn item_error(root: &Root, error: WalkError) -> SourceError {
    let (operation, cause): (_, Box<dyn Error + Send + Sync>) = match error {
        WalkError::Cancelled(_) => return SourceError::Cancelled,
        WalkError::Sink(error) => return SourceError::Sink(error),
        WalkError::Root {
            operation, source, ..
        } => (operation, source.into()),
        error @ WalkError::NoProc => ("read", error.into()),
    };
    SourceError::Item {
        operation,
        subject: root.title(),
        cause,
    }
}

/// What a person should know of a capture that went through.
fn findings(root: &Root, summary: WalkSummary) -> Vec<Finding> {
    let title = root.title();
    let notes = [
        (summary.excluded, "entries left out by rules"),
        (
            summary.mounts_skipped,
            "mount points captured without what is mounted there",
        ),
        (
            summary.vanished,
            "entries were deleted while the folder was read",
        ),
    ];
    let is_empty_folder = summary.directories == 1
        && summary.files + summary.nodes + summary.failed + summary.excluded == 0;
    let mut findings = summary.findings.into_list(&title);
    if is_empty_folder {
        findings.push(Finding::warning(&title, EMPTY));
    }
    findings.extend(root.link_finding());
    for (count, what) in notes {
        if count > 0 {
            findings.push(Finding::note(&title, format!("{count} {what}")));
        }
    }
    findings
}
