//! From roots to everything they lead to: manifests first, each written as it comes, then blobs.
//!
//! Invariants: every manifest is read and written once, whoever refers to it; depth and number
//! are limited, so that an index cannot lead on for ever; what fails stops only itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use refloat_model::entry::TreeSink;
use refloat_source::SourceError;

use super::download::{self, Wanted};
use super::entries::IndexEntry;
use super::fetch::{Contents, Fetched, Task};
use super::{Session, bytes};
use crate::api::BlobSource;
use crate::digest::Digest;
use crate::discover::Root;
use crate::error::{RegistryError, chain};
use crate::manifest::{Descriptor, INDEX_DEPTH_MAX};
use crate::name::{Reference, Tag};

/// Most manifests that one tag leads to; real images have some tens.
const MANIFESTS_PER_IMAGE_MAX: usize = 10_000;

/// What a walk came to.
pub(super) struct Walked {
    /// What the layout's index names, sorted.
    pub(super) roots: Vec<IndexEntry>,
    /// Images that are not whole, with the reason.
    pub(super) failures: Vec<(String, String)>,
    /// What was left out on purpose.
    pub(super) absent: BTreeSet<String>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// Whether nothing is missing.
    pub(super) is_whole: bool,
}

struct Known {
    media_type: Arc<str>,
    size: u64,
}

/// See the module.
pub(super) struct Walk<'a> {
    session: &'a Session<'a>,
    queue: VecDeque<Task>,
    /// Read, or being read.
    asked: HashSet<Digest>,
    known: HashMap<Digest, Known>,
    media_types: BTreeSet<Arc<str>>,
    roots: Vec<Root>,
    counts: HashMap<Arc<str>, usize>,
    blobs: BTreeMap<Digest, (u64, Arc<str>, bool)>,
    failures: Vec<(String, String)>,
    absent: BTreeSet<String>,
    notes: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Writes everything that a session's roots lead to into the current directory.
    pub(super) fn run(
        session: &'a Session<'a>,
        sink: &mut dyn TreeSink,
    ) -> Result<Walked, SourceError> {
        let mut walk = Self {
            session,
            queue: VecDeque::new(),
            asked: HashSet::new(),
            known: HashMap::new(),
            media_types: BTreeSet::new(),
            roots: Vec::new(),
            counts: HashMap::new(),
            blobs: BTreeMap::new(),
            failures: Vec::new(),
            absent: BTreeSet::new(),
            notes: Vec::new(),
        };
        session
            .listing
            .roots
            .iter()
            .for_each(|root| walk.enter_root(root, 0));
        walk.manifests(sink)?;
        let blobs_whole = walk.fetch_blobs(sink)?;
        let roots = walk.take_entries();
        Ok(Walked {
            is_whole: blobs_whole && walk.failures.is_empty(),
            roots,
            failures: walk.failures,
            absent: walk.absent,
            notes: walk.notes,
        })
    }

    fn enter_root(&mut self, root: &Root, depth: usize) {
        let reference = match &root.tag {
            // By tag, so that what the registry says of it is compared with what it gives.
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(root.digest),
        };
        if self.asked.insert(root.digest) {
            self.queue.push_back(Task {
                origin: reference.to_string().into(),
                reference,
                media_type: String::new(),
                size: None,
                digest: root.digest,
                depth,
            });
        }
        self.roots.push(root.clone());
    }

    fn manifests(&mut self, sink: &mut dyn TreeSink) -> Result<(), SourceError> {
        let session = self.session;
        let at_once = session.source.options().connect.requests_at_once.max(1);
        std::thread::scope(|scope| {
            let (jobs, fetched) = session.start_fetching(scope, at_once);
            let mut under_way = 0;
            loop {
                while under_way < at_once
                    && let Some(task) = self.queue.pop_front()
                {
                    // Cannot fail: the threads live as long as `jobs`.
                    let _unsent = jobs.send(task);
                    under_way += 1;
                }
                if under_way == 0 {
                    return Ok(());
                }
                let Ok(answer) = fetched.recv() else {
                    return Ok(());
                };
                under_way -= 1;
                self.take(answer, sink)?;
            }
        })
    }

    fn take(&mut self, fetched: Fetched, sink: &mut dyn TreeSink) -> Result<(), SourceError> {
        let Fetched { task, result } = fetched;
        let Contents {
            raw,
            manifest,
            referrers,
        } = match result {
            Ok(contents) => contents,
            Err(RegistryError::Cancelled(_)) => return Err(SourceError::Cancelled),
            Err(error) => {
                self.fail(&task.origin, &task.reference, &error);
                return Ok(());
            }
        };
        if raw.digest != task.digest && !self.moved(&task, raw.digest) {
            return Ok(());
        }
        let hex = raw.digest.hex();
        if !sink.reuse(hex.as_bytes())? {
            bytes(sink, &hex, &raw.bytes)?;
        }
        let media_type = self.intern(&manifest.media_type);
        self.known.insert(
            raw.digest,
            Known {
                media_type,
                size: raw.bytes.len() as u64,
            },
        );
        for blob in &manifest.blobs {
            self.want(blob, &task);
        }
        let platforms = &self.session.source.options().platforms;
        for child in &manifest.children {
            let wanted = child.platform.as_ref().is_none_or(|platform| {
                platforms.is_empty() || platforms.iter().any(|p| p.accepts(platform))
            });
            if wanted {
                self.follow(child, &task);
            } else {
                let platform = child
                    .platform
                    .as_ref()
                    .map_or(String::new(), ToString::to_string);
                self.absent
                    .insert(format!("{} ({platform}, not chosen)", child.digest));
            }
        }
        self.follow_referrers(raw.digest, &referrers, &task);
        Ok(())
    }

    /// Takes in that a tag stands for something else than a moment ago. False if what it stands
    /// for now is being read already.
    fn moved(&mut self, task: &Task, found: Digest) -> bool {
        self.notes
            .push(format!("{} moved while it was captured", task.reference));
        let Reference::Tag(tag) = &task.reference else {
            return true;
        };
        for root in self
            .roots
            .iter_mut()
            .filter(|root| root.tag.as_ref() == Some(tag))
        {
            root.digest = found;
        }
        // Others may stand for the old one: it is still asked for, by its digest.
        if self.roots.iter().any(|root| root.digest == task.digest) {
            self.queue.push_back(Task {
                reference: Reference::Digest(task.digest),
                media_type: String::new(),
                size: None,
                digest: task.digest,
                depth: task.depth,
                origin: Arc::clone(&task.origin),
            });
        }
        self.asked.insert(found)
    }

    fn follow_referrers(&mut self, digest: Digest, listed: &[Descriptor], task: &Task) {
        for descriptor in listed {
            if !self.asked.contains(&descriptor.digest) {
                self.roots.push(Root {
                    tag: None,
                    digest: descriptor.digest,
                });
            }
            self.follow(descriptor, task);
        }
        let tagged = self.session.listing.referrers.get(&digest);
        for root in tagged.into_iter().flatten() {
            self.enter_root(root, task.depth);
        }
    }

    fn follow(&mut self, child: &Descriptor, task: &Task) {
        if !self.asked.insert(child.digest) {
            return;
        }
        let count = self.counts.entry(Arc::clone(&task.origin)).or_default();
        *count += 1;
        let over = |what: &str, limit, unit| RegistryError::TooLarge {
            what: what.to_owned(),
            limit: limit as u64,
            unit,
        };
        let reference = Reference::Digest(child.digest);
        if *count > MANIFESTS_PER_IMAGE_MAX {
            // Said once; the rest follows from it.
            if *count == MANIFESTS_PER_IMAGE_MAX + 1 {
                let error = over("the image", MANIFESTS_PER_IMAGE_MAX, "manifests");
                self.fail(&task.origin, &reference, &error);
            }
            return;
        }
        if task.depth >= INDEX_DEPTH_MAX {
            let error = over("the index", INDEX_DEPTH_MAX, "levels");
            self.fail(&task.origin, &reference, &error);
            return;
        }
        self.queue.push_back(Task {
            reference,
            media_type: child.media_type.clone(),
            size: Some(child.size),
            digest: child.digest,
            depth: task.depth + 1,
            origin: Arc::clone(&task.origin),
        });
    }

    fn want(&mut self, blob: &Descriptor, task: &Task) {
        let known = self.blobs.entry(blob.digest);
        let (size, ..) =
            known.or_insert_with(|| (blob.size, Arc::clone(&task.origin), blob.is_foreign()));
        if *size != blob.size {
            let error = RegistryError::WrongLength {
                expected: *size,
                found: blob.size,
            };
            self.fail(&task.origin, &Reference::Digest(blob.digest), &error);
        }
    }

    fn fetch_blobs(&mut self, sink: &mut dyn TreeSink) -> Result<bool, SourceError> {
        let Session {
            source,
            repository,
            cancel,
            ..
        } = *self.session;
        let blobs = std::mem::take(&mut self.blobs);
        // A manifest may also be listed as a blob; it is here already.
        let blobs = blobs
            .into_iter()
            .filter(|(digest, _)| !self.known.contains_key(digest));
        let mut wanted = Vec::new();
        for (digest, (size, needed_by, is_foreign)) in blobs {
            let held = |registry: &crate::api::Registry| {
                matches!(registry.blob_size(repository, &digest, cancel), Ok(Some(_)))
            };
            if is_foreign && !held(source.registry()) {
                self.absent.insert(format!("{digest} (foreign layer)"));
                self.notes
                    .push(format!("the foreign layer {digest} is only at its maker"));
                continue;
            }
            let blob = BlobSource {
                repository: repository.clone(),
                digest,
                size,
            };
            wanted.push(Wanted {
                source: blob,
                needed_by,
            });
        }
        let at_once = source.options().connect.requests_at_once;
        download::run(source.registry(), at_once, wanted, sink, cancel)
    }

    /// The index: roots whose manifest is there.
    fn take_entries(&mut self) -> Vec<IndexEntry> {
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort();
        roots.dedup();
        let failed: HashSet<String> = self.failures.iter().map(|(name, _)| name.clone()).collect();
        let mut entries = Vec::with_capacity(roots.len());
        for Root { tag, digest } in roots {
            let Some(Known { media_type, size }) = self.known.get(&digest) else {
                let name = tag
                    .as_ref()
                    .map_or_else(|| digest.to_string(), Tag::to_string);
                if !failed.contains(&name) {
                    self.failures
                        .push((name, format!("its manifest {digest} did not come")));
                }
                continue;
            };
            let media_type = Arc::clone(media_type);
            entries.push(IndexEntry {
                tag,
                digest,
                size: *size,
                media_type,
            });
        }
        entries
    }

    fn intern(&mut self, media_type: &str) -> Arc<str> {
        if let Some(known) = self.media_types.get(media_type) {
            return Arc::clone(known);
        }
        let new: Arc<str> = media_type.into();
        self.media_types.insert(Arc::clone(&new));
        new
    }

    fn fail(&mut self, origin: &Arc<str>, reference: &Reference, error: &RegistryError) {
        let reason = match reference {
            Reference::Digest(digest) if **origin != *digest.to_string() => {
                format!("{digest}: {}", chain(error))
            }
            _ => chain(error),
        };
        self.failures.push((origin.to_string(), reason));
    }
}
