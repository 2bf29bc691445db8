//! Custom resources beside definitions that differ from those they were made by.
//!
//! Invariant: a resource comes back whole, or what is missing of it is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use refloat_kubernetes::KubernetesTarget;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreRequest};
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, execute, execute_at, wait_for};
use crate::memory::MemoryPoint;
use crate::misbehaving::{Rule, answer, misbehave, status};

const FIELDS: [&str; 3] = ["both", "new", "old"];

/// A definition of the space's own kind of Word, whose `spec` has these fields; it is in force when this
/// returns.
fn define(cluster: &Cluster, space: &str, fields: &[&str], words: &str) {
    let is_word = json!({"type": "string", "pattern": words});
    let fields: Value = fields.iter().map(|name| (*name, is_word.clone())).collect();
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition", "metadata": {"name": kind(space)},
        "spec": {"group": group(space), "scope": "Namespaced",
            "names": {"plural": "words", "kind": "Word"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": {"type": "object", "properties": fields}}}}}]}});
    cluster.apply(&definition.to_string());
    wait_for("the definition is in force", || {
        let stored = stored(
            cluster,
            &["create", "--dry-run=server"],
            space,
            "trial",
            words,
        );
        stored.is_some_and(|stored| keys(&stored["spec"]) == keys(&fields))
    });
}

/// A Word with all fields goes to the server; what it stores of it, none if it refuses.
fn stored(cluster: &Cluster, verb: &[&str], space: &str, name: &str, word: &str) -> Option<Value> {
    let spec: Value = FIELDS.iter().map(|field| (*field, word)).collect();
    let object = json!({"apiVersion": format!("{}/v1", group(space)), "kind": "Word",
        "metadata": {"name": name, "namespace": space}, "spec": spec});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    let arguments = [verb, &["--validate=false", "-o", "json", "-f"]].concat();
    let answer = cluster
        .kubectl_command(&arguments)
        .arg(file.path())
        .output()
        .unwrap();
    serde_json::from_slice(&answer.stdout).ok()
}

/// A point with two Words, `there` and `gone`, under a definition that has these fields.
fn capture(cluster: &Cluster, space: &str, fields: &[&str]) -> MemoryPoint {
    cluster.kubectl(&["create", "namespace", space], "");
    define(cluster, space, fields, "old");
    for name in ["there", "gone"] {
        stored(cluster, &["create"], space, name, "old").unwrap();
    }
    MemoryPoint::capture(&cluster.source(&[space]))
}

/// Another definition, which takes neither of the captured Words, and one Word that it takes.
fn redefine(cluster: &Cluster, space: &str) {
    define(cluster, space, &["both", "new"], "new");
    cluster.kubectl(&["-n", space, "delete", &kind(space), "gone"], "");
    stored(cluster, &["apply", "--overwrite"], space, "there", "new").unwrap();
}

fn group(space: &str) -> String {
    format!("{space}.example.org")
}

fn kind(space: &str) -> String {
    format!("words.{}", group(space))
}

fn keys(fields: &Value) -> Vec<&String> {
    let mut keys: Vec<&String> = fields.as_object().unwrap().keys().collect();
    keys.sort();
    keys
}

fn spec(cluster: &Cluster, space: &str, name: &str) -> Value {
    cluster.get(&["-n", space, &kind(space), name])["spec"].clone()
}

fn assert_words(cluster: &Cluster, space: &str, expected: &Value) {
    for name in ["there", "gone"] {
        assert_eq!(&spec(cluster, space, name), expected, "{name}");
    }
}

fn request(space: &str) -> RestoreRequest {
    RestoreRequest {
        only: vec![space.into()],
        on_conflict: OnConflict::Replace,
        ..RestoreRequest::default()
    }
}

fn with_definition(space: &str) -> RestoreRequest {
    let mut request = request(space);
    let definition = "object:customresourcedefinitions.apiextensions.k8s.io";
    request.only.push(format!("{definition}/{}", kind(space)));
    request
}

fn plan(cluster: &Cluster, point: &MemoryPoint, request: &RestoreRequest) -> RestorePlan {
    cluster.target().plan(point, request).unwrap()
}

/// P10: whether a custom resource is taken is up to the definition that comes with it, from the moment
/// in which the server judges by it: until then it refuses the words and leaves out the fields.
#[test]
fn p10_a_resource_is_not_judged_by_a_definition_that_is_replaced() {
    let Some((a, _)) = clusters() else { return };
    let space = "redefined";
    let point = capture(a, space, &["both", "old"]);
    let request = with_definition(space);
    // The moment is short.
    for _ in 0..5 {
        redefine(a, space);
        let plan = plan(a, &point, &request);
        let action = |name: &str| {
            let name = format!("{}/{space}/{name}", kind(space));
            &plan.steps.iter().find(|s| s.name == name).unwrap().action
        };
        assert!(
            matches!(action("there"), Action::Replace { .. }),
            "{plan:?}"
        );
        assert_eq!(action("gone"), &Action::Create);
        let report = execute(a, &point, &request);
        assert!(report.is_complete(), "{report:?}");
        assert_words(a, space, &json!({"both": "old", "old": "old"}));
    }
}

/// A real server is this late only under load, or where several share it: a proxy answers for it as long.
#[test]
fn p10_a_server_that_is_late_to_see_a_definition_is_waited_for() {
    let Some((a, _)) = clusters() else { return };
    let space = "late";
    let point = capture(a, space, &["both", "old"]);
    redefine(a, space);

    let writes = Arc::new(AtomicU32::new(0));
    let rule: Arc<Rule> = {
        let (writes, words) = (Arc::clone(&writes), format!("/{space}/words"));
        Arc::new(move |line: &str| {
            if line.starts_with("GET ") || !line.contains(&words) {
                return None;
            }
            match writes.fetch_add(1, Ordering::Relaxed) {
                0..4 => Some(status(422, "Invalid", "")),
                4..6 if line.contains("dryRun=All") => Some(answer(
                    200,
                    r#"{"kind": "Word", "spec": {"both": "old"}}"#,
                    "",
                )),
                _ => None,
            }
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let (access, _way) = misbehave(a, folder.path(), rule);
    let target = KubernetesTarget::connect("prod", &access).unwrap();
    let report = execute_at(&target, &point, &with_definition(space));
    assert!(report.is_complete(), "{report:?}");
    assert_words(a, space, &json!({"both": "old", "old": "old"}));
    // Six answers of a server that is late, and of each resource a trial and a write that count.
    assert_eq!(writes.load(Ordering::Relaxed), 10);
}

/// The server takes an object and leaves out what its definition does not have, without a word.
#[test]
fn what_the_target_leaves_out_is_told() {
    let Some((a, _)) = clusters() else { return };
    let space = "narrowed";
    let point = capture(a, space, &FIELDS);
    define(a, space, &["both"], "old");
    a.kubectl(&["-n", space, "delete", &kind(space), "gone"], "");
    let narrow = request(space);
    let why = "spec.new, spec.old: its definition or its version does not know or support them, or \
               something there takes them away";
    let names = ["gone", "there"].map(|name| format!("{}/{space}/{name}", kind(space)));
    let plan = plan(a, &point, &narrow);
    let told: Vec<(Severity, &str, &str)> = plan
        .findings
        .iter()
        .map(|f| (f.severity, f.subject.as_str(), f.message.as_str()))
        .collect();
    let expected = format!("the target would leave out {why}");
    let warned = |name| (Severity::Warning, name, expected.as_str());
    assert_eq!(told, [warned(names[0].as_str()), warned(&names[1])]);
    let report = execute(a, &point, &narrow);
    let failed: Vec<(&str, &str)> = report
        .steps
        .iter()
        .filter_map(|outcome| Some((outcome.step.name.as_str(), outcome.error.as_deref()?)))
        .collect();
    let expected = format!("it is there, but the target left out {why}");
    assert_eq!(
        failed,
        [
            (names[0].as_str(), expected.as_str()),
            (&names[1], &expected)
        ]
    );
    assert_eq!(spec(a, space, "gone"), json!({"both": "old"}));

    // With the definition that it was made by it comes back whole.
    let report = execute(a, &point, &with_definition(space));
    assert!(report.is_complete(), "{report:?}");
    assert_words(
        a,
        space,
        &json!({"both": "old", "new": "old", "old": "old"}),
    );
}
