//! Claims and their volumes (P7).
//!
//! Invariant: a volume is never taken from a claim that has it, and a claim names a volume only if
//! that will be there for it.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::{Map, Value};

use super::prepare::{Prepared, Wish};
use super::sanitise::{map_at, remove};
use crate::kind::text;

/// What says where a claim's data is: its volume, and what a new one would be filled from.
pub(super) const PLACE: [&str; 3] = ["volumeName", "dataSource", "dataSourceRef"];

/// Takes out of an object, if it is a claim, where its data is.
pub(super) fn take_place(id: &str, object: &mut Value) -> Map<String, Value> {
    let spec = map_at(object, "/spec").filter(|_| id == "persistentvolumeclaims");
    let Some(spec) = spec else {
        return Map::new();
    };
    PLACE
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), spec.remove(*key)?)))
        .collect()
}

/// The claim that a volume is for.
fn claim(volume: &Value) -> Option<(&str, &str)> {
    let field = |key| text(volume, key);
    Some((
        field("/spec/claimRef/namespace")?,
        field("/spec/claimRef/name")?,
    ))
}

/// The claim that would lose the live volume if it were replaced.
pub(super) fn other_claim(prepared: &Prepared, live: &Value) -> Option<String> {
    const FIELD: &str = "/spec/claimRef";
    let touches = |field: &String| field.starts_with(FIELD) || FIELD.starts_with(field.as_str());
    let is_touched = prepared.fields.is_empty() || prepared.fields.iter().any(touches);
    if prepared.id != "persistentvolumes" || !is_touched {
        return None;
    }
    let theirs = claim(live)?;
    (claim(&prepared.object) != Some(theirs)).then(|| format!("{}/{}", theirs.0, theirs.1))
}

/// Whether a live volume was of a claim of the same name that is gone: it is for no other until it
/// forgets that one's UID. One that is deleted with its claim may be on its way out.
pub(super) fn is_released(prepared: &Prepared, live: &Value) -> bool {
    is_given_up(prepared, live)
        && is_retained(live)
        && claim(live).is_some()
        && claim(&prepared.object) == claim(live)
}

/// Whether a live volume is to go, or be emptied, now that its claim is gone. It may be there still
/// because the storage refused so far.
pub(super) fn is_doomed(prepared: &Prepared, live: &Value) -> bool {
    is_given_up(prepared, live) && !is_retained(live)
}

/// Whether the claim of a live volume, which is restored as a whole, is gone.
fn is_given_up(prepared: &Prepared, live: &Value) -> bool {
    prepared.id == "persistentvolumes"
        && prepared.fields.is_empty()
        && matches!(text(live, "/status/phase"), Some("Released" | "Failed"))
}

fn is_retained(live: &Value) -> bool {
    text(live, "/spec/persistentVolumeReclaimPolicy") == Some("Retain")
}

/// Leaves a volume bound as it is: a claim whose volume no longer knows its UID is lost for good.
pub(super) fn keep_claim(prepared: &Prepared, wanted: &mut Value, live: &Value) {
    let is_same = claim(wanted).is_some() && claim(wanted) == claim(live);
    if !is_same || is_released(prepared, live) {
        return;
    }
    if let (Some(spec), Some(theirs)) = (map_at(wanted, "/spec"), live.pointer("/spec/claimRef")) {
        spec.insert("claimRef".into(), theirs.clone());
    }
}

/// A claim keeps its volume only if that is there for it, or comes: `actions` are those of the
/// objects. What a claim loses is told where a new one is made.
pub(super) fn release(prepared: &mut [Prepared], actions: &[Action]) -> Vec<Finding> {
    let volumes = prepared.iter().zip(actions);
    let coming: BTreeSet<String> = volumes
        .filter(|(p, action)| {
            let stays_out = matches!(action, Action::Skip { .. } | Action::Conflict { .. });
            p.id == "persistentvolumes" && p.wish == Wish::Wanted && !stays_out
        })
        .map(|(p, _)| p.name().to_owned())
        .collect();
    let mut findings = Vec::new();
    for (p, action) in prepared.iter_mut().zip(actions) {
        let volume = text(&p.object, "/spec/volumeName").unwrap_or_default();
        if p.id != "persistentvolumeclaims" || coming.contains(volume) {
            continue;
        }
        if matches!(action, Action::Create | Action::Rename { .. }) {
            findings.extend(lost(p, volume));
        }
        remove(&mut p.object, "/spec", &["volumeName"]);
        // What a transform says instead is meant.
        if let Some(spec) = map_at(&mut p.object, "/spec") {
            spec.retain(|key, value| !is_source(key) || p.place.get(key) != Some(value));
        }
    }
    findings
}

/// Whether a field of a claim says what a new volume is filled from.
fn is_source(key: &str) -> bool {
    key != "volumeName" && PLACE.contains(&key)
}

/// What a new claim will not have of what the stored one had.
fn lost(claim: &Prepared, volume: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !volume.is_empty() {
        let message = format!(
            "its volume {volume}, with the data, does not come with it: it gets a new, empty one \
             (--privileged persistentvolumes/{volume} brings the volume, if its storage is there)"
        );
        findings.push(Finding::warning(claim.title(), message));
    }
    let spec = claim.object.get("spec");
    let source = claim.place.iter().find(|(key, value)| {
        is_source(key) && spec.and_then(|spec| spec.get(*key)) == Some(*value)
    });
    if let Some((_, source)) = source {
        let field = |key| text(source, key).unwrap_or_default();
        let message = format!(
            "its volume was made from {} {}, which is left out: the new one is made without it",
            field("/kind"),
            field("/name"),
        );
        findings.push(Finding::warning(claim.title(), message));
    }
    findings
}
