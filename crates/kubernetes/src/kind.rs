//! The kinds of a cluster: what the API serves, under which names and paths.
//!
//! Invariant: a kind is identified by group and resource; its version is one way to see it.

use serde_json::Value;

/// One kind of objects in one version, `deployments.apps/v1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// The plural name in paths, `deployments`.
    pub resource: String,
    /// The name in documents, `Deployment`.
    pub kind: String,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// What can be done: `list`, `create` …
    pub verbs: Vec<String>,
}

impl Kind {
    /// `v1`, `apps/v1`: what documents call `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `secrets`, `deployments.apps`: the name without a version, as kubectl and RBAC know it.
    #[must_use]
    pub fn id(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Whether the API allows `verb` on it at all.
    #[must_use]
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The path of all its objects, of one namespace if given.
    #[must_use]
    pub fn list_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", segment(&self.version))
        } else {
            format!("/apis/{}/{}", segment(&self.group), segment(&self.version))
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => {
                let namespace = segment(namespace);
                format!("{root}/namespaces/{namespace}/{}", segment(&self.resource))
            }
            None => format!("{root}/{}", segment(&self.resource)),
        }
    }

    /// The path of one object.
    #[must_use]
    pub fn object_path(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{}", self.list_path(namespace), segment(name))
    }

    /// `namespace/name`, or the name alone for cluster-wide objects, after the kind.
    #[must_use]
    pub fn object_name(&self, namespace: Option<&str>, name: &str) -> String {
        object_name(&self.id(), namespace, name)
    }
}

/// How objects are called in subjects and messages: `secrets/shop/db`.
#[must_use]
pub(crate) fn object_name(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// A name as one segment of a path. Names of objects need hardly any escaping (`system:node`).
fn segment(name: &str) -> String {
    encode(name, b"-._~:@")
}

/// Percent-encoding of everything but letters, digits and `safe`.
pub(crate) fn encode(text: &str, safe: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || safe.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A text field of a document: `text(object, "/metadata/name")`.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str()
}

/// The elements of a list field; none are none.
pub(crate) fn elements<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The object's name; empty for what has none.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// The object's namespace.
pub(crate) fn namespace(object: &Value) -> Option<&str> {
    text(object, "/metadata/namespace").filter(|namespace| !namespace.is_empty())
}

/// One annotation.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(key)?
        .as_str()
}

/// One label.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// The owner that controls an object, as kind and name.
pub(crate) fn controller(object: &Value) -> Option<(&str, &str)> {
    let owner = elements(object, "/metadata/ownerReferences")
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    Some((owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, resource: &str, namespaced: bool) -> Kind {
        Kind {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            kind: String::new(),
            namespaced,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let deployments = kind("apps", "deployments", true);
        let nodes = kind("", "nodes", false);
        assert_eq!(deployments.list_path(None), "/apis/apps/v1/deployments");
        assert_eq!(
            deployments.object_path(Some("shop"), "web"),
            "/apis/apps/v1/namespaces/shop/deployments/web"
        );
        assert_eq!(nodes.object_path(Some("x"), "a"), "/api/v1/nodes/a");
        assert_eq!(
            kind("rbac.authorization.k8s.io", "clusterroles", false)
                .object_path(None, "system:a/b"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:a%2Fb"
        );
        assert_eq!(deployments.id(), "deployments.apps");
        assert_eq!(nodes.object_name(None, "a"), "nodes/a");
    }
}
