//! Definitions of custom resources that come back, and the moment in which the server still judges by
//! those it had before.
//!
//! Invariant: no custom resource is judged by a definition that this restore replaces, if servers see the
//! new one in time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use refloat_model::plan::Action;
use serde_json::Value;

use super::compare::left_out;
use super::execute::{Execution, WAIT_MAX, WAIT_POLL};
use super::layer::Layer;
use super::prepare::Prepared;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, text};

/// How long a server may judge by a definition that was replaced. One alone needs some milliseconds;
/// where several share the load, each watches for itself.
const REDEFINITION_WAIT_MAX: Duration = Duration::from_secs(10);

/// The kinds whose definitions are replaced; `actions` has one for each of `prepared`.
pub(super) fn redefined(prepared: &[Prepared], actions: &[Action]) -> BTreeSet<String> {
    let is_replaced = |(p, action): &(&Prepared, &Action)| {
        p.layer == Layer::Definitions && matches!(action, Action::Replace { .. })
    };
    let replaced = prepared.iter().zip(actions).filter(is_replaced);
    replaced.map(|(p, _)| p.name().to_owned()).collect()
}

/// Waits until the server would take all that is asked for with `call`, or has another reason to refuse
/// it than its form; but not longer than servers may need after the definitions were written.
///
/// An old definition does not only refuse: what it does not know is left out without a word.
pub(super) async fn in_force(run: &Execution<'_>, prepared: &Prepared, call: &Call, asked: &Value) {
    let trial = call.clone().dry_run();
    let is_time = || {
        let defined = run.defined.get();
        defined.is_some_and(|defined| defined.elapsed() < REDEFINITION_WAIT_MAX)
    };
    while is_time() && !run.cancel.is_cancelled() {
        match run.api.call(&trial).await {
            Ok(answer) if !left_out(prepared, asked, &answer).is_empty() => {}
            Err(error) if matches!(error.status(), Some(404 | 422)) => {}
            _ => return,
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}

/// Waits until the server serves what a definition defines.
pub(super) async fn established(api: &Api, p: &Prepared) -> Result<(), ApiError> {
    let started = Instant::now();
    loop {
        // Of the live one: only a field of it may have been restored.
        let live = api.call(&Call::get(p.object_path())).await?;
        let group = text(&live, "/spec/group").unwrap_or_default();
        let is_established = elements(&live, "/status/conditions").any(|condition| {
            text(condition, "/type") == Some("Established")
                && text(condition, "/status") == Some("True")
        });
        let served = elements(&live, "/spec/versions")
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .filter_map(|version| text(version, "/name"));
        // Established says that the server may; that it does shows in its discovery.
        let mut is_served = true;
        for version in served {
            let path = format!("/apis/{group}/{version}");
            let list = api.call(&Call::get(path).attempts(1)).await;
            let plural = text(&live, "/spec/names/plural");
            is_served &= list.is_ok_and(|list| {
                elements(&list, "/resources").any(|resource| text(resource, "/name") == plural)
            });
        }
        if is_established && is_served {
            return Ok(());
        }
        if started.elapsed() > WAIT_MAX {
            return Err(ApiError::NotInTime {
                what: format!("the definition {} being served", p.name()),
                within: WAIT_MAX,
            });
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}
