//! A swarm's objects as the target can have them.
//!
//! Invariant: pure; what is changed of a definition is said.

use crate::definition::{Object, SwarmObject};
use crate::restore::present::Present;

/// A service as the target starts it, and what was changed. An image that was loaded is known by
/// its name, not by the digest that a registry gave it.
pub(super) fn for_target(
    service: &SwarmObject,
    present: &Present,
) -> (SwarmObject, Option<String>) {
    let mut service = service.clone();
    let pinned = service.image().and_then(|image| image.split_once('@'));
    let Some((name, digest)) = pinned.map(|(n, d)| (n.to_owned(), d.to_owned())) else {
        return (service, None);
    };
    let known = present.images.values().any(|image| {
        let mut digests = image.repo_digests.iter();
        digests.any(|known| known.ends_with(&digest))
    });
    if known {
        return (service, None);
    }
    service.set_image(&name);
    let said = format!("its image {name} is used as it was loaded, not pinned to {digest}");
    (service, Some(said))
}

/// Whether a node can take tasks with these constraints. What is not understood counts as met: the
/// swarm decides.
pub(super) fn fits(node: &Object, constraints: &[&str]) -> bool {
    constraints.iter().all(|constraint| {
        let (key, value, wanted) = match (constraint.split_once("=="), constraint.split_once("!="))
        {
            (Some((key, value)), _) => (key.trim(), value.trim(), true),
            (_, Some((key, value))) => (key.trim(), value.trim(), false),
            _ => return true,
        };
        let text = |path: &[&str]| {
            let mut keys = path.iter();
            let first = keys.next().and_then(|key| node.get(*key));
            let found = keys.fold(first, |at, key| at?.get(*key));
            found
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let found = match key {
            "node.id" => text(&["ID"]),
            "node.hostname" => text(&["Description", "Hostname"]),
            "node.role" => text(&["Spec", "Role"]),
            "node.platform.os" => text(&["Description", "Platform", "OS"]),
            _ => match key.strip_prefix("node.labels.") {
                Some(label) => text(&["Spec", "Labels", label]),
                None => return true,
            },
        };
        (found == value) == wanted
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::fits;

    #[test]
    fn constraints_are_met_or_not() {
        let Value::Object(node) = json!({
            "ID": "n1", "Spec": {"Role": "manager", "Labels": {"disk": "ssd"}},
            "Description": {"Hostname": "a", "Platform": {"OS": "linux"}},
        }) else {
            panic!("an object")
        };
        for (constraints, expected) in [
            (&["node.role==manager", "node.labels.disk == ssd"][..], true),
            (&["node.labels.disk!=ssd"], false),
            (&["node.hostname==b"], false),
            (&["node.id == other"], false),
            (&["node.labels.none != x"], true),
            (&["engine.labels.x==y"], true),
            (&[], true),
        ] {
            assert_eq!(fits(&node, constraints), expected, "{constraints:?}");
        }
    }
}
