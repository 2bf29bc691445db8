//! What OpenShift's own kinds need: services of routes, image streams, secrets of builds.
//!
//! Invariant: a stream of another namespace is looked for there.

use serde_json::Value;

use super::Add;
use crate::kind::{elements, namespace, text};

const STREAMS: &str = "imagestreams.image.openshift.io";

pub(super) fn route(route: &Value, add: &mut Add<'_>) {
    let space = namespace(route);
    let first = route.pointer("/spec/to");
    for backend in first
        .into_iter()
        .chain(elements(route, "/spec/alternateBackends"))
    {
        if text(backend, "/kind").is_none_or(|kind| kind == "Service") {
            add("services", space, text(backend, "/name"));
        }
    }
    add(
        "secrets",
        space,
        text(route, "/spec/tls/externalCertificate/name"),
    );
}

pub(super) fn deployment_config(config: &Value, add: &mut Add<'_>) {
    for trigger in elements(config, "/spec/triggers") {
        stream(config, trigger.pointer("/imageChangeParams/from"), add);
    }
}

pub(super) fn build_config(config: &Value, add: &mut Add<'_>) {
    let space = namespace(config);
    // Where it pushes to must be there as well.
    stream(config, config.pointer("/spec/output/to"), add);
    add(
        "secrets",
        space,
        text(config, "/spec/output/pushSecret/name"),
    );
    add(
        "secrets",
        space,
        text(config, "/spec/source/sourceSecret/name"),
    );
    add(
        "serviceaccounts",
        space,
        text(config, "/spec/serviceAccount"),
    );
    for strategy in ["sourceStrategy", "dockerStrategy", "customStrategy"] {
        let strategy = config.pointer(&format!("/spec/strategy/{strategy}"));
        stream(config, strategy.and_then(|s| s.get("from")), add);
        let secret = strategy.and_then(|s| text(s, "/pullSecret/name"));
        add("secrets", space, secret);
    }
    for (list, kind, pointer) in [
        ("/spec/source/secrets", "secrets", "/secret/name"),
        ("/spec/source/configMaps", "configmaps", "/configMap/name"),
    ] {
        for source in elements(config, list) {
            add(kind, space, text(source, pointer));
        }
    }
}

/// The stream that `{kind: ImageStreamTag, name: web:1}` means.
fn stream(object: &Value, from: Option<&Value>, add: &mut Add<'_>) {
    let Some(from) = from else { return };
    let name = text(from, "/name").unwrap_or_default();
    let name = match text(from, "/kind") {
        Some("ImageStreamTag") => name.split(':').next(),
        Some("ImageStreamImage") => name.split('@').next(),
        _ => None,
    };
    let space = text(from, "/namespace").filter(|space| !space.is_empty());
    add(STREAMS, space.or(namespace(object)), name);
}
