//! In which version an object goes into the target (P11).
//!
//! Invariant: an object is converted by a rule of this table or not at all.

use serde_json::{Map, Value, json};

use crate::catalogue::Catalogue;
use crate::kind::{Kind, text};
use crate::layout::Folder;

type Convert = fn(&mut Value);

/// A conversion between two versions of a kind.
struct Rule {
    from: (&'static str, &'static str),
    resource: &'static str,
    to: (&'static str, &'static str),
    convert: Convert,
}

const fn rule(
    from: (&'static str, &'static str),
    resource: &'static str,
    to: (&'static str, &'static str),
    convert: Convert,
) -> Rule {
    Rule {
        from,
        resource,
        to,
        convert,
    }
}

/// Both versions have the same fields.
fn same(_: &mut Value) {}

const NETWORKING: &str = "networking.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// What was removed from Kubernetes and where it went. Groups whose versions have the same fields
/// are in [`SAME`].
const RULES: [Rule; 11] = [
    rule(
        ("extensions", "v1beta1"),
        "ingresses",
        (NETWORKING, "v1"),
        ingress,
    ),
    rule(
        (NETWORKING, "v1beta1"),
        "ingresses",
        (NETWORKING, "v1"),
        ingress,
    ),
    rule(
        ("extensions", "v1beta1"),
        "deployments",
        ("apps", "v1"),
        selector,
    ),
    rule(
        ("extensions", "v1beta1"),
        "daemonsets",
        ("apps", "v1"),
        selector,
    ),
    rule(("apps", "v1beta1"), "deployments", ("apps", "v1"), selector),
    rule(
        ("apps", "v1beta1"),
        "statefulsets",
        ("apps", "v1"),
        selector,
    ),
    rule(("apps", "v1beta2"), "deployments", ("apps", "v1"), same),
    rule(
        ("policy", "v1beta1"),
        "poddisruptionbudgets",
        ("policy", "v1"),
        budget,
    ),
    rule(
        (EXTENSIONS, "v1beta1"),
        "customresourcedefinitions",
        (EXTENSIONS, "v1"),
        definition,
    ),
    rule(
        (ADMISSION, "v1beta1"),
        "validatingwebhookconfigurations",
        (ADMISSION, "v1"),
        same,
    ),
    rule(
        (ADMISSION, "v1beta1"),
        "mutatingwebhookconfigurations",
        (ADMISSION, "v1"),
        same,
    ),
];

/// Versions of a kind that differ in name only, in both directions.
const SAME: [(&str, &str, &[&str]); 14] = [
    ("batch", "cronjobs", &["v1", "v1beta1"]),
    ("apps", "daemonsets", &["v1", "v1beta2"]),
    ("apps", "statefulsets", &["v1", "v1beta2"]),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &["v2", "v2beta2"],
    ),
    ("rbac.authorization.k8s.io", "*", &["v1", "v1beta1"]),
    ("scheduling.k8s.io", "priorityclasses", &["v1", "v1beta1"]),
    ("storage.k8s.io", "*", &["v1", "v1beta1"]),
    ("node.k8s.io", "runtimeclasses", &["v1", "v1beta1"]),
    ("networking.k8s.io", "ingressclasses", &["v1", "v1beta1"]),
    ("coordination.k8s.io", "leases", &["v1", "v1beta1"]),
    ("snapshot.storage.k8s.io", "*", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", "apiservices", &["v1", "v1beta1"]),
    (
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        &["v1", "v1beta3", "v1beta2", "v1beta1"],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        &["v1", "v1beta3"],
    ),
];

/// What a kind is in the target, and the object in that version; or why it cannot be there.
pub(super) fn choose(
    catalogue: &Catalogue,
    folder: &Folder,
    object: &mut Value,
) -> Result<Kind, String> {
    let found = |(group, version): (&str, &str)| catalogue.find(group, version, &folder.resource);
    if let Some(kind) = found((&folder.group, &folder.version)) {
        return Ok(kind.clone());
    }
    for rule in &RULES {
        if rule.from == (folder.group.as_str(), folder.version.as_str())
            && rule.resource == folder.resource
            && let Some(kind) = found(rule.to)
        {
            (rule.convert)(object);
            return Ok(adopt(object, kind));
        }
    }
    for (group, resource, versions) in SAME {
        let is_it = group == folder.group
            && (resource == "*" || resource == folder.resource)
            && versions.contains(&folder.version.as_str());
        let kind = versions.iter().find_map(|version| found((group, version)));
        if let Some(kind) = kind.filter(|_| is_it) {
            return Ok(adopt(object, kind));
        }
    }
    Err(refusal(catalogue, folder))
}

fn adopt(object: &mut Value, kind: &Kind) -> Kind {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), kind.api_version().into());
    }
    kind.clone()
}

fn refusal(catalogue: &Catalogue, folder: &Folder) -> String {
    let what = format!("{} in {}/{}", folder.resource, folder.group, folder.version);
    let served: Vec<&str> = catalogue
        .versions(&folder.group, &folder.resource)
        .map(|kind| kind.version.as_str())
        .collect();
    let is_down = |(down, _): &&(String, String)| {
        let (group, version) = down.rsplit_once('/').unwrap_or(("", down));
        group == folder.group && (served.is_empty() || version == folder.version)
    };
    if let Some((group, why)) = catalogue.unavailable.iter().find(is_down) {
        return format!("the API server cannot serve {group} now: {why}");
    }
    match (served.as_slice(), folder.resource.as_str()) {
        ([], "podsecuritypolicies") => {
            format!("the target has no {what}: replaced by Pod Security labels, by hand")
        }
        ([], _) => format!(
            "the target does not know {what}: if it is a custom resource, restore its definition \
             customresourcedefinitions.apiextensions.k8s.io/{}.{} first, by name",
            folder.resource, folder.group
        ),
        (served, _) => format!(
            "the target serves {what} only as {}, and there is no rule to convert it",
            served.join(", ")
        ),
    }
}

fn ingress(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else {
        return;
    };
    if let Some(fields) = spec.as_object_mut()
        && let Some(mut default) = fields.remove("backend")
    {
        backend(&mut default);
        fields.insert("defaultBackend".into(), default);
    }
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        let paths = rule
            .pointer_mut("/http/paths")
            .and_then(Value::as_array_mut);
        for path in paths.into_iter().flatten() {
            if let Some(inner) = path.get_mut("backend") {
                backend(inner);
            }
            if let Some(fields) = path.as_object_mut() {
                fields
                    .entry("pathType")
                    .or_insert_with(|| "ImplementationSpecific".into());
            }
        }
    }
}

fn backend(backend: &mut Value) {
    let Some(fields) = backend.as_object_mut() else {
        return;
    };
    let Some(name) = fields.remove("serviceName") else {
        return;
    };
    let port = fields.remove("servicePort").unwrap_or(Value::Null);
    let key = if port.is_string() { "name" } else { "number" };
    let port: Map<String, Value> = [(key.to_owned(), port)].into_iter().collect();
    fields.insert("service".into(), json!({"name": name, "port": port}));
}

/// `apps/v1` wants the selector that older versions took from the template.
fn selector(object: &mut Value) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned();
    if let (Some(Value::Object(spec)), Some(labels)) = (object.get_mut("spec"), labels) {
        spec.remove("rollbackTo");
        spec.remove("templateGeneration");
        spec.entry("selector")
            .or_insert_with(|| json!({"matchLabels": labels}));
    }
}

/// An empty selector selected nothing in `v1beta1` and selects everything in `v1`.
fn budget(object: &mut Value) {
    let is_empty = object
        .pointer("/spec/selector")
        .and_then(Value::as_object)
        .is_some_and(Map::is_empty);
    if is_empty {
        let none = json!({"matchExpressions":
            [{"key": "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match", "operator": "Exists"}]});
        if let Some(Value::Object(spec)) = object.get_mut("spec") {
            spec.insert("selector".into(), none);
        }
    }
}

/// `v1` has schema, columns and subresources in every version, and no single `version`.
fn definition(object: &mut Value) {
    let Some(Value::Object(spec)) = object.get_mut("spec") else {
        return;
    };
    let single = spec.remove("version");
    let schema = spec.remove("validation");
    let subresources = spec.remove("subresources");
    let columns = spec.remove("additionalPrinterColumns");
    let versions = spec.entry("versions").or_insert_with(|| {
        json!([{"name": single.unwrap_or_else(|| "v1".into()), "served": true, "storage": true}])
    });
    for version in versions.as_array_mut().into_iter().flatten() {
        let Some(fields) = version.as_object_mut() else {
            continue;
        };
        let open = || {
            json!({"openAPIV3Schema":
                   {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
        };
        fields
            .entry("schema")
            .or_insert_with(|| schema.clone().unwrap_or_else(open));
        for (key, value) in [("subresources", &subresources)] {
            if let Some(value) = value {
                fields.entry(key).or_insert_with(|| value.clone());
            }
        }
        if let Some(Value::Array(columns)) = &columns {
            fields.entry("additionalPrinterColumns").or_insert_with(|| {
                columns
                    .iter()
                    .cloned()
                    .map(column)
                    .collect::<Vec<_>>()
                    .into()
            });
        }
    }
}

fn column(mut column: Value) -> Value {
    if let Some(fields) = column.as_object_mut()
        && let Some(path) = fields.remove("JSONPath")
    {
        fields.insert("jsonPath".into(), path);
    }
    column
}

/// What a definition in the plan says of the kind it will make.
pub(super) fn defined(folder: &Folder, object: &Value) -> Kind {
    Kind {
        group: folder.group.clone(),
        version: folder.version.clone(),
        resource: folder.resource.clone(),
        kind: text(object, "/kind").unwrap_or_default().to_owned(),
        namespaced: folder.namespace.is_some(),
        verbs: ["create", "get", "list", "update", "patch", "delete"]
            .map(str::to_owned)
            .into(),
    }
}

#[cfg(test)]
mod tests;
