//! Conditions on objects, in the Common Expression Language that Kubernetes itself speaks.
//!
//! Why CEL, and what stands in its way: `docs/adr/0010-conditions-on-objects.md`.
//!
//! Invariant: no text made here repeats a value of an object.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Program, Value as Cel};
use serde::Deserialize;
use serde_json::Value;

use crate::kind::{name, namespace};

/// The longest expression; nobody writes a longer one by hand.
const EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// What an expression may refer to.
const VARIABLES: [&str; 6] = ["object", "kind", "name", "space", "labels", "annotations"];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A condition on an object.
///
/// It sees `object` (the whole one), `kind` (`deployments.apps`), `name`, `space` (its namespace; CEL keeps that word for itself), `labels` and
/// `annotations` (empty maps where there are none).
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Expression {
    text: String,
    program: Arc<Program>,
}

/// Text that is no condition.
#[derive(Debug, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than any that makes sense.
    #[error("the expression has {0} bytes, more than {EXPRESSION_BYTES_MAX}")]
    TooLong(usize),
    /// Not understood.
    #[error("the expression {text:?} is not understood at line {line}, column {column}: {why}")]
    Syntax {
        /// The expression.
        text: String,
        /// From 1.
        line: isize,
        /// From 1.
        column: isize,
        /// The parser's words.
        why: String,
    },
    /// It refers to something that is not there.
    #[error("the expression refers to {0:?}: there are {known}", known = VARIABLES.join(", "))]
    Unknown(String),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none, or refers to what an object is not judged by.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::TooLong(text.len()));
        }
        let program = ENVIRONMENT.compile(text).map_err(|errors| {
            let first = errors.errors.first();
            ExpressionError::Syntax {
                text: text.to_owned(),
                line: first.map_or(1, |e| e.pos.0),
                column: first.map_or(1, |e| e.pos.1),
                why: first.map(|e| e.msg.clone()).unwrap_or_default(),
            }
        })?;
        // Which names a comprehension binds shows only when it runs: there unknown ones are told.
        let references = program.references();
        let unknown = references
            .variables()
            .into_iter()
            .find(|name| !VARIABLES.contains(name) && !text.contains('('));
        if let Some(name) = unknown {
            return Err(ExpressionError::Unknown(name.to_owned()));
        }
        drop(references);
        Ok(Self {
            text: text.to_owned(),
            program: Arc::new(program),
        })
    }

    /// Whether an object of the kind `id` fits; why that cannot be said is the error.
    pub(crate) fn fits(&self, id: &str, object: &Value) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.add_variable_from_value("object", convert(object));
        context.add_variable_from_value("kind", id);
        context.add_variable_from_value("name", name(object));
        context.add_variable_from_value("space", namespace(object).unwrap_or_default());
        for field in ["labels", "annotations"] {
            let map = object.pointer(&format!("/metadata/{field}"));
            let map = map.map_or_else(|| mapping(std::iter::empty()), convert);
            context.add_variable_from_value(field, map);
        }
        match self.program.execute(&context) {
            Ok(Cel::Bool(fits)) => Ok(fits),
            Ok(other) => Err(format!("it gives a {}, not true or false", other.type_of())),
            Err(error) => Err(why(&error, &self.text)),
        }
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The library's own words quote values, which may be secret.
fn why(error: &ExecutionError, text: &str) -> String {
    match error {
        // A key may itself be a value of the object.
        ExecutionError::NoSuchKey(key) if !text.contains(key.as_str()) => {
            "there is no field of a name that is computed: ask for it first, with … in …".to_owned()
        }
        ExecutionError::NoSuchKey(key) => {
            format!("there is no field {key}: ask for it first, with has(…) or \"{key}\" in …")
        }
        ExecutionError::UndeclaredReference(name) => {
            format!("there is no {name}: there are {}", VARIABLES.join(", "))
        }
        // Types only.
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("a function takes {expected} arguments and got {actual}")
        }
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".to_owned(),
        _ => "its parts do not go together for this object".to_owned(),
    }
}

/// Whole numbers are signed as far as they can be, as Kubernetes has them.
fn convert(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(is) => Cel::Bool(*is),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(list) => Cel::List(Arc::new(list.iter().map(convert).collect())),
        Value::Object(map) => mapping(map.iter()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(whole)) => Cel::UInt(whole),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
    }
}

fn mapping<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> Cel {
    let map: HashMap<Key, Cel> = fields
        .map(|(key, value)| (Key::String(Arc::new(key.clone())), convert(value)))
        .collect();
    Cel::Map(Map { map: Arc::new(map) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}},
            "spec": {"replicas": 3, "ratio": 0.5, "paused": false, "template": {"spec": {"containers": [
                {"name": "a", "image": "registry.old/a:1"}, {"name": "b", "image": "other/b"}]}}}})
    }

    #[test]
    fn expressions_judge_objects() {
        for (text, fits) in [
            ("object.spec.replicas > 2", true),
            ("object.spec.replicas == 4 || name.startsWith('w')", true),
            ("kind == 'deployments.apps' && space == 'shop'", true),
            ("labels['tier'] in ['front', 'back']", true),
            ("'x' in annotations", false),
            (
                "has(object.spec.nothing) && object.spec.nothing == 1",
                false,
            ),
            ("object.spec.ratio < 1.0 && !object.spec.paused", true),
            (
                "object.spec.template.spec.containers.exists(c, c.image.startsWith('registry.old/'))",
                true,
            ),
            (
                "object.spec.template.spec.containers.all(c, c.name == 'a')",
                false,
            ),
            ("size(object.spec.template.spec.containers) == 2", true),
            ("object.metadata.labels == {'tier': 'front'}", true),
        ] {
            let expression = Expression::parse(text).unwrap();
            assert_eq!(
                expression.fits("deployments.apps", &deployment()),
                Ok(fits),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_condition_is_told_without_values() {
        for (text, part) in [
            ("object.spec.", "not understood at line 1"),
            ("object.spec.replicas >", "not understood"),
            ("metadata.name == 'a'", "refers to \"metadata\""),
            ("", "not understood"),
        ] {
            let error = Expression::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let secret =
            json!({"metadata": {"name": "a"}, "data": {"key": "hunter2", "n": {"x": "hunter2"}}});
        for (text, part) in [
            ("object.data.none == 'x'", "there is no field none"),
            ("object.data.key", "it gives a string"),
            (
                "object.metadata[object.data.key] == 'x'",
                "of a name that is computed",
            ),
            ("object.data.key > 5", ""),
            ("object.data.key + 5 == 7", ""),
            ("object.data.key[3] == 'x'", ""),
            ("object.data.n.x.y.z", ""),
            ("size(object.data.key, 3) == 1", ""),
            ("object.data.map(k, k.foo).size() == 1", ""),
            ("object.data.exists(k, zzz == k)", ""),
            ("1 / (size(object.data) - size(object.data)) == 1", ""),
        ] {
            let expression = Expression::parse(text).unwrap();
            let error = expression.fits("secrets", &secret).unwrap_err();
            assert!(
                error.contains(part) && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
    }
}
