//! A folder of OCI image layouts that images go into: `<folder>/<repository>`, each readable as
//! `oci:<folder>/<repository>:<tag>`. A `/` in a repository's name is `%2F` in the folder's.
//!
//! Crash behaviour: blobs come first, each under a temporary name until it is verified; the index
//! is replaced last, in one step. What was interrupted is taken up by running again.
//!
//! Invariant: nothing is written through a symbolic link below the folder, and no file that is not
//! part of a layout is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest, Step, StepOutcome};
use refloat_model::progress::{Counters, Progress};
use refloat_model::tree_path::{escape, unescape};
use refloat_source::{Description, StoredError, StoredPoint, Target, TargetError};
use serde::Deserialize;

use super::execute::{failed, skipped};
use super::plan::{Ground, plan};
use super::refuse_conflicts;
use super::stored::{Parts, StoredLayout, StoredRoot};
use crate::capture::IndexEntry;
use crate::digest::{Digest, Hasher};
use crate::error::RegistryError;
use crate::layout::{BLOBS, INDEX, LAYOUT, LAYOUT_TEXT, REF_NAME, SHA256};
use crate::manifest::{Descriptor, Manifest};
use crate::name::{ImageName, Reference, RepositoryName};

/// The largest index of an existing layout that is read, in bytes.
const INDEX_BYTES_MAX: u64 = 512 << 20;
/// Copied at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// See the module.
pub struct LayoutTarget {
    name: String,
    folder: PathBuf,
}

/// Why an image did not arrive.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot {operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} is a symbolic link or no folder")]
    NoFolder(PathBuf),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl LayoutTarget {
    /// A folder as a target; it need not be there yet.
    #[must_use]
    pub fn new(name: &str, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.into(),
        }
    }

    /// What the folder's layouts name.
    fn held(&self) -> Result<BTreeMap<ImageName, Digest>, Failure> {
        let mut held = BTreeMap::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
            Err(error) => return Err(file("list", &self.folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(file("list", &self.folder))?;
            let name = entry.file_name().to_str().and_then(unescape);
            let Some(Ok(repository)) = name.map(|name| name.parse::<RepositoryName>()) else {
                continue;
            };
            for (reference, descriptor) in read_index(&entry.path().join(INDEX))? {
                held.insert(
                    ImageName {
                        repository: repository.clone(),
                        reference,
                    },
                    descriptor.digest,
                );
            }
        }
        Ok(held)
    }
}

impl Target for LayoutTarget {
    fn description(&self) -> Description {
        let address = format!("oci:{}", self.folder.display());
        Description {
            name: self.name.clone(),
            kind: "oci",
            address,
        }
    }

    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError> {
        let address = self.description().address;
        let held = self.held().map_err(|cause| TargetError::Unavailable {
            operation: "look into",
            subject: address.clone(),
            cause: Box::new(cause),
            hint: None,
        })?;
        plan(
            point,
            request,
            &Ground::Folder(address, &held),
            &Cancel::default(),
        )
    }

    fn execute(
        &self,
        plan: &RestorePlan,
        point: &dyn StoredPoint,
        _: &RestoreRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RestoreReport, TargetError> {
        refuse_conflicts(plan)?;
        let layouts = StoredLayout::all(point)?.readable;
        let mut report = RestoreReport::default();
        for step in &plan.steps {
            cancel.check().map_err(|_| TargetError::Cancelled)?;
            let layout = layouts.iter().find(|layout| layout.is_of(step));
            let found = layout.and_then(|layout| {
                let mut roots = layout.roots.iter();
                Some((
                    layout,
                    roots.find(|root| layout.name(root).to_string() == step.name)?,
                ))
            });
            let outcome = match (&step.action, found) {
                (Action::Skip { why }, _) => skipped(step, why, &mut report.findings),
                (_, Some((layout, root))) => {
                    let job = Job {
                        target: self,
                        point,
                        layout,
                        root,
                        progress,
                        cancel,
                    };
                    job.run(step)
                }
                _ => failed(step, "it is not in the point"),
            };
            report.steps.push(outcome);
        }
        Ok(report)
    }
}

/// One image on its way into a folder.
struct Job<'a> {
    target: &'a LayoutTarget,
    point: &'a dyn StoredPoint,
    layout: &'a StoredLayout,
    root: &'a StoredRoot,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl Job<'_> {
    fn run(&self, step: &Step) -> StepOutcome {
        let began = Instant::now();
        let target = match &step.action {
            Action::Rename { to } => to.parse::<ImageName>(),
            _ => step.name.parse(),
        };
        let result = match target {
            Ok(target) => self.image(&target),
            Err(error) => Err(RegistryError::Name(error).into()),
        };
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (error, remarks) = match result {
            Ok(count) => (None, vec![format!("{count} blobs verified in place")]),
            Err(error) => (Some(crate::error::chain(&error)), Vec::new()),
        };
        StepOutcome {
            step: step.clone(),
            error,
            remarks,
            milliseconds,
        }
    }

    fn image(&self, target: &ImageName) -> Result<usize, Failure> {
        let parts: Parts = self.layout.parts(self.point, self.root);
        let layout = self.target.folder.join(escape(target.repository.as_str()));
        let blobs = layout.join(BLOBS).join(SHA256);
        fs::create_dir_all(&self.target.folder).map_err(file("make", &self.target.folder))?;
        for folder in [&layout, &layout.join(BLOBS), &blobs] {
            make_folder(folder)?;
        }
        let manifests = parts.manifests.iter().map(|(digest, _)| digest);
        let mut count = 0;
        for digest in parts.blobs.keys().chain(manifests) {
            self.cancel.check().map_err(RegistryError::from)?;
            self.blob(&blobs, digest)?;
            count += 1;
        }
        replace(&layout.join(LAYOUT), |out| out.write_all(LAYOUT_TEXT))?;
        let Some((_, manifest)) = parts.manifests.last() else {
            return Ok(count);
        };
        self.name(&layout.join(INDEX), &target.reference, manifest)?;
        Ok(count)
    }

    /// Puts a blob into place, unless it is there and is what it should be.
    fn blob(&self, folder: &Path, digest: &Digest) -> Result<(), Failure> {
        let path = folder.join(digest.hex());
        if is_regular(&path) && hash_file(&path)? == *digest {
            return Ok(());
        }
        let stored = crate::layout::blob(&self.layout.path, digest);
        let mut content = self.point.open(&stored)?;
        let mut bytes = 0;
        replace(&path, |out| {
            bytes = io::copy(&mut content, out)?;
            Ok(())
        })?;
        let found = hash_file(&path)?;
        if found != *digest {
            fs::remove_file(&path).map_err(file("remove", &path))?;
            return Err(RegistryError::WrongDigest {
                expected: *digest,
                found,
            }
            .into());
        }
        Counters::add(&self.progress.counters().bytes_done, bytes);
        Ok(())
    }

    /// Names the image in the layout's index; what else it names stays.
    fn name(&self, path: &Path, reference: &Reference, manifest: &Manifest) -> Result<(), Failure> {
        let bytes = self.layout.manifest_bytes(self.point, &self.root.digest)?;
        let mut named = read_index(path)?;
        let new = Descriptor {
            media_type: manifest.media_type.clone(),
            digest: self.root.digest,
            size: bytes.len() as u64,
            platform: None,
            artifact_type: None,
            annotations: None,
        };
        named.insert(reference.clone(), new);
        let entries: Vec<IndexEntry> = named
            .into_iter()
            .map(|(reference, descriptor)| IndexEntry {
                tag: match reference {
                    Reference::Tag(tag) => Some(tag),
                    Reference::Digest(_) => None,
                },
                digest: descriptor.digest,
                size: descriptor.size,
                media_type: descriptor.media_type.into(),
            })
            .collect();
        let mut text = crate::capture::IndexText::new(&entries);
        replace(path, |out| io::copy(&mut text, out).map(|_| ()))
    }
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File {
        operation,
        path,
        source,
    }
}

fn is_regular(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).map_err(file("look at", path))?;
            if metadata.is_dir() {
                Ok(())
            } else {
                Err(Failure::NoFolder(path.to_owned()))
            }
        }
        Err(error) => Err(file("make", path)(error)),
    }
}

/// Writes a file under another name and puts it into place whole.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".refloat-new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("remove", &temporary)(error)),
    }
    let written = fs::File::create_new(&temporary).and_then(|mut out| {
        write(&mut out)?;
        out.sync_all()
    });
    written.map_err(file("write", &temporary))?;
    fs::rename(&temporary, path).map_err(file("put into place", path))
}

fn hash_file(path: &Path) -> Result<Digest, Failure> {
    let mut content = fs::File::open(path).map_err(file("read", path))?;
    let mut hash = Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = content.read(&mut buffer).map_err(file("read", path))?;
        if count == 0 {
            return Ok(hash.finish());
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

/// What an index names; empty if there is none.
fn read_index(path: &Path) -> Result<BTreeMap<Reference, Descriptor>, Failure> {
    let content = match fs::File::open(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(file("read", path)(error)),
    };
    let mut bytes = Vec::new();
    content
        .take(INDEX_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(file("read", path))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|source| RegistryError::Malformed {
            what: "an index",
            source,
        })?;
    let mut named = BTreeMap::new();
    for descriptor in index.manifests {
        let tag = descriptor
            .annotations
            .as_ref()
            .and_then(|a| a.get(REF_NAME));
        let reference = match tag {
            Some(tag) => Reference::Tag(tag.parse().map_err(RegistryError::Name)?),
            None => Reference::Digest(descriptor.digest),
        };
        named.insert(reference, descriptor);
    }
    Ok(named)
}
