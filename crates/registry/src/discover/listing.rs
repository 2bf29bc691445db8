//! The tags of one repository and what they stood for when it was looked at.
//!
//! Invariant: a listing is complete: a tag that could not be resolved is named in it.

use std::collections::BTreeMap;

use refloat_model::cancel::Cancel;

use crate::api::Registry;
use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, chain};
use crate::name::{Reference, RepositoryName, Tag};
use crate::options::{RegistryOptions, Repositories};
use crate::parallel;

/// Which manifests of a repository are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Every tag that the policy selects.
    Tags,
    /// These only.
    References(Vec<Reference>),
}

impl Wanted {
    pub(crate) fn of(repositories: &Repositories, name: &RepositoryName) -> Self {
        match repositories {
            Repositories::Catalogue | Repositories::Listed(_) => Self::Tags,
            // What is wanted is known only once all sources were looked at.
            Repositories::InUse => Self::References(Vec::new()),
            Repositories::Images(images) => {
                let own = images.iter().filter(|image| image.repository == *name);
                Self::References(own.map(|image| image.reference.clone()).collect())
            }
        }
    }
}

/// A manifest by which an image is entered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Root {
    /// None if only a digest names it.
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Digest,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    /// What is captured, sorted.
    pub(crate) roots: Vec<Root>,
    /// Tags of referrers by what they refer to: captured if that is.
    pub(crate) referrers: BTreeMap<Digest, Vec<Root>>,
    /// Tags that cannot be resolved, with the reason.
    pub(crate) failures: Vec<(String, String)>,
    /// Names in the list that are no tags.
    pub(crate) refused: Vec<String>,
}

/// One question: what does this stand for?
struct Question<'a> {
    /// Which repository of those that are read.
    number: usize,
    repository: &'a RepositoryName,
    reference: Reference,
    selected: bool,
}

impl Listing {
    pub(crate) fn read(
        registry: &Registry,
        options: &RegistryOptions,
        repository: &RepositoryName,
        wanted: &Wanted,
        cancel: &Cancel,
    ) -> Result<Self, RegistryError> {
        let wanted = [(repository.clone(), wanted.clone())];
        let at_once = options.connect.requests_at_once;
        let mut listings = Self::read_all(registry, options, &wanted, at_once, cancel);
        listings.pop().unwrap_or_else(|| Ok(Self::default()))
    }

    /// Reads many repositories: first all lists of tags, then what all these tags stand for, so
    /// that the requests of small repositories do not wait for each other.
    pub(crate) fn read_all(
        registry: &Registry,
        options: &RegistryOptions,
        wanted: &[(RepositoryName, Wanted)],
        at_once: usize,
        cancel: &Cancel,
    ) -> Vec<Result<Self, RegistryError>> {
        let lists = parallel::map(wanted, at_once, |(repository, wanted)| {
            references(registry, options, repository, wanted, cancel)
        });
        let mut listings = Vec::with_capacity(wanted.len());
        let mut questions = Vec::new();
        for (number, ((repository, _), list)) in wanted.iter().zip(lists).enumerate() {
            listings.push(list.map(|(references, refused)| {
                questions.extend(
                    references
                        .into_iter()
                        .map(|(reference, selected)| Question {
                            number,
                            repository,
                            reference,
                            selected,
                        }),
                );
                Self {
                    refused,
                    ..Self::default()
                }
            }));
        }
        let answers = parallel::map(&questions, at_once, |question| {
            registry.resolve(question.repository, &question.reference, cancel)
        });
        for (question, answer) in questions.into_iter().zip(answers) {
            let Some(slot) = listings.get_mut(question.number) else {
                continue;
            };
            if let Err(RegistryError::Cancelled(cancelled)) = answer {
                *slot = Err(cancelled.into());
                continue;
            }
            if let Ok(listing) = slot {
                listing.take(question.reference, question.selected, answer);
            }
        }
        for listing in listings.iter_mut().flatten() {
            listing.roots.sort();
            listing.roots.dedup();
        }
        listings
    }

    fn take(
        &mut self,
        reference: Reference,
        selected: bool,
        answer: Result<Option<crate::api::Resolved>, RegistryError>,
    ) {
        let reason = match answer {
            Ok(Some(resolved)) => {
                let tag = match reference {
                    Reference::Tag(tag) => Some(tag),
                    Reference::Digest(_) => None,
                };
                let subject = tag.as_ref().and_then(Tag::subject);
                let root = Root {
                    tag,
                    digest: resolved.digest,
                };
                match subject {
                    _ if selected => self.roots.push(root),
                    Some(subject) => self.referrers.entry(subject).or_default().push(root),
                    None => {}
                }
                return;
            }
            Ok(None) => "the registry lists it and does not have it".to_owned(),
            Err(error) => chain(&error),
        };
        self.failures.push((reference.to_string(), reason));
    }

    /// Whether there is nothing to capture and nothing that failed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.failures.is_empty()
    }

    /// Whether a manifest is among what is captured by itself.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.roots.iter().any(|root| root.digest == *digest)
    }

    /// What a tag that is captured stands for.
    pub(crate) fn tagged(&self, tag: &Tag) -> Option<Digest> {
        let root = self
            .roots
            .iter()
            .find(|root| root.tag.as_ref() == Some(tag));
        root.map(|root| root.digest)
    }

    /// Stands for everything that this listing and the options lead to, as long as the registry
    /// has no other way to add referrers than tags.
    pub(crate) fn fingerprint(&self, options: &RegistryOptions) -> String {
        let mut hash = Hasher::default();
        let mut line = |text: String| {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        };
        line("1".to_owned());
        options
            .platforms
            .iter()
            .for_each(|platform| line(format!("platform {platform}")));
        for root in self.roots.iter().chain(self.referrers.values().flatten()) {
            let tag = root.tag.as_ref().map_or("", Tag::as_str);
            line(format!("{tag} {}", root.digest));
        }
        hash.finish().hex()
    }
}

/// What to resolve in one repository, each with whether the policy selects it by name, and names
/// that are none.
type References = (Vec<(Reference, bool)>, Vec<String>);

fn references(
    registry: &Registry,
    options: &RegistryOptions,
    repository: &RepositoryName,
    wanted: &Wanted,
    cancel: &Cancel,
) -> Result<References, RegistryError> {
    let fits = |globs: &[refloat_model::glob::Glob], tag: &Tag| {
        globs.iter().any(|glob| glob.matches(tag.as_str()))
    };
    let listed = registry.tags(repository, cancel);
    match wanted {
        Wanted::Tags => {
            let list = listed?;
            let of = |tag: Tag| {
                let selected = (options.select_tags.is_empty() || fits(&options.select_tags, &tag))
                    && !fits(&options.exclude_tags, &tag);
                let asked = selected || tag.subject().is_some();
                asked.then_some((Reference::Tag(tag), selected))
            };
            Ok((
                list.names.into_iter().filter_map(of).collect(),
                list.refused,
            ))
        }
        Wanted::References(references) => {
            let mut asked: Vec<_> = references.iter().map(|r| (r.clone(), true)).collect();
            match listed {
                // Signatures of what is wanted have tags of their own.
                Ok(list) => {
                    let referrers = list.names.into_iter().filter(|tag| tag.subject().is_some());
                    asked.extend(referrers.map(|tag| (Reference::Tag(tag), false)));
                }
                Err(RegistryError::Cancelled(cancelled)) => return Err(cancelled.into()),
                // Whoever may pull an image may not always list tags.
                Err(_) => {}
            }
            Ok((asked, Vec::new()))
        }
    }
}
