//! What belongs to the applications that a policy selects: their own objects by Helm's annotations
//! or the recommended labels, and what those own, directly or not.
//!
//! Objects are known by kind, namespace and name, because owners are named by kind.
//!
//! Invariant: whatever an application's object owns in the same namespace is a member.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::application;
use super::scope::Scope;
use crate::kind::{Kind, elements, name, namespace, text};

/// An object as its owner knows it: namespace, kind, name.
type Key = (String, String, String);

/// The members of the selected applications.
#[derive(Default)]
pub(crate) struct Members(BTreeSet<Key>);

impl Members {
    /// Whether an object belongs to the applications. Namespaces and what is in none are not asked.
    pub(crate) fn has(&self, kind: &Kind, object: &Value) -> bool {
        !kind.namespaced || self.0.contains(&key(kind, object))
    }
}

fn key(kind: &Kind, object: &Value) -> Key {
    let space = namespace(object).unwrap_or_default();
    (space.to_owned(), kind.kind.clone(), name(object).to_owned())
}

/// Looks for the members; none if no application is selected. What cannot be listed is told by the
/// look that follows.
pub(super) async fn find(scope: &Scope<'_>, kinds: &[&Kind]) -> Option<Members> {
    if scope.options.applications.is_empty() {
        return None;
    }
    let family = RefCell::new(Family::default());
    let see = |kind: &Kind, object: &Value| {
        let space = namespace(object).unwrap_or_default();
        let is_own =
            application(object).is_some_and(|name| scope.options.selects_application(space, name));
        family.borrow_mut().add(kind, object, is_own);
    };
    for kind in kinds.iter().filter(|kind| kind.namespaced) {
        let _told_by_the_look = scope.all(kind, &see).await;
    }
    Some(family.into_inner().members())
}

/// Objects and what each owns.
#[derive(Default)]
struct Family {
    own: BTreeSet<Key>,
    children: BTreeMap<Key, Vec<Key>>,
}

impl Family {
    fn add(&mut self, kind: &Kind, object: &Value, is_own: bool) {
        let child = key(kind, object);
        for owner in elements(object, "/metadata/ownerReferences") {
            let field = |pointer| text(owner, pointer).unwrap_or_default().to_owned();
            let owner = (child.0.clone(), field("/kind"), field("/name"));
            self.children.entry(owner).or_default().push(child.clone());
        }
        if is_own {
            self.own.insert(child);
        }
    }

    fn members(self) -> Members {
        let mut open: Vec<Key> = self.own.iter().cloned().collect();
        let mut members = self.own;
        while let Some(owner) = open.pop() {
            for child in self.children.get(&owner).into_iter().flatten() {
                if members.insert(child.clone()) {
                    open.push(child.clone());
                }
            }
        }
        Members(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(name: &str) -> Kind {
        Kind {
            group: String::new(),
            version: "v1".into(),
            resource: name.to_lowercase(),
            kind: name.into(),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn what_an_application_owns_belongs_to_it_however_deep_and_in_circles() {
        let object = |name: &str, owner: Option<(&str, &str)>| {
            let owners: Vec<Value> = owner
                .iter()
                .map(|(kind, name)| json!({"kind": kind, "name": name}))
                .collect();
            json!({"metadata": {"name": name, "namespace": "shop", "ownerReferences": owners}})
        };
        let mut family = Family::default();
        family.add(
            &kind("Widget"),
            &object("main", Some(("Secret", "leaf"))),
            true,
        );
        family.add(
            &kind("Deployment"),
            &object("web", Some(("Widget", "main"))),
            false,
        );
        family.add(
            &kind("Secret"),
            &object("leaf", Some(("Deployment", "web"))),
            false,
        );
        family.add(
            &kind("Secret"),
            &object("other", Some(("Widget", "another"))),
            false,
        );
        family.add(&kind("Secret"), &object("main", None), false);
        let members = family.members();
        let has = |of: &str, name: &str| members.has(&kind(of), &object(name, None));
        assert!(has("Widget", "main") && has("Deployment", "web") && has("Secret", "leaf"));
        assert!(!has("Secret", "other") && !has("Secret", "main"));
    }
}
