//! Whether what is there is what should be there.
//!
//! Invariant: values of objects never appear in a difference, only paths: they may be secret.

use serde_json::Value;

use super::hold;
use super::prepare::Prepared;
use super::sanitise::{HELD, forget_families, map_at, remove, sanitise};
use super::volumes::PLACE;
use crate::kind::{annotation, elements};

/// What `kubectl apply` keeps of what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How many differing fields are named.
const PATHS_SHOWN: usize = 5;

/// Why a server leaves fields out.
pub(super) const LEFT_OUT_WHY: &str = "its definition or its version does not know or support them, or something there takes them away";

/// How a live object relates to a prepared one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Likeness {
    Equal,
    /// Equal but for what an interrupted restore had still to do.
    Unfinished(String),
    /// In these fields.
    Different(String),
}

/// Compares a live object with a prepared one.
pub(super) fn compare(prepared: &Prepared, live: &Value) -> Likeness {
    if !prepared.fields.is_empty() {
        return compare_fields(prepared, live);
    }
    let is_held = prepared.hold.is_some() && annotation(live, HELD).is_some();
    let live_owners = owners(elements(live, "/metadata/ownerReferences"));
    let (mut have, mut want) = (live.clone(), prepared.object.clone());
    if let Some(hold) = prepared.hold.filter(|_| is_held) {
        // By us, until everything is back.
        hold::undo(hold, &mut have, &want);
    }
    sanitise(&prepared.id, &mut have, None);
    remove(&mut have, "/metadata", &["ownerReferences"]);
    if prepared.id == "persistentvolumeclaims" {
        remove(&mut want, "/spec", &PLACE);
    }
    if prepared.id == "services" {
        take_families(&want, live, &mut have);
    }
    let mut paths = Vec::new();
    if prepared.is_shared() {
        lacks(&want, &have, "", &mut paths);
    } else {
        differences(&want, &have, "", &mut paths);
    }
    if !paths.is_empty() {
        return Likeness::Different(summary(&paths));
    }
    if is_held {
        return Likeness::Unfinished("an interrupted restore holds it back".to_owned());
    }
    if owners(prepared.owners.iter()) != live_owners && !prepared.is_shared() {
        return Likeness::Unfinished("its owners differ".to_owned());
    }
    Likeness::Equal
}

/// Whether somebody chose the families of a service is known of the stored one: the live one may be by
/// whoever restored it before.
fn take_families(want: &Value, live: &Value, have: &mut Value) {
    let is_chosen = want.pointer("/spec/ipFamilies").is_some();
    let Some(spec) = map_at(have, "/spec") else {
        return;
    };
    if is_chosen {
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = live.pointer("/spec").and_then(|spec| spec.get(key)) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
    } else {
        forget_families(spec);
    }
}

/// Only the fields that somebody asked for count.
fn compare_fields(prepared: &Prepared, live: &Value) -> Likeness {
    let differs = |field: &&String| live.pointer(field) != prepared.object.pointer(field);
    let paths: Vec<String> = prepared.fields.iter().filter(differs).cloned().collect();
    if paths.is_empty() {
        Likeness::Equal
    } else {
        Likeness::Different(summary(&paths))
    }
}

pub(super) fn summary(paths: &[String]) -> String {
    format!("differs in {}", listed(paths))
}

/// The first of these fields, and how many more there are.
pub(super) fn listed(paths: &[String]) -> String {
    let mut shown: Vec<&str> = paths.iter().take(PATHS_SHOWN).map(String::as_str).collect();
    let more = format!("{} more", paths.len().saturating_sub(PATHS_SHOWN));
    if paths.len() > PATHS_SHOWN {
        shown.push(&more);
    }
    shown.join(", ")
}

/// The fields of what was asked for that `stored`, the server's answer, does not have: an older
/// definition does not know them, or another version of the server. Servers do not write what is
/// empty in their own kinds; in custom resources they do.
pub(super) fn left_out(prepared: &Prepared, asked: &Value, stored: &Value) -> Vec<String> {
    let is_nothing = match prepared.is_custom() {
        true => Value::is_null,
        false => is_empty,
    };
    if !prepared.fields.is_empty() {
        let is_asked = |field: &&String| asked.pointer(field).is_some_and(|v| !is_nothing(v));
        let asked = prepared.fields.iter().filter(is_asked);
        let absent = asked.filter(|field| stored.is_object() && stored.pointer(field).is_none());
        return absent.cloned().collect();
    }
    let mut paths = Vec::new();
    absent(asked, stored, is_nothing, "", &mut paths);
    if prepared.id == "secrets" {
        // Stored as `data`, and never given out.
        paths.retain(|path| path != "stringData");
    }
    paths
}

fn absent(
    asked: &Value,
    stored: &Value,
    is_nothing: fn(&Value) -> bool,
    path: &str,
    paths: &mut Vec<String>,
) {
    match (asked, stored) {
        (Value::Object(asked), Value::Object(stored)) => {
            for (key, asked) in asked.iter().filter(|(_, asked)| !is_nothing(asked)) {
                match stored.get(key) {
                    Some(stored) => absent(asked, stored, is_nothing, &join(path, key), paths),
                    None => paths.push(join(path, key)),
                }
            }
        }
        (Value::Array(all), Value::Array(stored)) => {
            let is_whole = all.len() == stored.len();
            for (index, asked) in all.iter().enumerate() {
                // Others may have added to the list, before ours or after; names may repeat.
                let of_name = asked.get("name").map(|name| {
                    let is_of_name = |one: &&Value| one.get("name") == Some(name);
                    let before = all.iter().take(index).filter(is_of_name).count();
                    stored.iter().filter(is_of_name).nth(before)
                });
                let by_place = || stored.get(index).filter(|_| is_whole);
                if let Some(stored) = of_name.unwrap_or_else(by_place) {
                    absent(
                        asked,
                        stored,
                        is_nothing,
                        &format!("{path}[{index}]"),
                        paths,
                    );
                }
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(true) => false,
    }
}

fn owners<'a>(owners: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut names: Vec<String> = owners
        .map(|owner| {
            let field = |key| owner.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{}/{}", field("kind"), field("name"))
        })
        .collect();
    names.sort();
    names
}

/// The paths at which two values differ.
fn differences(a: &Value, b: &Value, path: &str, paths: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let (a, b) = (a.get(key), b.get(key));
                let inner = join(path, key);
                differences(
                    a.unwrap_or(&Value::Null),
                    b.unwrap_or(&Value::Null),
                    &inner,
                    paths,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{index}]"), paths);
            }
        }
        (a, b) if a == b => {}
        _ => paths.push(path.to_owned()),
    }
}

/// The paths at which `have` lacks something of `want`.
fn lacks(want: &Value, have: &Value, path: &str, paths: &mut Vec<String>) {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            for (key, want) in want {
                let have = have.get(key).unwrap_or(&Value::Null);
                lacks(want, have, &join(path, key), paths);
            }
        }
        (Value::Array(want), Value::Array(have)) => {
            if !want.iter().all(|element| have.contains(element)) {
                paths.push(path.to_owned());
            }
        }
        (Value::Object(want), _) if want.is_empty() => {}
        (want, have) if want == have => {}
        _ => paths.push(path.to_owned()),
    }
}

/// An object that others have their say in, beside what they made of it.
pub(super) struct Merge {
    /// What can be added without changing anything of theirs.
    pub(super) wanted: Value,
    /// Whether some of it is missing.
    pub(super) is_lacking: bool,
    /// Where they have something in another form.
    pub(super) others: Vec<String>,
}

/// How a shared object is merged with the live one.
pub(super) fn merge(prepared: &Prepared, live: &Value) -> Merge {
    let (mut wanted, mut have) = (prepared.object.clone(), live.clone());
    sanitise(&prepared.id, &mut have, None);
    if annotation(&have, LAST_APPLIED).is_some() {
        // It says what was applied here.
        remove(&mut wanted, "/metadata/annotations", &[LAST_APPLIED]);
    }
    let (mut others, mut missing) = (Vec::new(), Vec::new());
    take(&mut wanted, &have, "", &mut others);
    lacks(&wanted, &have, "", &mut missing);
    Merge {
        wanted,
        is_lacking: !missing.is_empty(),
        others,
    }
}

fn take(want: &mut Value, have: &Value, path: &str, paths: &mut Vec<String>) {
    let (Some(want), Some(have)) = (want.as_object_mut(), have.as_object()) else {
        return;
    };
    want.retain(|key, want| {
        let inner = join(path, key);
        let is_kept = match (&mut *want, have.get(key)) {
            (_, None | Some(Value::Null)) => true,
            // What a list lacks is added to it: `unite`.
            (Value::Array(_), Some(Value::Array(_))) => true,
            (Value::Object(_), Some(have @ Value::Object(_))) => {
                take(want, have, &inner, paths);
                true
            }
            (want, Some(have)) => want == have,
        };
        if !is_kept && !is_of_cluster(key) {
            paths.push(inner);
        }
        is_kept
    });
}

/// Whether a cluster writes this annotation into every namespace by itself: it differs from cluster
/// to cluster, and nobody asked for it.
fn is_of_cluster(key: &str) -> bool {
    key.starts_with("openshift.io/sa.scc.") || key == "cattle.io/status"
}

/// Puts what is there before what every list adds to it, as the server has it: some of it may be
/// of a controller.
pub(super) fn unite(want: &mut Value, live: &Value) {
    match (want, live) {
        (Value::Object(want), Value::Object(live)) => {
            for (key, want) in want {
                unite(want, live.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(want), Value::Array(live)) => {
            let added = std::mem::take(want)
                .into_iter()
                .filter(|element| !live.contains(element));
            *want = live.iter().cloned().chain(added).collect();
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(a: &Value, b: &Value) -> Vec<String> {
        let mut paths = Vec::new();
        differences(a, b, "", &mut paths);
        paths
    }

    #[test]
    fn differing_fields_are_named_and_not_quoted() {
        let a = json!({"data": {"password": "hunter2"}, "list": [1, {"x": 1}], "only": 1, "e": {}});
        let b = json!({"data": {"password": "other"}, "list": [1, {"x": 2}], "more": 1, "e": {}});
        assert_eq!(
            paths(&a, &b),
            ["data.password", "list[1].x", "only", "more"]
        );
        assert_eq!(paths(&a, &a), Vec::<String>::new());
        let many: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(summary(&many), "differs in 0, 1, 2, 3, 4, 2 more");
    }

    #[test]
    fn what_the_answer_lacks_was_left_out() {
        let check = |asked: &Value, stored: &Value, is_nothing: fn(&Value) -> bool| {
            let mut paths = Vec::new();
            absent(asked, stored, is_nothing, "", &mut paths);
            paths
        };
        let asked = json!({"a": {"gone": 1, "here": 2, "off": false}, "list": [{"gone": 1}, 2],
            "longer": [1, {"gone": 1}], "named": [{"name": "x", "gone": 1}, {"name": "lost"}],
            "twice": [{"name": "d", "at": "a"}, {"name": "d", "at": "b", "part": "p"}],
            "empty": {"inner": []}, "none": null, "other": "1000m"});
        let stored = json!({"a": {"here": 3}, "list": [{"added": 1}, 2], "longer": [{"x": 1}, 1, {}],
            "named": [{"name": "first"}, {"name": "x"}], "other": "1", "status": {},
            "twice": [{"name": "d", "at": "a"}, {"name": "d", "at": "b", "part": "p"}]});
        let expected = ["a.gone", "list[0].gone", "named[0].gone"];
        assert_eq!(check(&asked, &stored, is_empty), expected);
        let expected = ["a.gone", "a.off", "empty", "list[0].gone", "named[0].gone"];
        assert_eq!(check(&asked, &stored, Value::is_null), expected);
        assert!(check(&stored, &stored, Value::is_null).is_empty());
        // What did not come as an object says nothing.
        assert!(check(&asked, &Value::Null, Value::is_null).is_empty());
    }

    #[test]
    fn of_a_shared_object_only_what_is_missing_counts() {
        let check = |want: &Value, have: &Value| {
            let mut paths = Vec::new();
            lacks(want, have, "", &mut paths);
            paths
        };
        let have = json!({"labels": {"a": "1", "theirs": "2"}, "secrets": ["x", "y"]});
        assert!(check(&json!({"labels": {"a": "1"}, "secrets": ["y"]}), &have).is_empty());
        assert_eq!(check(&json!({"labels": {"b": "1"}}), &have), ["labels.b"]);
        assert_eq!(check(&json!({"secrets": ["z"]}), &have), ["secrets"]);
    }

    #[test]
    fn of_a_shared_object_what_others_wrote_is_taken_out() {
        let mut want = json!({"labels": {"a.b/c": "1", "new": "2", "same": "3"},
            "secrets": ["z"], "flag": true, "absent": {"x": 1},
            "annotations": {"openshift.io/sa.scc.uid-range": "1/2", "cattle.io/status": "{}"}});
        let have = json!({"labels": {"a.b/c": "0", "same": "3", "theirs": "4"},
            "secrets": ["x"], "flag": false, "absent": null,
            "annotations": {"openshift.io/sa.scc.uid-range": "3/4", "cattle.io/status": "{1}"}});
        let mut paths = Vec::new();
        take(&mut want, &have, "", &mut paths);
        paths.sort();
        assert_eq!(paths, ["flag", "labels.a.b/c"]);
        assert_eq!(
            want,
            json!({"labels": {"new": "2", "same": "3"}, "secrets": ["z"], "absent": {"x": 1},
                "annotations": {}})
        );
    }

    #[test]
    fn whether_families_were_chosen_is_known_of_the_stored_service() {
        let taken = |want: Value| {
            // Of the live one the comparison has taken what nobody owns there.
            let live = json!({"spec": {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
            let mut have = json!({"spec": {"ports": []}});
            take_families(&json!({ "spec": want }), &live, &mut have);
            let mut owned = live.clone();
            take_families(&json!({ "spec": want }), &live, &mut owned);
            (have["spec"].clone(), owned["spec"].clone())
        };
        let chosen = json!({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let (have, owned) = taken(chosen.clone());
        assert_eq!(have["ipFamilies"], chosen["ipFamilies"]);
        assert_eq!(owned, chosen);
        assert_eq!(taken(json!({})), (json!({"ports": []}), json!({})));
    }
}
