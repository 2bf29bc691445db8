//! Changes that somebody wants of objects on their way back: JSON patches and merge patches, each
//! for the objects that fit a condition.
//!
//! ```yaml
//! - when: {kinds: [deployments.apps], namespaces: [shop], labels: {tier: web}}
//!   merge: {spec: {replicas: 1}}
//! - when: {expression: "kind == 'deployments.apps' && object.spec.replicas > 3"}
//!   patch: [{op: replace, path: /spec/replicas, value: 2}]
//! ```
//!
//! Conditions see an object as it will be in the target: clean, converted, with its new names.
//!
//! Invariant: no text made here repeats a value of an object.

use std::collections::BTreeMap;

use refloat_model::glob::Glob;
use serde::Deserialize;
use serde_json::Value;

use crate::expression::Expression;
use crate::kind::{label, name, namespace, text};

/// All rules of a restore, in order.
pub(super) struct Transforms(Vec<Rule>);

/// What is changed in which objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    when: When,
    merge: Option<Value>,
    patch: Option<json_patch::Patch>,
}

/// Which objects: those that fit all that is said.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct When {
    /// Patterns of `deployments.apps`.
    kinds: Vec<Glob>,
    namespaces: Vec<Glob>,
    names: Vec<Glob>,
    labels: BTreeMap<String, String>,
    /// Values of fields, by JSON pointer; null means that there is none.
    fields: BTreeMap<String, Value>,
    /// Anything that CEL can say.
    expression: Option<Expression>,
}

impl Transforms {
    /// Reads documents, each a list of rules; what is wrong with the first wrong one is the error.
    pub(super) fn parse(documents: &[String]) -> Result<Self, String> {
        let mut rules = Vec::new();
        for document in documents {
            let options = serde_saphyr::options! { with_snippet: false };
            let new: Vec<Rule> = serde_saphyr::from_str_with_options(document, options)
                .map_err(|e| format!("transforms: {}", e.without_snippet()))?;
            rules.extend(new);
        }
        let idle = rules
            .iter()
            .position(|rule| rule.merge.is_none() && rule.patch.is_none());
        match idle {
            Some(index) => Err(format!(
                "transform {} changes nothing: it needs merge or patch",
                index + 1
            )),
            None => Ok(Self(rules)),
        }
    }

    /// Changes an object of the kind `id`; why it cannot be is the error.
    pub(super) fn apply(&self, id: &str, object: &mut Value) -> Result<(), String> {
        for (index, rule) in self.0.iter().enumerate() {
            let failed = |why: String| format!("transform {}: {why}", index + 1);
            if !rule.when.fits(id, object).map_err(failed)? {
                continue;
            }
            let identity = |object: &Value| {
                ["/apiVersion", "/kind"].map(|field| text(object, field).map(str::to_owned))
            };
            let before = identity(object);
            if let Some(merge) = &rule.merge {
                json_patch::merge(object, merge);
            }
            if let Some(patch) = &rule.patch {
                // Without the library's own undoing, which panics where a move cannot be undone: the
                // object is given up as a whole.
                json_patch::patch_unsafe(object, patch)
                    .map_err(|e| failed(format!("the patch does not apply: {e}")))?;
            }
            if identity(object) != before || name(object).is_empty() {
                return Err(failed("it takes the object's kind or name away".to_owned()));
            }
        }
        Ok(())
    }
}

impl When {
    fn fits(&self, id: &str, object: &Value) -> Result<bool, String> {
        let fits = |globs: &[Glob], name: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(name))
        };
        let has = |(pointer, value): (&String, &Value)| {
            object.pointer(pointer).unwrap_or(&Value::Null) == value
        };
        let is_like = fits(&self.kinds, id)
            && fits(&self.namespaces, namespace(object).unwrap_or_default())
            && fits(&self.names, name(object))
            && self
                .labels
                .iter()
                .all(|(key, value)| label(object, key) == Some(value))
            && self.fields.iter().all(has);
        match &self.expression {
            Some(expression) if is_like => expression
                .fits(id, object)
                .map_err(|why| format!("its expression cannot judge this object: {why}")),
            _ => Ok(is_like),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(document: &str, object: &Value) -> Result<Value, String> {
        let transforms = Transforms::parse(&[document.to_owned()])?;
        let mut object = object.clone();
        transforms.apply("deployments.apps", &mut object)?;
        Ok(object)
    }

    fn deployment(replicas: u64) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
               "metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "web"}},
               "spec": {"replicas": replicas}})
    }

    #[test]
    fn rules_change_what_fits_their_conditions() {
        let merge = "merge: {spec: {replicas: 9}}";
        for (when, fits) in [
            ("{}", true),
            (
                "{kinds: [deployments.*], namespaces: [shop], names: [w*], labels: {tier: web}}",
                true,
            ),
            ("{kinds: [secrets]}", false),
            ("{namespaces: [other]}", false),
            ("{names: [db]}", false),
            ("{labels: {tier: db}}", false),
            ("{fields: {/spec/replicas: 3, /spec/paused: null}}", true),
            ("{fields: {/spec/replicas: 4}}", false),
            ("{fields: {/spec/nothing: 3}}", false),
            ("{names: [db], fields: {/spec/replicas: 3}}", false),
            ("{expression: object.spec.replicas > 2}", true),
            ("{expression: \"labels['tier'] == 'db'\"}", false),
            // Only what fits the rest is judged.
            ("{kinds: [secrets], expression: object.none == 1}", false),
        ] {
            let document = format!("[{{when: {when}, {merge}}}]");
            let expected = if fits { deployment(9) } else { deployment(3) };
            assert_eq!(apply(&document, &deployment(3)), Ok(expected), "{when}");
        }
    }

    #[test]
    fn patches_apply_in_order_and_name_what_is_wrong() {
        let document = "[{patch: [{op: replace, path: /spec/replicas, value: 5}]},
                         {when: {fields: {/spec/replicas: 5}}, merge: {metadata: {labels: {tier: null}}}}]";
        let mut expected = deployment(5);
        expected["metadata"]["labels"] = json!({});
        assert_eq!(apply(document, &deployment(3)), Ok(expected));
        for (document, why) in [
            (
                "[{patch: [{op: remove, path: /spec/none}]}]",
                "transform 1: the patch does not apply",
            ),
            (
                "[{merge: {kind: Secret}}]",
                "takes the object's kind or name away",
            ),
            ("[{when: {}}]", "transform 1 changes nothing"),
            ("[{whem: {}, merge: {}}]", "whem"),
            // What was done before a step that cannot be done would have to be undone.
            (
                "[{patch: [{op: add, path: /spec/x, value: 1}, {op: move, from: /spec/x, path: /none/y}]}]",
                "transform 1: the patch does not apply",
            ),
            ("{", "transforms:"),
            ("[{when: {expression: 1 +}, merge: {}}]", "not understood"),
            (
                "[{when: {expression: object.spec.none == 1}, merge: {}}]",
                "transform 1: its expression cannot judge this object: there is no field none",
            ),
        ] {
            let error = apply(document, &deployment(3)).unwrap_err();
            assert!(error.contains(why), "{document}: {error}");
        }
    }
}
