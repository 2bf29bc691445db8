//! Which elements of two lists are the same thing.
//!
//! Invariant: elements are paired by keys only if those tell all elements of both lists apart.

use std::collections::BTreeMap;

use serde_json::Value;

/// What elements of Kubernetes' lists are known by, and what a missing part of it means.
const KEYS: [&[(&str, Option<&str>)]; 9] = [
    &[("name", None)],
    &[("containerPort", None), ("protocol", Some("TCP"))],
    &[("port", None), ("protocol", Some("TCP"))],
    &[("mountPath", None)],
    &[("devicePath", None)],
    &[("key", None)],
    &[("ip", None)],
    &[
        ("topologyKey", None),
        ("whenUnsatisfiable", Some("DoNotSchedule")),
    ],
    &[("uid", None)],
];

/// Two elements that are the same thing, and what it is called.
pub(super) type Pair<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// Pairs the elements of two lists; none if nothing tells them apart.
pub(super) fn pairs<'a>(old: &'a [Value], new: &'a [Value]) -> Option<Vec<Pair<'a>>> {
    if old.is_empty() && new.is_empty() {
        return None;
    }
    KEYS.iter().find_map(|keys| {
        let (old, new) = (labelled(old, keys)?, labelled(new, keys)?);
        let mut all: BTreeMap<String, (Option<&Value>, Option<&Value>)> = BTreeMap::new();
        for (label, value) in old {
            all.entry(label).or_default().0 = Some(value);
        }
        for (label, value) in new {
            all.entry(label).or_default().1 = Some(value);
        }
        let pairs = all.into_iter();
        Some(pairs.map(|(label, (old, new))| (label, old, new)).collect())
    })
}

/// The element of a list that is the same thing as `value`.
pub(super) fn same<'a>(list: &'a [Value], value: &Value) -> Option<&'a Value> {
    let alone = std::slice::from_ref(value);
    let by_key = KEYS.iter().find_map(|keys| {
        let (label, _) = labelled(alone, keys)?.into_iter().next()?;
        labelled(list, keys)?.get(&label).copied()
    });
    by_key.or_else(|| list.iter().find(|element| *element == value))
}

/// Each element by its label; none if one has none, or two have the same.
fn labelled<'a>(
    list: &'a [Value],
    keys: &[(&str, Option<&str>)],
) -> Option<BTreeMap<String, &'a Value>> {
    let mut labelled = BTreeMap::new();
    for element in list {
        let parts: Option<Vec<String>> = keys
            .iter()
            .map(|(key, otherwise)| match element.get(*key) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                Some(_) => None,
                None => otherwise.map(str::to_owned),
            })
            .collect();
        if labelled.insert(parts?.join("/"), element).is_some() {
            return None;
        }
    }
    Some(labelled)
}
