//! What `RestoreRequest::only` means in a cluster: namespaces, applications, objects, fields, and
//! what an expression fits.
//!
//! Invariant: what is named and not there is told; what only comes along is known as such.

use std::collections::{BTreeMap, BTreeSet};

use refloat_source::TargetError;

use super::stored::Stored;
use super::unread::Unread;
use crate::expression::Expression;
use crate::kind::{elements, name, namespace, object_name, text};
use crate::layout::Folder;
use crate::look::application;
use crate::references::{Reference, references};
use crate::stateful_set::sets_of_claim;

/// What `RestoreRequest::only` means in a cluster.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) namespaces: BTreeSet<String>,
    applications: BTreeSet<(String, String)>,
    /// As `secrets/shop/db`.
    pub(super) objects: BTreeSet<String>,
    /// Single fields, as JSON pointers, by object.
    pub(super) fields: BTreeMap<String, Vec<String>>,
    expressions: Vec<Expression>,
}

impl Selection {
    /// # Errors
    /// An expression is none.
    pub(super) fn parse(only: &[String]) -> Result<Self, TargetError> {
        let mut selection = Self::default();
        for text in only {
            let (kind, rest) = text.split_once(':').unwrap_or(("", text));
            match kind {
                "namespace" => drop(selection.namespaces.insert(rest.to_owned())),
                "secret" => drop(selection.objects.insert(format!("secrets/{rest}"))),
                "config" => drop(selection.objects.insert(format!("configmaps/{rest}"))),
                "object" => drop(selection.objects.insert(rest.to_owned())),
                "where" => {
                    let expression =
                        Expression::parse(rest).map_err(|error| TargetError::Request {
                            what: error.to_string(),
                            hint: Some("write where:EXPRESSION in CEL".to_owned()),
                        })?;
                    selection.expressions.push(expression);
                }
                "field" => {
                    // Names may hold a colon, and only a pointer begins with a slash after one.
                    let (object, field) = rest.split_once(":/").unwrap_or((rest, ""));
                    let fields = selection.fields.entry(object.to_owned()).or_default();
                    fields.push(format!("/{field}"));
                }
                // Names of applications may hold a colon; those of namespaces and kinds may not.
                _ => match text.split_once('/') {
                    Some((space, application)) => {
                        let application = (space.to_owned(), application.to_owned());
                        selection.applications.insert(application);
                    }
                    None => drop(selection.namespaces.insert(text.clone())),
                },
            }
        }
        Ok(selection)
    }

    /// Whether a folder can hold something selected. What is in no namespace may be needed by
    /// what is.
    pub(super) fn may_select(&self, folder: &Folder) -> bool {
        let Some(space) = &folder.namespace else {
            return true;
        };
        let inside = format!("/{space}/");
        !self.expressions.is_empty()
            || self.namespaces.contains(space)
            || self.applications.iter().any(|(s, _)| s == space)
            || self.objects.iter().any(|object| object.contains(&inside))
            || self.fields.keys().any(|object| object.contains(&inside))
    }

    /// Whether what cannot be read is asked for, as far as its place tells; what only its content
    /// would tell counts as asked for.
    pub(super) fn may_ask_for(&self, unread: &Unread) -> bool {
        let mut names = self.objects.iter().chain(self.fields.keys());
        let is_named = names.any(|name| unread.may_be(name)) || !self.expressions.is_empty();
        is_named
            || match &unread.folder.namespace {
                Some(space) => {
                    self.namespaces.contains(space)
                        || self.applications.iter().any(|(s, _)| s == space)
                }
                None => {
                    let mut spaces = self.namespaces.iter();
                    spaces.any(|space| unread.may_be(&object_name("namespaces", None, space)))
                }
            }
    }

    /// The selected objects, the names of what comes along because it belongs to them, and those of
    /// all that they need. Single fields bring nothing along.
    pub(super) fn choose(
        &self,
        objects: Vec<Stored>,
    ) -> (Vec<Stored>, BTreeSet<String>, BTreeSet<String>) {
        let mut chosen: BTreeSet<String> = objects
            .iter()
            .filter(|stored| self.selects(stored))
            .map(Stored::name)
            .collect();
        chosen.extend(self.owned(&objects, &chosen));
        let asked = chosen.clone();
        let needed = loop {
            let needed: BTreeSet<String> = objects
                .iter()
                .filter(|stored| chosen.contains(&stored.name()))
                .flat_map(needs)
                .collect();
            let more: Vec<String> = objects
                .iter()
                .filter(|stored| self.belongs(stored, &needed, &chosen))
                .map(Stored::name)
                .filter(|name| !chosen.contains(name))
                .collect();
            if more.is_empty() {
                break needed;
            }
            chosen.extend(more);
        };
        let mut objects = objects;
        objects.retain(|stored| {
            chosen.contains(&stored.name()) || self.fields.contains_key(&stored.name())
        });
        let companions = chosen.difference(&asked).cloned().collect();
        (objects, companions, needed)
    }

    /// What the chosen objects own, directly or not: an application is a graph of owners too.
    fn owned(&self, objects: &[Stored], chosen: &BTreeSet<String>) -> BTreeSet<String> {
        if self.applications.is_empty() {
            return BTreeSet::new();
        }
        let key = |kind: &str, space: Option<&str>, name: &str| {
            (kind.to_owned(), space.map(str::to_owned), name.to_owned())
        };
        let mut owners: BTreeSet<_> = objects
            .iter()
            .filter(|stored| chosen.contains(&stored.name()))
            .filter_map(|stored| {
                let kind = text(&stored.object, "/kind")?;
                Some(key(kind, namespace(&stored.object), name(&stored.object)))
            })
            .collect();
        let mut owned = BTreeSet::new();
        loop {
            let more: Vec<&Stored> = objects
                .iter()
                .filter(|stored| !chosen.contains(&stored.name()))
                .filter(|stored| !owned.contains(&stored.name()))
                .filter(|stored| {
                    let space = namespace(&stored.object);
                    let is_claim = stored.id() == "persistentvolumeclaims";
                    let mut sets = sets_of_claim(name(&stored.object)).filter(|_| is_claim);
                    sets.any(|set| owners.contains(&key("StatefulSet", space, set)))
                        || elements(&stored.object, "/metadata/ownerReferences").any(|owner| {
                            let field = |pointer| text(owner, pointer).unwrap_or_default();
                            owners.contains(&key(field("/kind"), space, field("/name")))
                        })
                })
                .collect();
            if more.is_empty() {
                return owned;
            }
            for stored in more {
                owned.insert(stored.name());
                if let Some(kind) = text(&stored.object, "/kind") {
                    owners.insert(key(kind, namespace(&stored.object), name(&stored.object)));
                }
            }
        }
    }

    fn selects(&self, stored: &Stored) -> bool {
        // What an expression cannot judge does not fit it: an object of another kind has not the
        // fields that are asked for.
        let fits = |e: &Expression| e.fits(&stored.id(), &stored.object).unwrap_or(false);
        if self.objects.contains(&stored.name()) || self.expressions.iter().any(fits) {
            return true;
        }
        let Some(space) = namespace(&stored.object) else {
            return stored.id() == "namespaces" && self.namespaces.contains(name(&stored.object));
        };
        self.namespaces.contains(space)
            || application(&stored.object).is_some_and(|application| {
                let key = (space.to_owned(), application.to_owned());
                self.applications.contains(&key)
            })
    }

    /// Whether an object must come along: something chosen needs it, or it is cluster-wide and
    /// points into what is chosen (a binding, a webhook of the application).
    fn belongs(
        &self,
        stored: &Stored,
        needed: &BTreeSet<String>,
        chosen: &BTreeSet<String>,
    ) -> bool {
        if needed.contains(&stored.name()) {
            return true;
        }
        if namespace(&stored.object).is_some() || stored.id() == "persistentvolumes" {
            return false;
        }
        references(&stored.id(), &stored.object)
            .iter()
            .any(|reference| match reference {
                Reference::Object {
                    kind,
                    namespace: Some(space),
                    name,
                } => chosen.contains(&object_name(kind, Some(space), name)),
                _ => false,
            })
    }

    pub(super) fn all_found(
        &self,
        objects: &[Stored],
        unread: &[Unread],
        candidates: &BTreeSet<&String>,
    ) -> Result<(), TargetError> {
        let spaces: BTreeSet<&str> = objects
            .iter()
            .filter_map(|s| namespace(&s.object))
            .chain(unread.iter().filter_map(|u| u.folder.namespace.as_deref()))
            .collect();
        let names: BTreeSet<String> = objects.iter().map(Stored::name).collect();
        let missing_space = self
            .namespaces
            .iter()
            .find(|space| {
                !spaces.contains(space.as_str()) && !names.contains(&format!("namespaces/{space}"))
            })
            .map(|space| format!("workload {space:?}"));
        let missing_application = self.applications.iter().find(|(space, application)| {
            let is_read = objects.iter().any(|stored| {
                namespace(&stored.object) == Some(space)
                    && self::application(&stored.object) == Some(application)
            });
            let mut unread = unread.iter();
            !is_read && !unread.any(|u| u.folder.namespace.as_ref() == Some(space))
        });
        let missing_application =
            missing_application.map(|(space, name)| format!("workload \"{space}/{name}\""));
        let fitting_nothing = self.expressions.iter().find(|expression| {
            let fits = |s: &Stored| expression.fits(&s.id(), &s.object).unwrap_or(false);
            unread.is_empty() && !objects.iter().any(fits)
        });
        let mut named = self.objects.iter().chain(self.fields.keys());
        let is_there =
            |object: &&String| names.contains(*object) || unread.iter().any(|u| u.may_be(object));
        let missing_object = named.find(|object| !is_there(object));
        let missing = missing_space
            .or(missing_application)
            .or(missing_object.map(|object| format!("object {object:?}")))
            .or(fitting_nothing.map(|e| format!("object that fits {:?}", e.to_string())));
        match missing {
            None => Ok(()),
            Some(what) => Err(TargetError::NotInPoint {
                what,
                candidates: candidates.iter().map(|space| (*space).clone()).collect(),
            }),
        }
    }
}

/// The objects that one needs, by name; a custom resource its definition too.
fn needs(stored: &Stored) -> Vec<String> {
    let mut names: Vec<String> = references(&stored.id(), &stored.object)
        .into_iter()
        .filter_map(|reference| match reference {
            Reference::Object {
                kind,
                namespace,
                name,
            } => Some(object_name(kind, namespace.as_deref(), &name)),
            _ => None,
        })
        .collect();
    names.push(format!(
        "customresourcedefinitions.apiextensions.k8s.io/{}",
        stored.id()
    ));
    names
}
