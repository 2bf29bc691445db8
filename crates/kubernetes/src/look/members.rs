//! What belongs to the applications that a policy selects: their own objects by Helm's annotations
//! or the recommended labels, and what those own, directly or not.
//!
//! Objects are known by kind, namespace and name, because owners are named by kind.
//!
//! Invariant: whatever an application's object owns in the same namespace is a member, or a finding
//! says what could not be looked at.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use refloat_model::finding::Finding;
use serde_json::Value;

use super::scope::Scope;
use super::{LISTS_AT_ONCE, application, otherwise};
use crate::catalogue::Catalogue;
use crate::kind::{Kind, elements, name, namespace, text};
use crate::rules::kind_rule;
use crate::stateful_set::{CLAIM, sets_of_claim};

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

/// Looks for the members, and says what could not be looked at; none if no application is selected.
///
/// Whatever else a policy leaves out (kinds, names, labels) may stand between an application and
/// what it owns: all of it is looked at here.
pub(super) async fn find(
    scope: &Scope<'_>,
    catalogue: &Catalogue,
) -> (Option<Members>, Vec<Finding>) {
    let options = scope.options;
    if options.applications.is_empty() {
        return (None, Vec::new());
    }
    let everything = options.of_applications();
    let scope = Scope {
        options: &everything,
        ..*scope
    };
    let family = RefCell::new(Family::default());
    let see = |kind: &Kind, object: Value| {
        let space = namespace(&object).unwrap_or_default();
        let is_own =
            application(&object).is_some_and(|name| options.selects_application(space, name));
        family.borrow_mut().add(kind, &object, is_own);
    };
    let kinds = catalogue.preferred();
    // What a rule leaves out owns nothing.
    let kinds = kinds.filter(|k| k.namespaced && k.can("list") && kind_rule(k).is_none());
    let (scope, see) = (&scope, &see);
    let lists = stream::iter(kinds.map(|kind| async move {
        let problems = scope.all(kind, see).await;
        let problems = otherwise(scope, catalogue, kind, problems, see).await;
        let is_selected = options.selects_kind(kind);
        problems
            .into_iter()
            .filter_map(move |problem| problem.of_members(is_selected))
    }))
    .buffer_unordered(LISTS_AT_ONCE);
    let findings: Vec<_> = lists.collect().await;
    let findings = findings.into_iter().flatten().collect();
    (Some(family.into_inner().members()), findings)
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
        for set in sets_of_claim(&child.2).filter(|_| kind.kind == CLAIM) {
            let set = (child.0.clone(), "StatefulSet".to_owned(), set.to_owned());
            self.children.entry(set).or_default().push(child.clone());
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
        // As the controller makes them, without a word of whose they are.
        family.add(
            &kind("StatefulSet"),
            &object("db", Some(("Widget", "main"))),
            false,
        );
        family.add(&kind(CLAIM), &object("data-db-0", None), false);
        family.add(&kind(CLAIM), &object("data-other-0", None), false);
        let members = family.members();
        let has = |of: &str, name: &str| members.has(&kind(of), &object(name, None));
        assert!(has("Widget", "main") && has("Deployment", "web") && has("Secret", "leaf"));
        assert!(!has("Secret", "other") && !has("Secret", "main"));
        assert!(has(CLAIM, "data-db-0") && !has(CLAIM, "data-other-0"));
    }
}
