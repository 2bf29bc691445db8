//! Objects as they are compared: without what only the server has to say.
//!
//! Invariant: what is dropped here, nobody wrote on purpose.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{noise, yaml};

/// What kubectl applied last, as JSON.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations that programs keep their books in.
const BOOKKEEPING: [&str; 11] = [
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "control-plane.alpha.kubernetes.io/leader",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
];

/// An object as a document and what only the server has to say of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Document {
    /// Without the server's own fields.
    pub(super) object: Value,
    /// Its writers; empty where they are not known.
    pub(super) managed_fields: Vec<Value>,
    /// What kubectl applied last.
    pub(super) applied: Option<Value>,
}

/// Which object a document is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ObjectKey {
    /// Empty for the core group.
    pub group: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty for what is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Document {
    /// Reads a YAML document, of one object or a list of them.
    ///
    /// # Errors
    /// It is no YAML.
    pub fn read(text: &[u8]) -> Result<Vec<Self>, yaml::YamlError> {
        let mut object = yaml::read(text)?;
        let is_list = object
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        match object.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => Ok(items.into_iter().map(Self::of).collect()),
            // No kind has a field of that name beside; if one did, it is as it was.
            Some(items) => {
                object["items"] = items;
                Ok(vec![Self::of(object)])
            }
            None => Ok(vec![Self::of(object)]),
        }
    }

    fn of(mut object: Value) -> Self {
        let server = noise::split(&mut object);
        let applied = forget_books(&mut object);
        if object.get("kind") == Some(&Value::from("Secret")) {
            encode_strings(&mut object);
        }
        if object.get("kind") == Some(&Value::from("Service")) {
            forget_addresses(&mut object);
        }
        Self {
            object,
            managed_fields: managed_fields(&server),
            applied,
        }
    }

    /// With the writers that the server names elsewhere.
    #[must_use]
    pub fn written_by(mut self, managed_fields: Vec<Value>) -> Self {
        self.managed_fields = managed_fields;
        self
    }

    /// Which object it is; none if it does not say.
    #[must_use]
    pub fn key(&self) -> Option<ObjectKey> {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion")?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        Some(ObjectKey {
            group: group.to_owned(),
            kind: text("/kind")?.to_owned(),
            namespace: text("/metadata/namespace").unwrap_or_default().to_owned(),
            name: text("/metadata/name")?.to_owned(),
        })
    }

    /// `apps/v1`.
    #[must_use]
    pub fn version(&self) -> &str {
        let version = self.object.get("apiVersion").and_then(Value::as_str);
        version.unwrap_or_default()
    }

    pub(super) fn is_secret(&self) -> bool {
        self.object.get("kind") == Some(&Value::from("Secret"))
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match self.namespace.as_str() {
            "" => write!(f, " {}", self.name),
            namespace => write!(f, " {namespace}/{}", self.name),
        }
    }
}

/// Whether a document's values are encrypted in the format of SOPS: it says nothing to compare.
#[must_use]
pub fn is_encrypted(document: &Document) -> bool {
    document.object.pointer("/sops/mac").is_some()
}

/// The writers that one line of `_server.jsonl` names, with the object's name.
#[must_use]
pub fn server_line(line: &[u8]) -> Option<(String, Vec<Value>)> {
    let server: Value = serde_json::from_slice(line).ok()?;
    let name = server.get("name")?.as_str()?.to_owned();
    Some((name, managed_fields(&server)))
}

fn managed_fields(server: &Value) -> Vec<Value> {
    let fields = server.pointer("/metadata/managedFields");
    fields
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

/// Drops what programs noted for themselves; what kubectl did is told.
fn forget_books(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else {
        return None;
    };
    let applied = annotations.remove(APPLIED);
    annotations.retain(|key, _| !BOOKKEEPING.contains(&key.as_str()));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(applied?.as_str()?).ok()
}

/// What people write as text the server keeps encoded.
fn encode_strings(object: &mut Value) {
    let Some(Value::Object(strings)) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    let data = object
        .as_object_mut()
        .map(|o| o.entry("data").or_insert_with(|| Map::new().into()));
    if let Some(Value::Object(data)) = data {
        for (key, value) in strings {
            let text = value.as_str().unwrap_or_default();
            data.insert(key, BASE64.encode(text).into());
        }
    }
}

/// A service's addresses are drawn anew when it is made anew.
fn forget_addresses(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("clusterIP") != Some(&Value::from("None")) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
}
