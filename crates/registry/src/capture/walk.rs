//! From roots to everything they lead to: manifests first, each written as it comes, then blobs.
//!
//! Invariants: every manifest is read and written once, whoever refers to it; depth and number
//! are limited, so that an index cannot lead on for ever; what fails stops only itself.

mod blobs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use refloat_model::entry::TreeSink;
use refloat_source::SourceError;

use self::blobs::Blob;
use super::entries::IndexEntry;
use super::fetch::{Contents, Fetched, Task};
use super::{Session, bytes};
use crate::digest::Digest;
use crate::discover::Root;
use crate::error::{RegistryError, chain};
use crate::manifest::{Descriptor, INDEX_DEPTH_MAX, is_known};
use crate::name::{Reference, Tag};
use crate::platform::Platform;

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

/// What somebody says of a manifest. A wrong word spoils the image of whoever says it, and not
/// the images of others that have the same manifest.
struct Claim {
    media_type: String,
    size: u64,
    origin: Arc<str>,
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
    /// What indexes say of manifests that are still being read.
    claims: HashMap<Digest, Vec<Claim>>,
    blobs: BTreeMap<Digest, Blob>,
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
            claims: HashMap::new(),
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
        walk.fail_claims();
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
        let size = raw.bytes.len() as u64;
        self.known.insert(raw.digest, Known { media_type, size });
        for claim in self.claims.remove(&raw.digest).unwrap_or_default() {
            self.check_claim(raw.digest, &claim);
        }
        for blob in &manifest.blobs {
            self.want(blob, &task);
        }
        let platforms = &self.session.source.options().platforms;
        let is_chosen = |child: &Descriptor| {
            let platform = child.platform.as_ref();
            platform
                .is_none_or(|of| platforms.is_empty() || platforms.iter().any(|p| p.accepts(of)))
        };
        // What runs nowhere comes along always, and is no image.
        let is_image =
            |child: &&Descriptor| !child.platform.as_ref().is_some_and(Platform::is_unknown);
        let mut images = manifest.children.iter().filter(is_image).peekable();
        if images.peek().is_some() && !images.any(is_chosen) {
            self.notes.push(format!(
                "{} has none of the chosen platforms: nothing but its index is captured",
                task.reference
            ));
        }
        for child in &manifest.children {
            if is_chosen(child) {
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
        let claim = Claim {
            media_type: child.media_type.clone(),
            size: child.size,
            origin: Arc::clone(&task.origin),
        };
        if self.known.contains_key(&child.digest) {
            return self.check_claim(child.digest, &claim);
        }
        if self.asked.contains(&child.digest) {
            return self.claims.entry(child.digest).or_default().push(claim);
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
            return self.fail(&task.origin, &reference, &error);
        }
        self.asked.insert(child.digest);
        self.claims.entry(child.digest).or_default().push(claim);
        self.queue.push_back(Task {
            reference,
            digest: child.digest,
            depth: task.depth + 1,
            origin: Arc::clone(&task.origin),
        });
    }

    /// Images that share a manifest share its loss.
    fn fail_claims(&mut self) {
        for (digest, claims) in std::mem::take(&mut self.claims) {
            for Claim { origin, .. } in claims {
                let told = |(name, reason): &(String, String)| {
                    **name == *origin && reason.starts_with(&digest.to_string())
                };
                if !self.failures.iter().any(told) {
                    let reason = format!("{digest}: it did not come");
                    self.failures.push((origin.to_string(), reason));
                }
            }
        }
    }

    fn check_claim(&mut self, digest: Digest, claim: &Claim) {
        let Some(known) = self.known.get(&digest) else {
            return;
        };
        let error = if known.size != claim.size {
            RegistryError::WrongLength {
                expected: claim.size,
                found: known.size,
            }
        } else if is_known(&claim.media_type) && *claim.media_type != *known.media_type {
            RegistryError::Invalid {
                what: format!("manifest {digest}"),
                why: "it says of itself that it is something else than was declared",
            }
        } else {
            return;
        };
        self.fail(&claim.origin, &Reference::Digest(digest), &error);
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
