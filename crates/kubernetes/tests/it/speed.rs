//! Figures for many objects; printed and not judged in the usual size, because machines differ.
//!
//! Invariant: what is timed is also checked.

use std::time::{Duration, Instant};

use refloat_kubernetes::{Client, KubernetesSource, Options};
use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::{Source as _, Target as _};
use refloat_testkit::kubernetes::{Level, start};
use serde::Deserialize;
use serde_json::json;

use crate::bed::{Adapter as _, Cluster, named};
use crate::memory::MemoryPoint;

/// 12,000 go beyond the length of a folder; `REFLOAT_TEST_SECRETS=31000` is velero#6845, and then
/// the times that were promised are held to (`bench/kubernetes`).
const SECRETS: usize = 1_500;
const SECRETS_PROMISED: usize = 31_000;
/// Planning and restoring, together.
const RESTORE_MAX: Duration = Duration::from_secs(60);
/// What a capture may take, in times of lists that are only read.
const CAPTURE_FACTOR: f64 = 2.0;

/// The processor seconds of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Runs something; its wall seconds, and the processor seconds of us, the API server and etcd.
fn timed<T>(cluster: &Cluster, what: &str, work: impl FnOnce() -> T) -> (T, f64) {
    let pids = [
        std::process::id(),
        cluster.pid("kube-apiserver"),
        cluster.pid("etcd"),
    ];
    let (before, started) = (pids.map(cpu_seconds), Instant::now());
    let result = work();
    let wall = started.elapsed().as_secs_f64();
    let after = pids.map(cpu_seconds);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    eprintln!(
        "{what}: {wall:.2} s (processor seconds: refloat {:.1}, kube-apiserver {:.1}, etcd {:.1}; load {})",
        after[0] - before[0],
        after[1] - before[1],
        after[2] - before[2],
        load.split(' ').next().unwrap()
    );
    (result, wall)
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    next: String,
}

/// Reads a list in pages and does nothing with it, over the connection that a capture has.
fn raw_list(client: &Client, path: &str) -> usize {
    let (mut next, mut count) = (String::new(), 0);
    loop {
        let path = format!("{path}?limit=500&continue={next}");
        let bytes = client.raw(&path, &Cancel::default()).unwrap();
        let page: Page = serde_json::from_slice(&bytes).unwrap();
        count += page.items.len();
        next = page.metadata.next;
        if next.is_empty() {
            return count;
        }
    }
}

fn point_of(count: usize) -> MemoryPoint {
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
    MemoryPoint::of_files((0..count).map(secret).chain([space]))
}

#[test]
fn many_secrets_are_captured_planned_and_restored_in_seconds() {
    let Some(cluster) = start(Level::Controllers) else {
        return;
    };
    let given = std::env::var("REFLOAT_TEST_SECRETS").ok();
    let count = given.map_or(SECRETS, |text| text.parse().unwrap());
    let point = point_of(count);
    let request = RestoreRequest {
        only: vec!["many".into()],
        ..RestoreRequest::default()
    };
    let target = cluster.target();
    let (plan, planned) = timed(&cluster, "plan", || target.plan(&point, &request).unwrap());
    let creates = plan
        .steps
        .iter()
        .filter(|s| s.action == Action::Create)
        .count();
    assert_eq!(creates, count + 1, "{:?}", plan.findings);
    let (report, restored) = timed(&cluster, "restore", || {
        let (progress, cancel) = (Silent::default(), Cancel::default());
        target
            .execute(&plan, &point, &request, &progress, &cancel)
            .unwrap()
    });
    assert!(report.is_complete());
    let (again, _) = timed(&cluster, "plan again", || {
        target.plan(&point, &request).unwrap()
    });
    assert!(
        again
            .steps
            .iter()
            .all(|s| matches!(s.action, Action::Reuse | Action::Skip { .. }))
    );
    let slowdown = captured_beside_lists(&cluster, count);
    eprintln!(
        "{count} secrets: planned and restored in {:.1} s, discovered and captured in {slowdown:.2} \
         times the time of lists",
        planned + restored
    );
    if count >= SECRETS_PROMISED {
        assert!(slowdown <= CAPTURE_FACTOR, "{slowdown}");
        assert!(planned + restored < RESTORE_MAX.as_secs_f64());
    }
}

/// Lists, discovers and captures in turns; how many times longer than the lists the captures took, with
/// the look before each. Of all turns together: another process disturbs both.
fn captured_beside_lists(cluster: &Cluster, count: usize) -> f64 {
    let client = Client::connect(&cluster.access()).unwrap();
    let (mut lists, mut captures) = (0.0, 0.0);
    let rounds = if count >= SECRETS_PROMISED { 8 } else { 2 };
    for _ in 0..rounds {
        let (listed, wall) = timed(cluster, "raw lists", || {
            raw_list(&client, "/api/v1/namespaces/many/secrets")
        });
        // The token of the namespace's own service account is not captured.
        assert_eq!(listed, count + 1);
        lists += wall;
        // As `refloat discover` does.
        let mut options = Options::new(cluster.access());
        options.namespaces = vec![named(&["many"])];
        options.kept_bytes_max = 0;
        let source = KubernetesSource::connect("prod", options).unwrap();
        let (_, _) = timed(cluster, "discover only", || {
            source.discover(&Cancel::default()).unwrap()
        });
        let (point, wall) = timed(cluster, "discover and capture", || {
            MemoryPoint::capture(&cluster.source(&["many"]))
        });
        let files = point.files("/kubernetes/prod/resources/core/v1/secrets/many");
        let documents = files.keys().filter(|path| path.ends_with(".yaml"));
        assert_eq!(documents.count(), count);
        captures += wall;
    }
    captures / lists
}
