//! Figures for many objects; printed and not judged, because machines differ.
//!
//! Invariant: what is timed is also checked.

use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::json;

use crate::bed::{Adapter as _, clusters};
use crate::memory::MemoryPoint;

/// 12,000 go beyond the length of a folder; `REFLOAT_TEST_SECRETS=31000` is velero#6845.
const SECRETS: usize = 1_500;

#[test]
fn many_secrets_are_captured_planned_and_restored_in_seconds() {
    let Some((_, b)) = clusters() else { return };
    let given = std::env::var("REFLOAT_TEST_SECRETS").ok();
    let count = given.map_or(SECRETS, |text| text.parse().unwrap());
    let secret = |n: usize| {
        let document = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": format!("secret-{n:05}"), "namespace": "many"},
            "data": {"key": "dmFsdWU="}});
        (
            format!("secrets/many/secret-{n:05}.yaml"),
            document.to_string(),
        )
    };
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}});
    let space = (
        "namespaces/_cluster/many.yaml".to_owned(),
        space.to_string(),
    );
    let point = MemoryPoint::of_files((0..count).map(secret).chain([space]));
    let request = RestoreRequest {
        only: vec!["many".into()],
        ..RestoreRequest::default()
    };
    let target = b.target();
    let started = Instant::now();
    let plan = target.plan(&point, &request).unwrap();
    let planned = started.elapsed();
    let creates = plan
        .steps
        .iter()
        .filter(|s| s.action == Action::Create)
        .count();
    assert_eq!(creates, count + 1, "{:?}", plan.findings);
    let started = Instant::now();
    let report = target
        .execute(
            &plan,
            &point,
            &request,
            &Silent::default(),
            &Cancel::default(),
        )
        .unwrap();
    let restored = started.elapsed();
    assert!(report.is_complete());
    let started = Instant::now();
    let again = target.plan(&point, &request).unwrap();
    let compared = started.elapsed();
    assert!(
        again
            .steps
            .iter()
            .all(|s| matches!(s.action, Action::Reuse | Action::Skip { .. }))
    );
    let started = Instant::now();
    let point = MemoryPoint::capture(&b.source(&["many"]));
    let captured = started.elapsed();
    let files = point.files("/kubernetes/prod/resources/core/v1/secrets/many");
    assert_eq!(
        files.keys().filter(|path| path.ends_with(".yaml")).count(),
        count
    );
    eprintln!(
        "{count} secrets: captured in {:.1} s, planned in {:.1} s, restored in {:.1} s, compared in \
         {:.1} s",
        captured.as_secs_f32(),
        planned.as_secs_f32(),
        restored.as_secs_f32(),
        compared.as_secs_f32()
    );
}
