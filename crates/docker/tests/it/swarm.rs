//! A swarm manager: services, configs and the names of secrets.

use refloat_docker::Options;
use refloat_docker::definition::{HostDefinition, SwarmObject, from_bytes};

use crate::estate::{IMAGE, capture, connect, discover, engine, item, rule};

#[test]
fn services_configs_and_names_of_secrets_are_captured() {
    let Some(engine) = engine() else { return };
    engine.docker(["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    engine.docker_with_input(["config", "create", "settings", "-"], b"color=blue");
    engine.docker_with_input(["secret", "create", "token", "-"], b"hunter2");
    engine.docker([
        "service",
        "create",
        "--quiet",
        "--no-resolve-image",
        "--name",
        "jobs",
        "--config",
        "settings",
        "--secret",
        "token",
        "--mount",
        "type=volume,source=data-{{.Task.Slot}},target=/data",
        IMAGE,
        "sleep",
        "1000",
    ]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let (tree, _) = capture(&source, &inventory, "/docker/web/swarm/services/jobs.json");
    let service: SwarmObject = from_bytes(&tree.node("jobs.json").content).unwrap();
    let task = &service.spec["TaskTemplate"]["ContainerSpec"];
    assert_eq!(task["Args"], serde_json::json!(["sleep", "1000"]));
    assert_eq!(task["Configs"][0]["ConfigName"], "settings");

    let (tree, _) = capture(
        &source,
        &inventory,
        "/docker/web/swarm/configs/settings.json",
    );
    let config: SwarmObject = from_bytes(&tree.node("settings.json").content).unwrap();
    assert_eq!(config.spec["Data"], "Y29sb3I9Ymx1ZQ==");

    let secret = item(&inventory, "/docker/web/swarm/secrets/token.json");
    assert_eq!(secret.risks, ["the engine does not give its value out"]);
    assert_eq!(secret.provides, []);
    let (tree, _) = capture(&source, &inventory, "/docker/web/swarm/secrets/token.json");
    assert!(!tree.text("token.json").contains("hunter2"));

    let (tree, _) = capture(&source, &inventory, "/docker/web/host.json");
    let host: HostDefinition = from_bytes(&tree.node("host.json").content).unwrap();
    assert!(host.swarm.is_some());
    assert!(!tree.text("host.json").contains("SWMTKN"), "no join token");

    let task = inventory
        .items
        .iter()
        .find(|item| item.title.starts_with("jobs.1."));
    assert_eq!(rule(task.unwrap()), "swarm-task");
    let value = item(&inventory, "/docker/web/swarm/secret-values/token");
    assert_eq!(rule(value), "not-given-out");
    let jobs = item(&inventory, "/docker/web/swarm/services/jobs.json");
    let needs: Vec<String> = jobs.requires.iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["config:settings", "secret:token"]);
    assert_eq!(
        value.provides[0], jobs.requires[1],
        "missing until it is waived"
    );
    let [workload] = inventory.workloads.as_slice() else {
        panic!("{:?}", inventory.workloads)
    };
    assert_eq!(
        (workload.name.as_str(), workload.kind.as_str()),
        ("jobs", "swarm service")
    );
}
