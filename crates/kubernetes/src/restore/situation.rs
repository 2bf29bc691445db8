//! The target as it is now, as far as the prepared objects are concerned.
//!
//! Invariant: what could not be read is known as such, never taken for absent.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use super::plan::REQUESTS_AT_ONCE;
use super::prepare::{Prepared, Wish};
use super::sanitise::sanitise;
use crate::client::{Api, Call, List};
use crate::error::ApiError;
use crate::hash::Fnv;
use crate::kind::{Kind, elements, name, namespace, text};

/// A kind and a namespace, as its list is asked for.
type Place = (String, Option<String>);

/// What a plan is made against.
pub(super) struct Situation {
    /// Live objects by their title.
    pub(super) live: BTreeMap<String, Value>,
    /// The namespaces that are there; only their names where they cannot be looked at.
    pub(super) namespaces: BTreeMap<String, Value>,
    /// Lists that could not be read, and why.
    unreadable: BTreeMap<Place, String>,
}

impl Situation {
    pub(super) async fn read(api: &Api, prepared: &[Prepared]) -> Result<Self, ApiError> {
        let namespaces = namespaces(api, prepared).await?;
        let mut lists: BTreeSet<(&Kind, Option<&str>)> = BTreeSet::new();
        for p in prepared.iter().filter(|p| p.wish == Wish::Wanted) {
            // Nothing can be in a namespace that is not there.
            if p.namespace()
                .is_none_or(|space| namespaces.contains_key(space))
            {
                lists.insert((&p.kind, p.namespace()));
            }
        }
        let wanted: BTreeSet<String> = prepared.iter().map(Prepared::title).collect();
        let (mut live, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        let mut answers = stream::iter(lists)
            .map(|(kind, space)| {
                let wanted = &wanted;
                async move { (kind, space, read(api, kind, space, wanted).await) }
            })
            .buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((kind, space, answer)) = answers.next().await {
            match answer {
                Ok(objects) => live.extend(objects),
                // A kind whose definition comes with the restore.
                Err(error) if error.is_not_found() => {}
                // A right that is missing, a conversion webhook that is down: of this kind only.
                Err(error @ ApiError::Refused { .. }) => {
                    let place = (kind.id(), space.map(str::to_owned));
                    unreadable.insert(place, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            live,
            namespaces,
            unreadable,
        })
    }

    /// Why it cannot be seen whether an object is there; none if it can.
    pub(super) fn unreadable(&self, prepared: &Prepared) -> Option<&str> {
        let place = (prepared.id.clone(), prepared.namespace().map(str::to_owned));
        self.unreadable.get(&place).map(String::as_str)
    }

    /// A hash of everything that decisions were made about, without what changes by itself.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = Fnv::default();
        for (title, live) in &self.live {
            let id = title.split('/').next().unwrap_or_default();
            let mut object = live.clone();
            sanitise(id, &mut object, None);
            hash.write(title.as_bytes());
            hash.write(text(live, "/metadata/uid").unwrap_or_default().as_bytes());
            hash.write(object.to_string().as_bytes());
        }
        format!("{:016x}", hash.finish())
    }

    /// Whether an object's namespace is there, or it needs none.
    pub(super) fn has_space(&self, prepared: &Prepared) -> bool {
        prepared
            .namespace()
            .is_none_or(|space| self.namespaces.contains_key(space))
    }

    /// Whether a namespace is being deleted.
    pub(super) fn is_ending(&self, space: &str) -> bool {
        let space = self.namespaces.get(space);
        space.is_some_and(|space| text(space, "/status/phase") == Some("Terminating"))
    }
}

/// The wanted objects of one list, by title.
async fn read(
    api: &Api,
    kind: &Kind,
    space: Option<&str>,
    wanted: &BTreeSet<String>,
) -> Result<Vec<(String, Value)>, ApiError> {
    let mut list = List::new(api, kind, space);
    let mut found = Vec::new();
    while let Some(page) = list.next().await? {
        for object in page.objects {
            let title = kind.object_name(namespace(&object), name(&object));
            if wanted.contains(&title) {
                found.push((title, object));
            }
        }
    }
    Ok(found)
}

/// The namespaces that are there. Credentials that may not list them can look at each, or at none:
/// then it is taken for there, because somebody gave them rights in it.
async fn namespaces(api: &Api, prepared: &[Prepared]) -> Result<BTreeMap<String, Value>, ApiError> {
    match api.call(&Call::get("/api/v1/namespaces")).await {
        Ok(answer) => {
            let all = elements(&answer, "/items");
            return Ok(all
                .map(|space| (name(space).to_owned(), space.clone()))
                .collect());
        }
        Err(error) if error.status() == Some(403) => {}
        Err(error) => return Err(error),
    }
    let spaces: BTreeSet<&str> = prepared.iter().filter_map(Prepared::namespace).collect();
    let mut found = BTreeMap::new();
    for space in spaces {
        let path = format!("/api/v1/namespaces/{space}");
        match api.call(&Call::get(path)).await {
            Ok(object) => drop(found.insert(space.to_owned(), object)),
            Err(error) if error.is_not_found() => {}
            Err(error) if error.status() == Some(403) => {
                found.insert(space.to_owned(), Value::Null);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
