//! Images that a cluster runs, joined by digest with image stores, registries and recovery points.
//!
//! Skipped, saying so, without the Kubernetes test bed or an engine.

use refloat_testkit::docker::{Engine, EngineOptions};
use refloat_testkit::kubernetes::{Cluster, Level, start};
use refloat_testkit::registry::images::{Image, Remote, image, noise};
use refloat_testkit::registry::server::Server;
use serde_json::{Value, json};

use crate::cli_env::CliEnv;

/// A pod that a node says to run this image.
fn pod(cluster: &Cluster, name: &str, image: &str, image_id: &str) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": image}]}});
    cluster.apply_server_side(&pod.to_string());
    let mut pod = cluster.get(&["-n", "shop", "pod", name]);
    pod["status"]["containerStatuses"] = json!([{"name": "app", "image": image, "imageID": image_id,
        "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}}}]);
    let path = format!("/api/v1/namespaces/shop/pods/{name}/status");
    cluster.kubectl(&["replace", "--raw", &path, "-f", "-"], &pod.to_string());
}

/// What the closure of the last point says of the image that begins so.
fn reference(report: &Value, image: &str) -> Value {
    let closure = report["points"][0]["closure"].as_array().unwrap();
    let mut references = closure
        .iter()
        .filter(|c| c["workload"] == "shop")
        .flat_map(|c| c["references"].as_array().unwrap());
    let found =
        references.find(|r| r["kind"] == "image" && r["name"].as_str().unwrap().starts_with(image));
    found
        .unwrap_or_else(|| panic!("{image}: {report:#}"))
        .clone()
}

fn coverage<'a>(report: &'a Value, image: &str) -> &'a Value {
    let images = report["images"].as_array().unwrap();
    let mut found = images
        .iter()
        .filter(|i| i["reference"].as_str() == Some(image));
    found
        .next()
        .unwrap_or_else(|| panic!("{image}: {report:#}"))
}

struct Names {
    pulled: String,
    moved: String,
    local: String,
    nowhere: String,
    mirrored: String,
}

fn fill(cluster: &Cluster, registry: &Server, local_id: &str) -> (Names, Image) {
    let remote = Remote::new(&registry.host());
    let (first, second) = (
        image("amd64", &[noise(1, 900)]),
        image("amd64", &[noise(2, 900)]),
    );
    remote.push("team/app", "1", &first);
    remote.push("team/web", "1", &first);
    // The tag goes on to something else; the digest stays.
    remote.push("team/web", "1", &second);
    remote.push("hub/nginx", "1.25", &second);
    let host = registry.host();
    let names = Names {
        pulled: format!("{host}/team/app:1"),
        moved: format!("{host}/team/web:1"),
        local: "local/tool:1".to_owned(),
        nowhere: "elsewhere.example/gone:3".to_owned(),
        mirrored: "nginx:1.25".to_owned(),
    };
    cluster.kubectl(&["create", "namespace", "shop"], "");
    cluster.apply_server_side(
        r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}"#,
    );
    let at = |repository: &str, image: &Image| format!("{repository}@{}", image.manifest.digest);
    pod(
        cluster,
        "a",
        &names.pulled,
        &at(&format!("{host}/team/app"), &first),
    );
    pod(
        cluster,
        "b",
        &names.moved,
        &at(&format!("{host}/team/web"), &first),
    );
    pod(cluster, "c", &names.local, local_id);
    let gone = format!("elsewhere.example/gone@sha256:{}", "ab".repeat(32));
    pod(cluster, "d", &names.nowhere, &gone);
    pod(
        cluster,
        "e",
        &names.mirrored,
        &at("docker.io/library/nginx", &second),
    );
    (names, first)
}

#[test]
fn what_a_cluster_runs_is_found_by_digest_wherever_it_is() {
    let Some(cluster) = start(Level::Controllers) else {
        return;
    };
    let (Some(engine), Some(registry)) =
        (Engine::start(&EngineOptions::default()), Server::start())
    else {
        return;
    };
    let id = engine.import_busybox("local/other-name:9");
    let (names, first) = fill(&cluster, &registry, &id);
    let env = CliEnv::with_repository();
    let configure = |hub: &str, web: &str| {
        let config = format!(
            "sources:\n  prod: {{kubernetes: {{kubeconfig: \"{}\", namespaces: {{names: [shop]}}}}}}\n  hub: \
             {{registry: {{url: \"{}\"{hub}}}}}\n  web: {{docker: {{host: \"{}\", images: {web}}}}}\n\
             policies:\n  all: {{select: [{{source: prod}}, {{source: hub}}, {{source: web}}]}}\n",
            cluster.kubeconfig.display(),
            registry.address::<String>(),
            engine.address(),
        );
        env.write("refloat.yaml", &config);
    };
    configure("", "in-use");
    let report = env.json(&["backup"]);
    assert!(report["points"][0]["closure"].is_array(), "{report:#}");
    for (image, from) in [
        (&names.pulled, "hub"),
        (&names.moved, "hub"),
        (&names.mirrored, "hub"),
        (&names.local, "web"),
    ] {
        let reference = reference(&report, image);
        assert_eq!(reference["state"], "captured", "{image}: {reference:#}");
        assert_eq!(reference["from"], json!([from]), "{image}: {reference:#}");
    }
    assert_eq!(reference(&report, &names.nowhere)["state"], "missing");
    let digest = reference(&report, &names.moved)["digests"][0].clone();
    assert!(
        digest.as_str().unwrap().ends_with(&first.manifest.digest),
        "{digest}"
    );
    let findings = report["points"][0]["findings"].to_string();
    assert!(findings.contains("the tag moved: 1 of hub"), "{findings}");
    let placed = env.succeed(&["show", "latest", "--placement"]);
    assert!(placed.contains(&first.manifest.digest), "{placed}");

    // The registry loses what the cluster still runs; the point has it.
    Remote::new(&registry.host()).delete_manifest("team/app", &first.manifest.digest);
    Remote::new(&registry.host()).delete_manifest("team/web", &first.manifest.digest);
    configure("", "none");
    let coverage_report = env.json(&["discover"]);
    let lost = coverage(&coverage_report, &names.pulled);
    assert_eq!(lost["places"], json!([]), "{lost:#}");
    assert_eq!(lost["point"]["source"], "hub", "{lost:#}");
    let local = coverage(&coverage_report, &names.local);
    assert!(local["places"][0]["left_out"].is_string(), "{local:#}");
    assert_eq!(local["point"]["source"], "web", "{local:#}");
    assert_eq!(
        coverage(&coverage_report, &names.nowhere)["point"],
        Value::Null
    );
    let shown = env.run(&["discover"]);
    for part in [
        "no source holds it; the point ",
        "no source holds it, and no recovery point has it",
        "NOBODY",
        "no source would save it; the point ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
