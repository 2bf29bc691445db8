//! Labels that are mapped to other values wherever an object means them (P18): in metadata,
//! templates, selectors and affinities alike, so that what selects still finds.
//!
//! Invariant: a value is replaced only beside its own key.

use serde_json::Value;

/// Maps of labels, by the name of their field.
const MAPS: [&str; 4] = ["labels", "matchLabels", "nodeSelector", "selector"];

/// One label's new value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LabelRename {
    pub(super) key: String,
    pub(super) old: String,
    pub(super) new: String,
}

impl LabelRename {
    /// Reads `tier:prod` and the new value.
    pub(super) fn parse(old: &str, new: &str) -> Option<Self> {
        let (key, old) = old.split_once(':')?;
        let is_key = !key.is_empty() && !key.contains(' ');
        is_key.then(|| Self {
            key: key.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
        })
    }

    fn replace(&self, value: &mut Value) {
        if value.as_str() == Some(&self.old) {
            *value = self.new.clone().into();
        }
    }
}

/// Replaces the labels' values in everything below `value`.
pub(super) fn rename(renames: &[LabelRename], value: &mut Value) {
    if renames.is_empty() {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields.iter_mut() {
                if MAPS.contains(&key.as_str())
                    && let Value::Object(labels) = inner
                {
                    for rename in renames {
                        if let Some(value) = labels.get_mut(&rename.key) {
                            rename.replace(value);
                        }
                    }
                }
                rename_below(renames, key, inner);
            }
            requirement(renames, value);
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rename(renames, inner)),
        _ => {}
    }
}

fn rename_below(renames: &[LabelRename], key: &str, inner: &mut Value) {
    // Keys in there are data.
    if !matches!(key, "data" | "stringData" | "binaryData" | "annotations") {
        rename(renames, inner);
    }
}

/// `{key, operator, values}` of expressions, and `{key, values}` of topologies.
fn requirement(renames: &[LabelRename], value: &mut Value) {
    let key = value.get("key").and_then(Value::as_str).map(str::to_owned);
    let (Some(key), Some(Value::Array(values))) = (key, value.get_mut("values")) else {
        return;
    };
    for rename in renames.iter().filter(|rename| rename.key == key) {
        values.iter_mut().for_each(|value| rename.replace(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_changes_wherever_it_is_meant_and_nowhere_else() {
        let renames = [LabelRename::parse("tier:prod", "test").unwrap()];
        let object = |tier: &str| {
            json!({"metadata": {"labels": {"tier": tier, "name": "prod"}, "annotations": {"tier": "prod"}},
            "data": {"tier": "prod"},
            "spec": {"selector": {"matchLabels": {"tier": tier},
                     "matchExpressions": [{"key": "tier", "operator": "In", "values": [tier, "x"]},
                                          {"key": "name", "operator": "In", "values": ["prod"]}]},
                     "template": {"metadata": {"labels": {"tier": tier}},
                                  "spec": {"nodeSelector": {"tier": tier}}}}})
        };
        let mut changed = object("prod");
        rename(&renames, &mut changed);
        assert_eq!(changed, object("test"));
        assert_eq!(LabelRename::parse("tier", "x"), None);
    }
}
