//! Images that workloads are made from: which of them does this registry hold?
//!
//! They come along with what the policy selects, also where no tag leads to them any more: a tag
//! moves, and what runs is what it stood for before.
//!
//! An image that is here under another name than it was started by, a mirror's copy, counts by its
//! digest. Where only a tag and the configuration's digest are known, the tag's manifest is read.
//!
//! Invariants: only `GET` and `HEAD` requests; an image that is left out by the policy is named
//! where it lies, so that whoever needs it is told why it is missing.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::{ImageUse, Inventory, Item};
use refloat_model::outcome::Outcome;
use refloat_source::SourceError;

use super::{Listing, Root, Wanted, fits, ids, item, subject, workload};
use crate::digest::Digest;
use crate::error::{RegistryError, chain};
use crate::name::{EngineName, Reference, RepositoryName, Tag};
use crate::parallel;
use crate::platform::Platform;
use crate::source::RegistrySource;

/// An image in use that this registry may hold.
struct Candidate<'a> {
    image: &'a ImageUse,
    /// Under these names, if its source knows any.
    digests: Vec<(RepositoryName, Digest)>,
    /// The tag it was started by.
    tag: Option<(RepositoryName, Tag)>,
    /// Where this registry has one of its digests under another name.
    copies: BTreeSet<(RepositoryName, Digest)>,
}

/// What the registry says of a candidate.
struct Answer {
    /// Those of its digests that are there.
    held: Vec<(RepositoryName, Digest)>,
    /// What its tag stands for now; none if there is no tag, or not any more.
    now: Option<Digest>,
    /// Whether the tag stands for an image with another configuration than what runs.
    is_another: bool,
}

/// See the module.
pub(crate) fn find(
    source: &RegistrySource,
    images: &[ImageUse],
    inventory: &mut Inventory,
    cancel: &Cancel,
) -> Result<(), SourceError> {
    let hosts = source.hosts();
    let copies = copies(source, images);
    let candidates: Vec<Candidate<'_>> = images
        .iter()
        .filter_map(|image| Candidate::of(image, &hosts, &copies))
        .collect();
    let at_once = source.options().connect.requests_at_once;
    let answers = parallel::map(&candidates, at_once, |candidate| {
        candidate.ask(source, cancel)
    });
    for (candidate, answer) in candidates.iter().zip(answers) {
        match answer {
            Ok(answer) => candidate.take(&answer, source, inventory, cancel)?,
            Err(RegistryError::Cancelled(_)) => return Err(SourceError::Cancelled),
            Err(error) => {
                let message = format!(
                    "cannot be looked for in {}: {}",
                    source.name(),
                    chain(&error)
                );
                let subject = format!("image {}", candidate.image.reference);
                inventory.findings.push(Finding::warning(subject, message));
            }
        }
    }
    Ok(())
}

/// Repositories by the digests that they are known to have.
type Copies = BTreeMap<Digest, BTreeSet<RepositoryName>>;

/// The digest in a name of an image.
fn digest_in(name: &str) -> Option<Digest> {
    Digest::parse(name.split_once('@')?.1).ok()
}

/// Where this registry is known to have what is wanted, whatever it is called there.
fn copies(source: &RegistrySource, images: &[ImageUse]) -> Copies {
    let names = images.iter().flat_map(|image| &image.digests);
    let wanted: BTreeSet<Digest> = names.filter_map(|name| digest_in(name)).collect();
    let mut copies = Copies::new();
    for (repository, listing) in source.all_known() {
        for root in listing.roots.iter().filter(|r| wanted.contains(&r.digest)) {
            let repositories = copies.entry(root.digest).or_default();
            repositories.insert(repository.clone());
        }
    }
    copies
}

impl<'a> Candidate<'a> {
    /// None if no name of the image is one of this registry, and no digest of it is here.
    fn of(image: &'a ImageUse, hosts: &BTreeSet<String>, copies: &Copies) -> Option<Self> {
        let own = |text: &str| {
            let name: EngineName = text.parse().ok()?;
            hosts.contains(&name.host).then_some(name)
        };
        let by_name = own(&image.reference);
        let mut digests: BTreeSet<(RepositoryName, Digest)> = image
            .digests
            .iter()
            .filter_map(|text| own(text))
            .filter_map(|name| Some((name.repository, name.digest?)))
            .collect();
        let mut tag = None;
        if let Some(EngineName {
            repository,
            tag: given,
            digest,
            ..
        }) = by_name
        {
            match digest {
                // `repository:tag@digest`: the digest decides.
                Some(digest) => {
                    digests.insert((repository.clone(), digest));
                    tag = given.map(|tag| (repository, tag));
                }
                None => {
                    let latest = || "latest".parse().ok();
                    tag = given.or_else(latest).map(|tag| (repository, tag));
                }
            }
        }
        let known = image.digests.iter().filter_map(|name| digest_in(name));
        let copies: BTreeSet<_> = known
            .flat_map(|digest| {
                let repositories = copies.get(&digest).into_iter().flatten();
                repositories.map(move |repository| (repository.clone(), digest))
            })
            .filter(|copy| !digests.contains(copy))
            .collect();
        let digests: Vec<_> = digests.into_iter().collect();
        let is_here = tag.is_some() || !digests.is_empty() || !copies.is_empty();
        is_here.then_some(Self {
            image,
            digests,
            tag,
            copies,
        })
    }

    fn ask(&self, source: &RegistrySource, cancel: &Cancel) -> Result<Answer, RegistryError> {
        let mut held: Vec<_> = self.copies.iter().cloned().collect();
        for (repository, digest) in &self.digests {
            let known = source.known(repository);
            let listed = known.is_some_and(|listing| listing.has(digest));
            let reference = Reference::Digest(*digest);
            if listed
                || source
                    .registry()
                    .resolve(repository, &reference, cancel)?
                    .is_some()
            {
                held.push((repository.clone(), *digest));
            }
        }
        let mut now = None;
        if let Some((repository, tag)) = &self.tag {
            now = source
                .known(repository)
                .and_then(|listing| listing.tagged(tag));
            if now.is_none() {
                let reference = Reference::Tag(tag.clone());
                let resolved = source.registry().resolve(repository, &reference, cancel)?;
                now = resolved.map(|resolved| resolved.digest);
            }
        }
        let mut is_another = false;
        if let (true, Some((repository, _)), Some(now)) = (
            self.image.digests.is_empty() && self.digests.is_empty(),
            &self.tag,
            now,
        ) {
            // Nobody knows a manifest. The configuration's digest tells, if that is known; else
            // what the tag stands for is the image.
            // Where not everything can be looked at, the tag has to do.
            is_another = !self.image.id.is_empty()
                && ids(source, repository, now, cancel)?.exclude(&self.image.id);
            if !is_another {
                held.push((repository.clone(), now));
            }
        }
        Ok(Answer {
            held,
            now,
            is_another,
        })
    }

    fn take(
        &self,
        answer: &Answer,
        source: &RegistrySource,
        inventory: &mut Inventory,
        cancel: &Cancel,
    ) -> Result<(), SourceError> {
        inventory.findings.extend(self.moved(answer, source));
        inventory.findings.extend(self.not_chosen(answer, source));
        for (repository, digest) in &answer.held {
            let root = Root {
                tag: self
                    .tag
                    .as_ref()
                    .filter(|(of, _)| of == repository && answer.now == Some(*digest))
                    .map(|(_, tag)| tag.clone()),
                digest: *digest,
            };
            let is_own = |item: &&mut Item| item.title == repository.as_str();
            if inventory.items.iter_mut().find(is_own).is_none() {
                inventory.items.push(item_of(source, repository));
                inventory.workloads.push(workload(repository));
            }
            if let Some(item) = inventory.items.iter_mut().find(is_own) {
                come_along(source, repository, root, item, cancel)?;
                let subjects = [
                    subject(source, repository, digest),
                    self.image.subject.clone(),
                ];
                item.provides.extend(subjects);
                item.provides.sort();
                item.provides.dedup();
            }
        }
        Ok(())
    }

    /// What to say of an image that runs on a platform that the policy does not choose.
    fn not_chosen(&self, answer: &Answer, source: &RegistrySource) -> Option<Finding> {
        let chosen = &source.options().platforms;
        let is_left_out = |text: &&String| {
            let platform = text.parse::<Platform>();
            // Machines say no variant.
            let fits = |chosen: &Platform, of: &Platform| {
                (&chosen.os, &chosen.architecture) == (&of.os, &of.architecture)
            };
            platform.is_ok_and(|platform| !chosen.iter().any(|c| fits(c, &platform)))
        };
        let runs_on = self.image.platforms.iter().filter(is_left_out);
        let runs_on: Vec<&str> = runs_on.map(String::as_str).collect();
        if chosen.is_empty() || answer.held.is_empty() || runs_on.is_empty() {
            return None;
        }
        let message = format!(
            "it runs on {} as well, which `platforms` does not choose: what an index has for that is \
             not captured",
            runs_on.join(", ")
        );
        Some(Finding::warning(
            format!("image {}", self.image.reference),
            message,
        ))
    }

    /// What to say of a tag that does not stand for what runs.
    fn moved(&self, answer: &Answer, source: &RegistrySource) -> Option<Finding> {
        let (repository, tag) = self.tag.as_ref()?;
        let subject = format!("image {}", self.image.reference);
        if let (true, Some(now)) = (answer.is_another, answer.now) {
            let (name, id) = (source.name(), &self.image.id);
            let message = format!(
                "the tag moved: {tag} of {name} is {now}, whose configuration is not {id}, which \
                 is what runs"
            );
            return Some(Finding::warning(subject, message));
        }
        let own = self.digests.iter().filter(|(of, _)| of == repository);
        let own: Vec<&Digest> = own.map(|(_, digest)| digest).collect();
        let first = own.first()?;
        let still = if answer.held.iter().any(|(of, _)| of == repository) {
            "it is still there by digest"
        } else {
            "it is there no more"
        };
        let name = source.name();
        match answer.now {
            Some(now) if own.contains(&&now) => None,
            Some(now) => Some(Finding::warning(
                subject,
                format!("the tag moved: {tag} of {name} is {now}, what runs is {first}; {still}"),
            )),
            None => Some(Finding::warning(
                subject,
                format!("{name} has no tag {tag} of it any more, what runs is {first}; {still}"),
            )),
        }
    }
}

/// An item for a repository that no catalogue and no list named.
fn item_of(source: &RegistrySource, repository: &RepositoryName) -> Item {
    let mut item = item(source, repository);
    if fits(&source.options().exclude, repository.as_str()) {
        item.skip = Some(super::excluded());
    }
    item
}

/// Makes the image part of what is captured of its repository, unless the repository is left out
/// on purpose.
fn come_along(
    source: &RegistrySource,
    repository: &RepositoryName,
    root: Root,
    item: &mut Item,
    cancel: &Cancel,
) -> Result<(), SourceError> {
    match &item.skip {
        Some(Outcome::Skipped { rule, .. }) if rule == super::EXCLUDED => return Ok(()),
        // Not selected, or empty of tags: what runs is needed all the same.
        Some(_) => item.skip = None,
        None => {}
    }
    let mut listing = match source.known(repository) {
        Some(known) => (*known).clone(),
        None => listing(source, repository, &root, cancel)?,
    };
    if !listing.roots.contains(&root) && (root.tag.is_some() || !listing.has(&root.digest)) {
        listing.roots.push(root);
        listing.roots.sort();
    }
    let _known = source.remember(repository, listing);
    Ok(())
}

/// Looks into a repository that the policy does not select by itself, for signatures of the image.
fn listing(
    source: &RegistrySource,
    repository: &RepositoryName,
    root: &Root,
    cancel: &Cancel,
) -> Result<Listing, SourceError> {
    let tag = root.tag.clone();
    let reference = tag.map_or(Reference::Digest(root.digest), Reference::Tag);
    let (registry, options) = (source.registry(), source.options());
    let wanted = Wanted::References(vec![reference]);
    match Listing::read(registry, options, repository, &wanted, cancel) {
        Ok(listing) => Ok(listing),
        Err(RegistryError::Cancelled(_)) => Err(SourceError::Cancelled),
        // The image itself is known; reading it fails by name if it must.
        Err(_) => Ok(Listing::default()),
    }
}
