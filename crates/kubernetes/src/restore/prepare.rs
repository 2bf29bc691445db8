//! Stored objects made ready for one target, or the reason why one stays out.
//!
//! Invariant: pure: the same point, request and catalogue give the same objects in the same order.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::glob::Glob;
use refloat_model::plan::RestoreRequest;
use refloat_model::tree_path::TreePath;
use serde_json::{Map, Value, json};

use super::change::Changes;
use super::hold::{Hold, hold};
use super::layer::{Layer, layer};
use super::operators::hold_operators;
use super::privileged::{SPACE_RIGHTS, is_named, stays_out};
use super::sanitise::{map_at, sanitise};
use super::stored::{Selected, Stored};
use super::version;
use super::volumes::take_place;
use crate::catalogue::Catalogue;
use crate::kind::{Kind, annotation, elements, name, namespace, object_name, text};

/// Groups of the API server itself; other groups with a dot in their names are of definitions.
const OWN_GROUPS: [&str; 18] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// What is to become of an object, as far as the target's present state does not matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Wanted,
    /// A rule leaves it out.
    Out(String),
    /// The target cannot take it.
    Impossible(String),
}

/// One object, ready for the target.
pub(super) struct Prepared {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) layer: Layer,
    /// Where the document lies in the point.
    pub(super) path: TreePath,
    /// Its name in the point, `secrets/shop/db`.
    pub(super) stored_name: String,
    pub(super) workload: Option<String>,
    /// As it will be, without owners.
    pub(super) object: Value,
    /// Where a claim's data was, as the point has it.
    pub(super) place: Map<String, Value>,
    /// Its owners, without UIDs, which the target gives.
    pub(super) owners: Vec<Value>,
    pub(super) wish: Wish,
    /// How it is held back until everything is there.
    pub(super) hold: Option<Hold>,
    /// What the server said of it, for the few that ask for it (P13).
    pub(super) status: Option<Value>,
    /// The only fields that are restored, as JSON pointers; empty means the whole object.
    pub(super) fields: Vec<String>,
    /// Whether labels of a namespace that give its pods rights were taken away.
    pub(super) lost_rights: bool,
    /// Whether it only comes along because something that was asked for needs it.
    pub(super) is_companion: bool,
}

impl Prepared {
    pub(super) fn name(&self) -> &str {
        name(&self.object)
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        namespace(&self.object)
    }

    /// Its name in the target, `secrets/copy/db`.
    pub(super) fn title(&self) -> String {
        self.kind.object_name(self.namespace(), self.name())
    }

    pub(super) fn object_path(&self) -> String {
        self.kind.object_path(self.namespace(), self.name())
    }

    pub(super) fn list_path(&self) -> String {
        self.kind.list_path(self.namespace())
    }

    /// Whether others have their say in the object too: then it is merged, never replaced.
    pub(super) fn is_shared(&self) -> bool {
        self.id == "namespaces" || (self.id == "serviceaccounts" && self.name() == "default")
    }

    /// Whether its kind is of a definition, as far as its group tells.
    pub(super) fn is_custom(&self) -> bool {
        let group = self.kind.group.as_str();
        self.layer == Layer::Custom && group.contains('.') && !OWN_GROUPS.contains(&group)
    }
}

/// Makes the selected objects ready, in the order in which they come back.
pub(super) fn prepare(
    selected: Selected,
    request: &RestoreRequest,
    changes: &Changes,
    catalogue: &Catalogue,
) -> Vec<Prepared> {
    let names = Named {
        patterns: &request.privileged,
        objects: selected.named,
        namespaces: selected.namespaces,
        companions: selected.companions,
        fields: selected.fields,
    };
    let mut unique: BTreeMap<(Layer, String, String), Prepared> = BTreeMap::new();
    for stored in selected.objects {
        let is_exact = is_served(catalogue, &stored);
        // Without the group, which some kinds changed with their version.
        let (space, of) = (namespace(&stored.object), name(&stored.object));
        let origin = object_name(&stored.folder.resource, space, of);
        let prepared = one(stored, request, changes, catalogue, &names);
        let key = (prepared.layer, prepared.title(), origin);
        // A point may hold an object in several versions: the target's own counts.
        if is_exact || !unique.contains_key(&key) {
            unique.insert(key, prepared);
        }
    }
    let mut prepared: Vec<Prepared> = unique.into_values().collect();
    admit_defined(&mut prepared);
    refuse_namesakes(&mut prepared);
    leave_snapshots(&mut prepared);
    hold_operators(&mut prepared);
    prepared
}

struct Named<'a> {
    patterns: &'a [Glob],
    objects: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    companions: BTreeSet<String>,
    fields: BTreeMap<String, Vec<String>>,
}

fn is_served(catalogue: &Catalogue, stored: &Stored) -> bool {
    let folder = &stored.folder;
    let first = catalogue.versions(&folder.group, &folder.resource).next();
    first.is_some_and(|kind| kind.version == folder.version)
}

fn one(
    stored: Stored,
    request: &RestoreRequest,
    changes: &Changes,
    catalogue: &Catalogue,
    names: &Named<'_>,
) -> Prepared {
    let (id, stored_name) = (stored.id(), stored.name());
    let workload = stored.folder.namespace.clone();
    let mut object = stored.object;
    let place = take_place(&id, &mut object);
    let is_named = names.objects.contains(&stored_name)
        || names.fields.contains_key(&stored_name)
        || is_named(names.patterns, &stored_name);
    let is_space_named = workload
        .as_ref()
        .is_some_and(|space| names.namespaces.contains(space));
    let status = asked_status(&object, stored.server.as_ref());
    let is_server_lost = stored.is_server_lost;
    let out = stays_out(&id, &object, is_named, is_space_named)
        .or_else(|| completed(&id, stored.server.as_ref()));
    sanitise(&id, &mut object, stored.server.as_ref());
    let lost_rights = id == "namespaces" && !is_named && drop_space_rights(&mut object);
    let (kind, mut wish) = match (out, version::choose(catalogue, &stored.folder, &mut object)) {
        (Some(why), kind) => {
            let kind = kind.unwrap_or_else(|_| version::defined(&stored.folder, &object));
            (kind, Wish::Out(why))
        }
        (None, Ok(kind)) => (kind, Wish::Wanted),
        (None, Err(why)) => {
            let kind = version::defined(&stored.folder, &object);
            (kind, Wish::Impossible(why))
        }
    };
    // After conversion: the mapping knows the fields of today.
    changes.mapping.apply(&kind.id(), &mut object);
    if let Some(spec) = map_at(&mut object, "/spec") {
        spec.extend(place.clone());
    }
    if request.leave_stopped {
        stop(&id, &mut object);
    }
    if wish == Wish::Wanted
        && let Err(why) = changes.transforms.apply(&kind.id(), &mut object)
    {
        wish = Wish::Impossible(why);
    }
    let fields = names.fields.get(&stored_name).cloned().unwrap_or_default();
    if wish == Wish::Wanted
        && let Some(why) = obstacle(&id, &object, is_server_lost)
    {
        wish = Wish::Impossible(why);
    }
    if let Some(missing) = fields.iter().find(|field| object.pointer(field).is_none()) {
        wish = Wish::Impossible(format!(
            "the recovery point's object has no field {missing}"
        ));
    }
    // A field is put into the live object, which acts as it did.
    let hold = hold(&kind.id(), &object).filter(|_| fields.is_empty());
    Prepared {
        fields,
        lost_rights,
        status,
        is_companion: names.companions.contains(&stored_name),
        layer: layer(&kind.id()),
        hold,
        owners: owners(&mut object),
        id: kind.id(),
        kind,
        path: stored.path,
        stored_name,
        workload,
        object,
        place,
        wish,
    }
}

/// P13: some controllers act again on what has no status (a certificate is ordered once more).
/// Objects say so by an annotation, Velero's or ours.
fn asked_status(object: &Value, server: Option<&Value>) -> Option<Value> {
    const KEYS: [&str; 2] = ["refloat.io/restore-status", "velero.io/restore-status"];
    let is_asked = KEYS
        .iter()
        .any(|key| annotation(object, key) == Some("true"));
    is_asked.then(|| server?.get("status").cloned()).flatten()
}

/// Why an object cannot be made of what is known of it.
fn obstacle(id: &str, object: &Value, is_server_lost: bool) -> Option<String> {
    if !(is_segment(name(object)) && namespace(object).is_none_or(is_segment)) {
        return Some("its name cannot be one of an object".to_owned());
    }
    let what = unknown_state(id).filter(|_| is_server_lost)?;
    Some(format!(
        "what the server had said of it cannot be read, so {what} is not known"
    ))
}

/// P20: whether a name is one segment of a path and nothing else, whoever wrote the point.
fn is_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

/// P14: what has run to its end does not run again.
fn completed(id: &str, server: Option<&Value>) -> Option<String> {
    let server = server?;
    let is_over = match id {
        "pods" => matches!(text(server, "/status/phase"), Some("Succeeded" | "Failed")),
        "jobs.batch" => elements(server, "/status/conditions").any(|condition| {
            matches!(text(condition, "/type"), Some("Complete" | "Failed"))
                && text(condition, "/status") == Some("True")
        }),
        _ => false,
    };
    is_over.then(|| "it had run to its end".to_owned())
}

/// What of a kind's objects must be known before they may act, and only the server said.
fn unknown_state(id: &str) -> Option<&'static str> {
    match id {
        "pods" | "jobs.batch" => Some("whether it had run to its end"),
        "volumesnapshotcontents.snapshot.storage.k8s.io" => Some("its handle in the storage"),
        _ => None,
    }
}

/// Takes away the labels by which a namespace lets its pods do more than the strictest level, and
/// says whether there were any.
fn drop_space_rights(object: &mut Value) -> bool {
    let Some(labels) = map_at(object, "/metadata/labels") else {
        return false;
    };
    let before = labels.len();
    labels.retain(|key, value| key != SPACE_RIGHTS || value.as_str() == Some("restricted"));
    labels.len() < before
}

/// Where the number of replicas is kept that a stopped workload had.
const REPLICAS: &str = "refloat.io/replicas";

fn stop(id: &str, object: &mut Value) {
    let scalable = ["deployments.apps", "statefulsets.apps", "replicasets.apps"];
    if id == "cronjobs.batch"
        && let Some(spec) = map_at(object, "/spec")
    {
        spec.insert("suspend".into(), true.into());
    }
    if !scalable.contains(&id) {
        return;
    }
    let Some(spec) = map_at(object, "/spec") else {
        return;
    };
    let replicas = spec
        .insert("replicas".into(), 0.into())
        .unwrap_or_else(|| 1.into());
    if let Some(metadata) = map_at(object, "/metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(REPLICAS.into(), replicas.to_string().into());
        }
    }
}

/// Takes the owners out: they are put back when all of them are there (P2).
fn owners(object: &mut Value) -> Vec<Value> {
    let metadata = map_at(object, "/metadata");
    let owners = metadata.and_then(|metadata| metadata.remove("ownerReferences"));
    let Some(Value::Array(mut owners)) = owners else {
        return Vec::new();
    };
    for owner in &mut owners {
        if let Some(fields) = owner.as_object_mut() {
            fields.remove("uid");
        }
    }
    owners
}

/// Of several objects that would get one name, none comes back: whose it is cannot be told. Those
/// that are merged may: every namespace has itself and its account.
fn refuse_namesakes(prepared: &mut [Prepared]) {
    let is_only = |p: &Prepared| p.wish == Wish::Wanted && !p.is_shared();
    let mut stored: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for p in prepared.iter().filter(|p| is_only(p)) {
        let names = stored.entry(p.title()).or_default();
        names.push(p.stored_name.clone());
    }
    for p in prepared.iter_mut().filter(|p| is_only(p)) {
        let names = stored.get(&p.title()).into_iter().flatten();
        if let Some(other) = names.into_iter().find(|name| **name != p.stored_name) {
            p.wish = Wish::Impossible(format!("{other} would get the same name"));
        }
    }
}

/// Custom resources are possible if their definition comes back with them.
fn admit_defined(prepared: &mut [Prepared]) {
    let defined: BTreeSet<String> = prepared
        .iter()
        .filter(|p| p.layer == Layer::Definitions && p.wish == Wish::Wanted)
        .flat_map(|p| {
            let versions = elements(&p.object, "/spec/versions");
            let served = versions.filter(|v| v.get("served") == Some(&Value::Bool(true)));
            let names: Vec<String> = served
                .filter_map(|v| Some(format!("{}/{}", p.name(), text(v, "/name")?)))
                .collect();
            names
        })
        .collect();
    for p in prepared {
        let name = format!("{}/{}", p.id, p.kind.version);
        if matches!(p.wish, Wish::Impossible(_)) && defined.contains(&name) {
            p.wish = Wish::Wanted;
        }
    }
}

/// P8: a snapshot without its content would be taken anew, of whatever the claim then holds.
fn leave_snapshots(prepared: &mut [Prepared]) {
    let of = |p: &Prepared, word: &str| p.id == format!("{word}.snapshot.storage.k8s.io");
    let contents: BTreeSet<String> = prepared
        .iter()
        .filter(|p| of(p, "volumesnapshotcontents") && p.wish == Wish::Wanted)
        .map(|p| p.name().to_owned())
        .collect();
    for p in prepared.iter_mut().filter(|p| of(p, "volumesnapshots")) {
        let content = text(&p.object, "/spec/source/volumeSnapshotContentName");
        if p.wish == Wish::Wanted && !content.is_some_and(|content| contents.contains(content)) {
            p.wish = Wish::Out(
                "its content does not come back, and without it a new snapshot would be taken: \
                 name the volumesnapshotcontents.snapshot.storage.k8s.io"
                    .to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests;
