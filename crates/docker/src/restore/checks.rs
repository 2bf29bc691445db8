//! Checks of the target before anything is touched: what would fail halfway fails here.
//!
//! Invariant: a check that cannot be made says nothing; it never says that all is well.

mod addresses;
mod owners;
mod ports;
mod users;

use std::collections::BTreeSet;
use std::path::Path;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::Action;
use serde_json::Value;

use super::plan::{Planner, is_made};
use super::selection::lives_with;
use crate::definition::EngineKind;

/// Space that must stay free beside what is restored, in bytes: engines and databases that cannot
/// write a log line do not start.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Adds what stands in the way to the plan's findings.
pub(super) fn check(planner: &mut Planner<'_>) {
    let mut findings = Vec::new();
    architecture(planner, &mut findings);
    drivers(planner, &mut findings);
    ports::check(planner, &mut findings);
    addresses::check(planner, &mut findings);
    space(planner, &mut findings);
    users::check(planner, &mut findings);
    owners::check(planner, &mut findings);
    sharers(planner, &mut findings);
    remarks(planner, &mut findings);
    planner.findings.extend(findings);
    planner
        .findings
        .sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    planner.findings.dedup();
}

/// The engine's word for a machine in the images' words.
pub(super) fn canonical(engine: &str) -> &str {
    match engine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "i386" | "i686" => "386",
        other => other,
    }
}

/// Whether an engine's machine runs an image's architecture.
pub(super) fn same_architecture(engine: &str, image: &str) -> bool {
    let canonical = canonical(engine);
    canonical == image || (canonical == "amd64" && image == "386")
}

fn architecture(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let host = &planner.ground.present.host.architecture;
    if host.is_empty() {
        return;
    }
    for id in &planner.selection.images {
        let Some(image) = planner.holding.image(id).map(|held| &held.definition) else {
            continue;
        };
        let comes = planner.decision(ItemKind::Image, id).is_some_and(is_made);
        if comes && !image.architecture.is_empty() && !same_architecture(host, &image.architecture)
        {
            let name = image.tags.first().unwrap_or(id);
            findings.push(Finding::error(
                format!("image {name}"),
                format!("it is for {}, the target is {host}", image.architecture),
            ));
        }
    }
}

fn drivers(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let plugins = |kind: &str| -> BTreeSet<&str> {
        let list = planner
            .ground
            .present
            .info
            .get("Plugins")
            .and_then(|p| p.get(kind));
        list.and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let mut need = |subject: String, kind: &str, driver: &str| {
        let known = plugins(kind);
        // An engine that lists no drivers of a kind at all does not tell.
        if !known.is_empty() && !driver.is_empty() && !known.contains(driver) {
            let kind = kind.to_lowercase();
            let message = format!("the target has no {kind} driver {driver:?}: install its plugin");
            findings.push(Finding::error(subject, message));
        }
    };
    for (name, held) in &planner.holding.volumes {
        if planner
            .decision(ItemKind::Volume, name)
            .is_some_and(is_made)
        {
            need(format!("volume {name}"), "Volume", &held.definition.driver);
        }
    }
    for (name, held) in &planner.holding.networks {
        if planner
            .decision(ItemKind::Network, name)
            .is_some_and(is_made)
        {
            need(
                format!("network {name}"),
                "Network",
                &held.definition.driver,
            );
        }
    }
    for (name, held) in &planner.holding.containers {
        if planner
            .decision(ItemKind::Container, name)
            .is_some_and(is_made)
        {
            let log = held
                .definition
                .host_config
                .get("LogConfig")
                .and_then(|l| l.get("Type"));
            let log = log.and_then(Value::as_str).unwrap_or_default();
            // Podman takes Docker's drivers for names of its own.
            let is_docker = planner.ground.present.host.engine == EngineKind::Docker;
            if log != "none" && is_docker {
                need(format!("container {name}"), "Log", log);
            }
        }
    }
    runtimes(planner, findings);
}

fn runtimes(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let Some(known) = planner
        .ground
        .present
        .info
        .get("Runtimes")
        .and_then(Value::as_object)
    else {
        return;
    };
    for (name, held) in &planner.holding.containers {
        let runtime = held
            .definition
            .host_config
            .get("Runtime")
            .and_then(Value::as_str);
        let made = planner
            .decision(ItemKind::Container, name)
            .is_some_and(is_made);
        // Engines have their own names for "the usual one".
        let usual = |runtime: &str| ["", "runc", "crun", "oci"].contains(&runtime);
        if let Some(runtime) = runtime.filter(|r| made && !usual(r) && !known.contains_key(*r)) {
            findings.push(Finding::error(
                format!("container {name}"),
                format!("the target has no runtime {runtime:?}"),
            ));
        }
    }
}

fn space(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let reach = planner.ground.reach;
    let Some(root) = reach.data_root.clone() else {
        return;
    };
    let made = |kinds: &[ItemKind]| -> u64 {
        let steps = planner
            .steps
            .iter()
            .filter(|s| kinds.contains(&s.kind) && is_made(&s.action));
        steps.filter_map(|step| step.bytes).sum()
    };
    // `docker load` unpacks into a temporary folder first: images need their size twice.
    let own = [ItemKind::Volume, ItemKind::Dump, ItemKind::RootFilesystem];
    let engine = made(&own) + 2 * made(&[ItemKind::Image]);
    let mut compare = |place: &Path, bytes: u64| {
        if let Some(free) = reach.bytes_free(place)
            && bytes > 0
            && bytes.saturating_add(SPARE_BYTES) > free
        {
            let subject = format!("folder {}", place.display());
            let message = format!("{bytes} bytes are needed and {free} bytes are free");
            findings.push(Finding::error(subject, message));
        }
    };
    compare(&root, engine);
    for step in &planner.steps {
        if step.kind == ItemKind::Bind && is_made(&step.action) {
            compare(Path::new(&step.name), step.bytes.unwrap_or(0));
        }
    }
}

/// Containers of the target that share with one that is made anew, and are not: what they share
/// is gone with the old one.
fn sharers(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    for (name, container) in &planner.ground.present.containers {
        let others = lives_with(&container.definition);
        if let Some(other) = others.iter().find(|other| planner.replaces(other))
            && !planner.replaces(name)
        {
            let message = format!(
                "it shares with container {other}, which is replaced: it does not start again \
                 until it is made anew as well"
            );
            findings.push(Finding::warning(format!("container {name}"), message));
        }
    }
}

/// What a person should know, and that stops nothing.
fn remarks(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    for point in &planner.ground.notes.other_points {
        let message =
            format!("a restore of recovery point {point} was begun here and not finished");
        findings.push(Finding::warning(planner.ground.address.clone(), message));
    }
    let through_api = planner.steps.iter().any(|step| {
        matches!(step.kind, ItemKind::Bind | ItemKind::Project) && step.action == Action::Create
    });
    if through_api && !planner.ground.reach.is_local() {
        findings.push(Finding::note(
            planner.ground.address.clone(),
            "host folders cannot be looked at from here; files of the same name are replaced",
        ));
    }
    for step in &planner.steps {
        if let Action::Skip { why } = &step.action
            && let Some(what) = why.strip_prefix(super::plan::MISSING)
        {
            let subject = format!("{} {}", step.kind.word(), step.name);
            findings.push(Finding::warning(
                subject,
                format!("it does not come back: {what}"),
            ));
        }
    }
    for (name, held) in &planner.holding.volumes {
        let crash = held.record.consistency == Some(refloat_model::outcome::Consistency::Crash);
        let filled = planner.steps.iter().any(|step| {
            step.kind == ItemKind::Volume && step.name == *name && step.bytes.unwrap_or(0) > 0
        });
        if crash && filled {
            findings.push(Finding::note(
                format!("volume {name}"),
                "its data was copied while it was in use (crash-consistent)",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same_architecture;

    #[test]
    fn engines_and_images_have_different_words_for_one_machine() {
        assert!(same_architecture("x86_64", "amd64"));
        assert!(same_architecture("aarch64", "arm64"));
        assert!(same_architecture("amd64", "amd64"));
        assert!(!same_architecture("x86_64", "arm64"));
    }
}
