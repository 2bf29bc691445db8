//! Who the server says a field belongs to.
//!
//! Invariant: a manager is named only if its own entry holds the field, or one above it as a whole.

use serde::Serialize;
use serde_json::Value;

/// Beginnings of the names of programs that people change objects with by hand.
const BY_HAND: [&str; 9] = [
    "kubectl",
    "oc",
    "k9s",
    "Mozilla",
    "Lens",
    "OpenLens",
    "Headlamp",
    "dashboard",
    "curl",
];

/// A writer of a field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Manager {
    /// What it calls itself: `kubectl-edit`.
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// When it wrote last, RFC 3339.
    pub time: String,
    /// Whether it is a program that people write with.
    pub by_hand: bool,
}

/// One step down into an object.
#[derive(Clone, Debug)]
pub(super) enum Segment<'a> {
    Field(&'a str),
    /// An element of a list: what it is called, where it is, what it holds.
    Element(String, usize, &'a Value),
}

/// The writers of the field at `path`, the newest first; all writers for the object as a whole.
pub(super) fn managers(managed_fields: &[Value], path: &[Segment<'_>]) -> Vec<Manager> {
    let mut managers: Vec<Manager> = managed_fields
        .iter()
        .filter(|entry| entry.get("fieldsV1").is_some_and(|f| owns(f, path)))
        .map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            Manager {
                name: text("manager").to_owned(),
                operation: text("operation").to_owned(),
                time: text("time").to_owned(),
                by_hand: is_by_hand(text("manager")),
            }
        })
        .collect();
    managers.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.cmp(b)));
    managers.dedup();
    managers
}

pub(super) fn is_by_hand(manager: &str) -> bool {
    BY_HAND.iter().any(|program| {
        let rest = manager.strip_prefix(program);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    })
}

/// Whether a set of fields holds the field at `path`, or one above it as a whole.
fn owns(fields: &Value, path: &[Segment<'_>]) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        return true;
    };
    let Some(fields) = fields.as_object() else {
        return false;
    };
    // A leaf owns all that is below it.
    if fields.is_empty() {
        return true;
    }
    let below = fields.iter().find(|(key, _)| is_step(key, segment));
    below.is_some_and(|(_, below)| owns(below, rest))
}

/// Whether a key of a set of fields means that step: `f:NAME`, `k:{"name":"web"}`, `v:"x"`, `i:0`.
fn is_step(key: &str, segment: &Segment<'_>) -> bool {
    match segment {
        Segment::Field(name) => key.strip_prefix("f:") == Some(name),
        Segment::Element(_, index, value) => {
            let (Some(prefix), Some(rest)) = (key.get(..2), key.get(2..)) else {
                return false;
            };
            let parsed = || serde_json::from_str::<Value>(rest).ok();
            match prefix {
                "k:" => parsed().is_some_and(|keys| {
                    let keys = keys.as_object();
                    keys.is_some_and(|k| k.iter().all(|(k, v)| value.get(k) == Some(v)))
                }),
                "v:" => parsed().as_ref() == Some(*value),
                "i:" => rest.parse() == Ok(*index),
                _ => false,
            }
        }
    }
}
