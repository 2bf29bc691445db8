//! Lists: repositories, tags, referrers; in pages.
//!
//! Invariant: a list that does not end, or repeats itself, is an error and not a loop.

use refloat_model::cancel::Cancel;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Method};

use super::Registry;
use crate::auth::Scope;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::http::{Request, next_page};
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX};
use crate::name::{RepositoryName, Tag};

/// Entries asked for at once.
const PAGE_ENTRIES: usize = 1000;
/// The largest page, in bytes: some registries give a million tags at once.
const PAGE_BYTES_MAX: u64 = 160 << 20;
/// Most repositories of a registry, and most tags of a repository.
pub(crate) const ENTRIES_MAX: usize = 1_000_000;
/// How often a page that ends in its middle is asked for again.
const CUT_PAGES_MAX: u32 = 2;
/// Most referrers of one manifest.
const REFERRERS_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Option<Vec<Descriptor>>,
}

/// A list with what in it is no name.
#[derive(Debug)]
pub(crate) struct Names<T> {
    pub(crate) names: Vec<T>,
    /// Refused as they are, in quotes.
    pub(crate) refused: Vec<String>,
}

impl Registry {
    /// All repositories, sorted.
    pub(crate) fn catalogue(
        &self,
        cancel: &Cancel,
    ) -> Result<Names<RepositoryName>, RegistryError> {
        let url = self.client.url(&format!("_catalog?n={PAGE_ENTRIES}"));
        let what = "the list of repositories";
        let list = self.pages(
            url,
            &Scope::catalogue(),
            (what, ENTRIES_MAX),
            cancel,
            |page| {
                let Catalogue { repositories } = page;
                repositories.unwrap_or_default()
            },
        )?;
        Ok(names(list))
    }

    /// All tags of a repository, sorted.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        cancel: &Cancel,
    ) -> Result<Names<Tag>, RegistryError> {
        let url = self
            .client
            .url(&format!("{repository}/tags/list?n={PAGE_ENTRIES}"));
        let what = "the list of tags";
        let scope = Scope::pull(repository);
        let list = self.pages(url, &scope, (what, ENTRIES_MAX), cancel, |page| {
            let Tags { tags } = page;
            tags.unwrap_or_default()
        })?;
        Ok(names(list))
    }

    /// What refers to a manifest; none if the registry does not tell.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        if self.referrers_api() == super::ReferrersApi::Absent {
            return Ok(None);
        }
        let url = self.client.url(&format!("{repository}/referrers/{digest}"));
        let what = "the list of referrers";
        let scope = Scope::pull(repository);
        let list = self.pages(url, &scope, (what, REFERRERS_MAX), cancel, |page| {
            let Referrers { manifests } = page;
            manifests.unwrap_or_default()
        });
        match list {
            Ok(list) => {
                self.learn_referrers_api(true);
                Ok(Some(list))
            }
            // Registries without the API say so in all these ways, web pages included. One that
            // has it must answer: else signatures would be missing and nobody would know.
            Err(
                RegistryError::Refused {
                    status: 400 | 401 | 403 | 404 | 405 | 406 | 501,
                    ..
                }
                | RegistryError::Unauthorized(_)
                | RegistryError::Malformed { .. },
            ) if self.referrers_api() != super::ReferrersApi::Present => {
                self.learn_referrers_api(false);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn pages<P: DeserializeOwned, T>(
        &self,
        first: String,
        scope: &Scope,
        (what, entries_max): (&'static str, usize),
        cancel: &Cancel,
        entries: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>, RegistryError> {
        let too_many = || RegistryError::TooLarge {
            what: what.to_owned(),
            limit: entries_max as u64,
            unit: "entries",
        };
        let mut list = Vec::new();
        let mut next = Some(first);
        while let Some(url) = next {
            let request = Request::new(Method::GET, url.clone(), scope);
            let bytes_max = if entries_max == REFERRERS_MAX {
                MANIFEST_BYTES_MAX
            } else {
                PAGE_BYTES_MAX
            };
            let (headers, page) = self.page(&request, (what, bytes_max), cancel)?;
            let page = entries(page);
            next = next_page(&url, &headers)?;
            // A page without entries, or a page that names itself as the next, leads nowhere.
            if next.as_ref() == Some(&url) || (page.is_empty() && next.is_some()) {
                return Err(too_many());
            }
            list.extend(page);
            if list.len() > entries_max {
                return Err(too_many());
            }
        }
        Ok(list)
    }
}

impl Registry {
    /// One page; one that ends in its middle was cut on the way, and is asked for again, so many
    /// times.
    fn page<P: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        (what, bytes_max): (&'static str, u64),
        cancel: &Cancel,
    ) -> Result<(HeaderMap, P), RegistryError> {
        let mut failures = 0;
        loop {
            let (headers, bytes) = self.client.fetch(request, (what, bytes_max), cancel)?;
            let page = serde_json::from_slice(&bytes)
                .map_err(|source| RegistryError::Malformed { what, source });
            match page {
                Ok(page) => return Ok((headers, page)),
                Err(error) if error.is_cut() && failures < CUT_PAGES_MAX => {
                    failures += 1;
                    self.client.pace().pause(failures, error, cancel)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn names<T: std::str::FromStr + Ord>(list: Vec<String>) -> Names<T> {
    let mut refused = Vec::new();
    let mut names: Vec<T> = list
        .into_iter()
        .filter_map(|text| {
            text.parse()
                .map_err(|_| {
                    refused.push(format!("{:?}", text.chars().take(80).collect::<String>()))
                })
                .ok()
        })
        .collect();
    names.sort();
    names.dedup();
    Names { names, refused }
}
