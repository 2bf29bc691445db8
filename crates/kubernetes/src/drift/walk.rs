//! The fields in which two versions of an object differ.
//!
//! Invariant: a field that somebody wrote and that is not as it should be is found; a field that
//! only the server filled in is not.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

use super::amount;
use super::defaults::is_default;
use super::document::Document;
use super::elements;
use super::owners::{Manager, Segment, managers};

/// What stands where a Secret's value was.
const MASK: &str = "***";
/// What `kubectl apply` calls itself.
const APPLY: &str = "kubectl-client-side-apply";
/// Objects are nested far less.
const DEPTH_MAX: usize = 128;

/// Fields whose content is somebody else's words, whatever they are called.
const FREE_TEXT: [&str; 6] = [
    "annotations",
    "binaryData",
    "data",
    "labels",
    "matchLabels",
    "stringData",
];
/// The one label that the server fills in.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Lists whose elements have names and take effect one after the other.
const ORDERED: [&str; 2] = ["env", "initContainers"];

/// What of an object must be as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// All of it: both sides are what a server held. What the server filled in since, and nobody
    /// wrote, does not count.
    Whole,
    /// What the first side says, and what a person added by hand: the first side is what somebody
    /// wrote, and the server and its controllers added their part.
    Declared,
}

/// One field that differs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FieldDrift {
    /// `spec.template.spec.containers[web].image`.
    pub field: String,
    /// As it should be; none if it should not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// As it is; none if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Who the server says the field belongs to, the newest writer first; nobody for a field that
    /// is gone, which the server keeps no record of.
    pub managers: Vec<Manager>,
}

/// The fields in which `after` differs from `before`.
#[must_use]
pub fn compare(before: &Document, after: &Document, how: Compare) -> Vec<FieldDrift> {
    let mut walk = Walk {
        after,
        beside: None,
        how,
        is_secret: before.is_secret() || after.is_secret(),
        is_own: after.key().is_none_or(|key| is_own(&key.group)),
        found: Vec::new(),
        path: Vec::new(),
    };
    walk.values(Some(&before.object), Some(&after.object));
    walk.found
}

impl Document {
    /// Everybody who wrote to the object, the newest first.
    #[must_use]
    pub fn managers(&self) -> Vec<Manager> {
        managers(&self.managed_fields, &[])
    }
}

/// Whether what somebody applied has something at `path`.
fn holds(applied: &Value, path: &[Segment<'_>]) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        return true;
    };
    let below = match segment {
        Segment::Field(name) => applied.get(*name),
        Segment::Element(_, _, value) => {
            let list = applied.as_array();
            list.and_then(|list| elements::same(list, value))
        }
    };
    below.is_some_and(|below| holds(below, rest))
}

/// Whether a group is Kubernetes' own: what others define has defaults of its own, and what looks
/// like an amount there may be none.
fn is_own(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

struct Walk<'a> {
    after: &'a Document,
    /// What the field that is looked at stands in.
    beside: Option<&'a Value>,
    how: Compare,
    is_secret: bool,
    /// Whether Kubernetes itself defines the kind.
    is_own: bool,
    found: Vec<FieldDrift>,
    path: Vec<Segment<'a>>,
}

impl<'a> Walk<'a> {
    fn values(&mut self, before: Option<&'a Value>, after: Option<&'a Value>) {
        if before == after {
            return;
        }
        if self.path.len() > DEPTH_MAX {
            return self.differ(before, after);
        }
        match (before, after) {
            // What is new is looked at field by field: each has its writer.
            (Some(Value::Object(_)) | None, Some(Value::Object(_))) => self.objects(before, after),
            (Some(Value::Array(old)), Some(Value::Array(new))) => self.lists(old, new),
            (Some(old), Some(new)) if self.is_amount() && amount::is_same(old, new) => {}
            _ => self.differ(before, after),
        }
    }

    fn objects(&mut self, before: Option<&'a Value>, after: Option<&'a Value>) {
        let (old, new) = (
            before.and_then(Value::as_object),
            after.and_then(Value::as_object),
        );
        let is_empty =
            |map: Option<&serde_json::Map<String, Value>>| map.is_none_or(|m| m.is_empty());
        if is_empty(old) && is_empty(new) {
            // An empty object can mean something, as `emptyDir: {}` does.
            return self.differ(before, after);
        }
        let keys = old.into_iter().chain(new).flat_map(|map| map.keys());
        let keys: BTreeSet<&'a String> = keys.collect();
        for key in keys {
            let of = |map: Option<&'a serde_json::Map<String, Value>>| map.and_then(|m| m.get(key));
            self.beside = after;
            self.below(Segment::Field(key), of(old), of(new));
        }
    }

    fn lists(&mut self, old: &'a [Value], new: &'a [Value]) {
        if let Some(pairs) = elements::pairs(old, new) {
            for (label, before, after) in pairs {
                let Some(value) = after.or(before) else {
                    continue;
                };
                let index = new.iter().position(|v| std::ptr::eq(v, value));
                let segment = Segment::Element(label, index.unwrap_or(usize::MAX), value);
                self.below(segment, before, after);
            }
            self.order(old, new);
            return;
        }
        if old.len() == new.len() {
            for (index, (before, after)) in old.iter().zip(new).enumerate() {
                let segment = Segment::Element(index.to_string(), index, after);
                self.below(segment, Some(before), Some(after));
            }
            return;
        }
        // Nothing tells which element is which: the list is what differs.
        let whole = |list: &[Value]| Some(Value::Array(list.to_vec()));
        self.differ_as(whole(old), whole(new));
    }

    /// Elements that both have, in another order, where order means something: a container may need
    /// what another one before it made, a variable may quote those before it.
    fn order(&mut self, old: &'a [Value], new: &'a [Value]) {
        let is_ordered = matches!(self.path.last(), Some(Segment::Field(f)) if ORDERED.contains(f));
        if !is_ordered || self.is_free_text() {
            return;
        }
        let names = |list: &'a [Value], other: &[Value]| -> Vec<Value> {
            let names = list.iter().filter_map(|element| element.get("name"));
            let is_there = |name: &&Value| other.iter().any(|e| e.get("name") == Some(*name));
            names.filter(is_there).cloned().collect()
        };
        let (before, after) = (names(old, new), names(new, old));
        if before != after {
            self.differ_as(Some(Value::Array(before)), Some(Value::Array(after)));
        }
    }

    fn below(&mut self, segment: Segment<'a>, before: Option<&'a Value>, after: Option<&'a Value>) {
        self.path.push(segment);
        self.values(before, after);
        self.path.pop();
    }

    fn differ(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let says_nothing = |value: &Value| {
            value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        if self.how == Compare::Declared && after.is_none() && before.is_some_and(says_nothing) {
            return;
        }
        self.differ_as(before.cloned(), after.cloned());
    }

    fn differ_as(&mut self, before: Option<Value>, after: Option<Value>) {
        let managers = match after {
            Some(_) => managers(&self.after.managed_fields, &self.path),
            None => Vec::new(),
        };
        if before.is_none() && self.is_filled_in(after.as_ref(), &managers) {
            return;
        }
        let mask = |value: Value| if self.is_masked() { MASK.into() } else { value };
        self.found.push(FieldDrift {
            field: self.field(),
            before: before.map(mask),
            after: after.map(mask),
            managers,
        });
    }

    /// Whether a field that was not there is the server's own doing, or, beside what somebody
    /// declared, a controller's.
    fn is_filled_in(&self, after: Option<&Value>, managers: &[Manager]) -> bool {
        if let (Some(Segment::Field(name)), Some(value)) = (self.path.last(), after)
            && self.is_own
            && (*name == NAME_LABEL || !self.is_free_text())
            && is_default(name, value, self.beside)
        {
            return true;
        }
        let was_applied = self
            .after
            .applied
            .as_ref()
            .is_none_or(|a| holds(a, &self.path));
        // The server writes its defaults under the name of whoever sent the object.
        let mut writers = managers.iter().filter(|m| m.name != APPLY || was_applied);
        match self.how {
            Compare::Declared => !writers.any(|manager| manager.by_hand),
            // Without a record of writers nobody can tell.
            Compare::Whole => !self.after.managed_fields.is_empty() && writers.next().is_none(),
        }
    }

    /// Of a Secret only what it is called, its labels and its type are shown.
    fn is_masked(&self) -> bool {
        let shown = match self.path.as_slice() {
            [Segment::Field(field)] => {
                matches!(*field, "apiVersion" | "kind" | "type" | "immutable")
            }
            [Segment::Field("metadata"), Segment::Field(field), ..] => *field != "annotations",
            _ => false,
        };
        self.is_secret && !shown
    }

    /// Whether the field lies in what no server reads.
    fn is_free_text(&self) -> bool {
        let mut path = self.path.iter();
        path.any(|segment| matches!(segment, Segment::Field(name) if FREE_TEXT.contains(name)))
    }

    fn is_amount(&self) -> bool {
        if !self.is_own || self.is_free_text() {
            return false;
        }
        let mut names = self.path.iter().rev().take(2);
        names.any(|segment| matches!(segment, Segment::Field(name) if amount::is_amount(name)))
    }

    fn field(&self) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Field(name) if name.contains(['.', '/']) => {
                    text.push_str(&format!("[{name:?}]"));
                }
                Segment::Field(name) if text.is_empty() => text.push_str(name),
                Segment::Field(name) => text.push_str(&format!(".{name}")),
                Segment::Element(label, ..) => text.push_str(&format!("[{label}]")),
            }
        }
        text
    }
}
