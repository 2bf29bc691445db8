//! What ran where: one record per container of a pod.
//!
//! Invariant: what the cluster does not tell is empty, never guessed.

use refloat_model::item::Placement;
use serde_json::Value;

use super::application;
use super::images::Running;
use crate::kind::{controller, elements, name, namespace, text};

pub(super) fn placements(pod: &Value) -> Vec<Placement> {
    let statuses = || {
        elements(pod, "/status/containerStatuses")
            .chain(elements(pod, "/status/initContainerStatuses"))
    };
    elements(pod, "/spec/containers")
        .map(|container| {
            let container_name = text(container, "/name").unwrap_or_default();
            let status = statuses().find(|s| text(s, "/name") == Some(container_name));
            Placement {
                workload: namespace(pod).unwrap_or_default().to_owned(),
                service: application(pod)
                    .or_else(|| controller(pod).map(|(_, owner)| owner))
                    .map(str::to_owned),
                container: format!("{}/{container_name}", name(pod)),
                node: text(pod, "/spec/nodeName").unwrap_or_default().to_owned(),
                image: image(pod, container, status),
                mounts: mounts(pod, container),
                state: state(pod, status).to_owned(),
                started: status
                    .and_then(|s| text(s, "/state/running/startedAt"))
                    .or_else(|| text(pod, "/status/startTime"))
                    .unwrap_or_default()
                    .to_owned(),
            }
        })
        .collect()
}

/// The images of a pod's containers as written, each with what runs.
pub(super) fn digests(pod: &Value) -> Vec<(String, Running)> {
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let status = |container: &Value| {
        statuses
            .iter()
            .flat_map(|pointer| elements(pod, pointer))
            .find(|status| status.get("name") == container.get("name"))
    };
    let containers = ["/spec/containers", "/spec/initContainers"];
    containers
        .iter()
        .flat_map(|pointer| elements(pod, pointer))
        .filter_map(|container| {
            let running = running(pod, status(container)?)?;
            Some((text(container, "/image")?.to_owned(), running))
        })
        .collect()
}

fn running(pod: &Value, status: &Value) -> Option<Running> {
    let node = text(pod, "/spec/nodeName").unwrap_or_default();
    Running::parse(text(status, "/imageID")?, node)
}

/// The image as written, with the digest that ran.
fn image(pod: &Value, container: &Value, status: Option<&Value>) -> String {
    let image = text(container, "/image").unwrap_or_default();
    match status.and_then(|status| running(pod, status)) {
        Some(running) if !image.contains('@') => format!("{image}@{}", running.digest),
        _ => image.to_owned(),
    }
}

fn mounts(pod: &Value, container: &Value) -> Vec<String> {
    let claim = |volume: &Value| {
        elements(pod, "/spec/volumes")
            .find(|v| v.get("name") == Some(volume))
            .and_then(|v| text(v, "/persistentVolumeClaim/claimName"))
    };
    elements(container, "/volumeMounts")
        .filter_map(|mount| claim(mount.get("name")?).map(str::to_owned))
        .collect()
}

fn state<'a>(pod: &'a Value, status: Option<&'a Value>) -> &'a str {
    let states = status
        .and_then(|s| s.get("state"))
        .and_then(Value::as_object);
    match states.and_then(|states| states.keys().next()) {
        Some(state) => state,
        None => text(pod, "/status/phase").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_running_container_is_named_with_node_digest_and_claims() {
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "shop",
                         "labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "app", "image": "web:1", "volumeMounts": [{"name": "d"}, {"name": "t"}]}],
                "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                            {"name": "t", "emptyDir": {}}]},
            "status": {"containerStatuses": [{"name": "app", "imageID": "docker.io/web@sha256:ab",
                       "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}}}]},
        });
        let expected = Placement {
            workload: "shop".into(),
            service: Some("web".into()),
            container: "web-1/app".into(),
            node: "n1".into(),
            image: "web:1@sha256:ab".into(),
            mounts: vec!["data".into()],
            state: "running".into(),
            started: "2026-11-20T10:00:00Z".into(),
        };
        assert_eq!(placements(&pod), [expected]);
    }
}
