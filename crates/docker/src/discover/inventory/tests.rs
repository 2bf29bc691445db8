//! Small estates and what is made of them.

use refloat_model::glob::Glob;
use refloat_model::subject::SubjectKind;
use serde_json::json;

use super::*;
use crate::consistency::{Consistency, DumpMode, Hold};
use crate::definition::{HostDefinition, Object, VolumeDefinition};
use crate::discover::StoredVolume;
use crate::discover::podman::Libpod;
use crate::options::ImageSelection;

fn object(value: serde_json::Value) -> Object {
    match value {
        serde_json::Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn host() -> HostDefinition {
    let info = object(json!({"ID": "E1", "Name": "web1", "DockerRootDir": "/var/lib/docker"}));
    HostDefinition::from_answers(&json!({"Version": "20.10.24"}), info, &json!(null))
}

fn estate() -> Estate {
    Estate {
        host: host(),
        containers: Vec::new(),
        images: BTreeMap::new(),
        volumes: BTreeMap::new(),
        networks: BTreeMap::new(),
        swarm: Vec::new(),
        libpod: Libpod::default(),
        findings: Vec::new(),
    }
}

/// Adds a running container with these volumes (`name:/place`), labels and image.
fn add(estate: &mut Estate, name: &str, image: &str, volumes: &[&str], labels: serde_json::Value) {
    let mounts: Vec<_> = volumes
        .iter()
        .filter_map(|text| text.split_once(':'))
        .map(|(source, place)| {
            let kind = if source.starts_with('/') {
                "bind"
            } else {
                "volume"
            };
            json!({"Type": kind, "Name": source, "Source": source, "Destination": place,
                   "RW": true})
        })
        .collect();
    let inspect = object(json!({
        "Id": format!("{name}-id"), "Name": format!("/{name}"), "Image": format!("sha256:{image}"),
        "State": {"Status": "running", "Running": true}, "Mounts": mounts,
        "Path": image, "Args": [],
        "Config": {"Image": format!("{image}:1"), "Labels": labels},
        "HostConfig": {"LogConfig": {"Type": "loki"}, "Runtime": "runc"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
    }));
    let options = Options::default();
    let container = estate.container(format!("{name}-id"), inspect, &HashMap::new(), &options);
    estate.containers.push(container);
    for (source, _) in volumes.iter().filter_map(|text| text.split_once(':')) {
        if !source.starts_with('/') {
            add_volume(estate, source, "local");
        }
    }
}

fn add_volume(estate: &mut Estate, name: &str, driver: &str) {
    let inspect = object(json!({"Name": name, "Driver": driver, "Scope": "local"}));
    let volume = StoredVolume {
        definition: VolumeDefinition::from_inspect(inspect),
        mountpoint: String::new(),
    };
    estate.volumes.insert(name.to_owned(), volume);
}

fn rules(discovered: &Discovered) -> BTreeMap<String, String> {
    let items = discovered.inventory.items.iter();
    items
        .map(|item| {
            let rule = match &item.skip {
                Some(Outcome::Skipped { rule, .. }) => rule.clone(),
                _ => "saved".to_owned(),
            };
            (item.path.to_string(), rule)
        })
        .collect()
}

fn item<'a>(discovered: &'a Discovered, path: &str) -> &'a Item {
    let items = &discovered.inventory.items;
    let found = items.iter().find(|item| item.path.to_string() == path);
    found.unwrap_or_else(|| panic!("no {path} in {:?}", rules(discovered)))
}

#[test]
fn a_container_that_goes_when_it_stops_is_not_stopped() {
    for (auto_remove, hold, warnings) in [(true, Hold::Pause, 1), (false, Hold::Stop, 0)] {
        let mut estate = estate();
        let inspect = object(json!({
            "Id": "job-id", "Name": "/job", "Image": "sha256:app",
            "State": {"Status": "running", "Running": true},
            "Config": {"Image": "app:1", "Labels": {"refloat.stop": "true"}},
            "HostConfig": {"AutoRemove": auto_remove},
        }));
        let options = Options::default();
        let found = estate.container("job-id".into(), inspect, &HashMap::new(), &options);
        assert_eq!(found.consistency.hold, hold);
        assert_eq!(estate.findings.len(), warnings, "{:?}", estate.findings);
    }
}

#[test]
fn a_label_leaves_a_container_and_its_data_out() {
    let mut estate = estate();
    add(&mut estate, "keep", "app", &["shared:/a"], json!({}));
    add(
        &mut estate,
        "drop",
        "app",
        &["own:/o", "shared:/a", "/srv/x:/x"],
        json!({"refloat.exclude": "true"}),
    );
    let found = inventory("web", &Options::default(), estate);
    let rules = rules(&found);
    assert_eq!(rules["/docker/web/containers/keep.json"], "saved");
    assert_eq!(rules["/docker/web/containers/drop.json"], "excluded");
    assert_eq!(rules["/docker/web/volumes/own"], "excluded");
    assert_eq!(rules["/docker/web/volumes/shared"], "saved");
    assert_eq!(rules["/docker/web/binds/drop/0"], "excluded");
    assert_eq!(item(&found, "/docker/web/volumes/shared").workload, None);
    let names: Vec<_> = found
        .inventory
        .workloads
        .iter()
        .map(|w| w.name.as_str())
        .collect();
    assert_eq!(names, ["keep"]);
}

#[test]
fn a_selection_by_name_takes_what_the_selected_use_and_nothing_else() {
    let mut estate = estate();
    add(&mut estate, "web-1", "app", &["data:/a"], json!({}));
    add(&mut estate, "other", "app", &["rest:/a"], json!({}));
    add_volume(&mut estate, "lonely", "local");
    let options = Options {
        select: vec![Glob::new("web-*").unwrap()],
        ..Options::default()
    };
    let found = inventory("web", &options, estate);
    assert_eq!(
        rules(&found).into_keys().collect::<Vec<_>>(),
        [
            "/docker/web/containers/web-1.json",
            "/docker/web/host.json",
            "/docker/web/rootfs/web-1",
            "/docker/web/volumes/data",
        ]
    );
}

#[test]
fn drivers_and_excluded_binds_are_references_that_nobody_provides() {
    let mut estate = estate();
    add(
        &mut estate,
        "app",
        "app",
        &["vol:/v", "/srv/cache:/c", "/proc:/p"],
        json!({}),
    );
    add_volume(&mut estate, "vol", "rexray");
    let options = Options {
        exclude_binds: vec![Glob::new("/srv/cache").unwrap()],
        ..Options::default()
    };
    let found = inventory("web", &options, estate);
    let requires: Vec<_> = found.inventory.workloads[0]
        .requires
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        requires,
        [
            "image:app:1@sha256:app",
            "volume:vol",
            "bind:/srv/cache",
            "container:app",
            "driver:log/loki",
        ]
    );
    let volume = item(&found, "/docker/web/volumes/vol");
    assert_eq!(
        volume.requires,
        [Reference::new("web", SubjectKind::Driver, "volume/rexray")]
    );
    assert_eq!(
        volume.risks,
        ["volume driver \"rexray\" is not part of the recovery point"]
    );
}

#[test]
fn binds_of_one_host_path_are_captured_once() {
    let mut estate = estate();
    add(&mut estate, "one", "app", &["/srv/data:/d"], json!({}));
    add(&mut estate, "two", "app", &["/srv/data:/other"], json!({}));
    let found = inventory("web", &Options::default(), estate);
    let rules = rules(&found);
    assert_eq!(rules["/docker/web/binds/one/0"], "saved");
    assert_eq!(rules["/docker/web/binds/two/0"], "shared-bind");
    for container in &found.estate.containers {
        let path = found.data_path(&container.definition.mounts[0]);
        assert_eq!(path.unwrap().to_string(), "/docker/web/binds/one/0");
    }
}

#[test]
fn a_live_database_without_dump_or_hold_is_a_risk() {
    let risks = |consistency: Consistency| {
        let mut estate = estate();
        add(
            &mut estate,
            "db",
            "postgres",
            &["pg:/var/lib/postgresql/data"],
            json!({}),
        );
        estate.containers[0].consistency = consistency;
        let found = inventory("web", &Options::default(), estate);
        item(&found, "/docker/web/volumes/pg").risks.clone()
    };
    assert_eq!(risks(Consistency::default()), [""; 0]);
    assert_eq!(
        risks(Consistency {
            dump: DumpMode::None,
            ..Consistency::default()
        }),
        ["PostgreSQL writes to it and is neither dumped nor held: crash-consistent only"]
    );
}

#[test]
fn a_container_and_a_project_of_one_name_stay_apart() {
    let mut estate = estate();
    add(&mut estate, "shop", "app", &[], json!({}));
    let labels = json!({"com.docker.compose.project": "shop"});
    add(&mut estate, "shop-web-1", "app", &[], labels);
    let found = inventory("web", &Options::default(), estate);
    let names: Vec<_> = found
        .inventory
        .workloads
        .iter()
        .map(|w| (w.name.as_str(), w.kind.as_str()))
        .collect();
    assert_eq!(
        names,
        [("container/shop", "container"), ("shop", "compose project")]
    );
    assert_eq!(found.members("shop").count(), 1);
}

#[test]
fn images_follow_the_selection() {
    let image = |id: &str, tags: &[&str]| {
        let inspect = json!({"Id": format!("sha256:{id}"), "RepoTags": tags, "Size": 5,
                             "RootFS": {"Layers": ["sha256:l"]}});
        crate::definition::ImageDefinition::from_inspect(object(inspect))
    };
    let rules = |selection| {
        let mut estate = estate();
        add(&mut estate, "one", "app", &[], json!({}));
        for image in [
            image("app", &["app:1"]),
            image("idle", &["idle:1"]),
            image("loose", &[]),
        ] {
            estate.images.insert(image.id.clone(), image);
        }
        let options = Options {
            images: selection,
            ..Options::default()
        };
        let found = inventory("web", &options, estate);
        let mut rules = rules(&found);
        rules.retain(|path, _| path.starts_with("/images"));
        rules.into_values().collect::<Vec<_>>()
    };
    // In order of paths: loose (`_untagged`), app, idle.
    assert_eq!(
        rules(ImageSelection::InUse),
        ["not-in-use", "saved", "not-in-use"]
    );
    assert_eq!(rules(ImageSelection::All), ["dangling", "saved", "saved"]);
    assert_eq!(rules(ImageSelection::None), ["not-selected"; 3]);
}

fn needs(discovered: &Discovered, path: &str) -> Vec<String> {
    let requires = &item(discovered, path).requires;
    let data = [SubjectKind::Bind, SubjectKind::Volume];
    let requires = requires.iter().filter(|s| data.contains(&s.kind));
    let mut needs: Vec<String> = requires.map(ToString::to_string).collect();
    needs.sort();
    needs
}

#[test]
fn large_trees_that_may_hold_data_are_missed_until_they_are_waived() {
    let mut estate = estate();
    let binds = [
        "/home:/h",
        "/:/host",
        "/etc/localtime:/etc/localtime",
        "/etc/ssl/certs/site.pem:/site.pem",
        "/var/lib/docker/volumes:/v",
    ];
    add(&mut estate, "files", "app", &binds, json!({}));
    let found = inventory("web", &Options::default(), estate);
    assert_eq!(
        needs(&found, "/docker/web/containers/files.json"),
        ["bind:/", "bind:/etc/ssl/certs/site.pem", "bind:/home"]
    );
    let rules = rules(&found);
    assert_eq!(rules["/docker/web/binds/files/3"], "saved");
    assert_eq!(item(&found, "/docker/web/binds/files/3").provides.len(), 1);
}

#[test]
fn what_a_service_mounts_on_other_nodes_is_missed() {
    let mut estate = estate();
    add_volume(&mut estate, "here", "local");
    let service = json!({"kind": "service", "name": "db", "spec": {"TaskTemplate": {
    "ContainerSpec": {"Image": "db:1", "Mounts": [
        {"Type": "volume", "Source": "here", "Target": "/a"},
        {"Type": "volume", "Source": "elsewhere", "Target": "/b"},
        {"Type": "bind", "Source": "/srv/data", "Target": "/c"},
        {"Type": "bind", "Source": "/", "Target": "/host", "ReadOnly": true},
        {"Type": "volume", "Target": "/scratch"},
    ]}}}});
    estate.swarm.push(serde_json::from_value(service).unwrap());
    let found = inventory("web", &Options::default(), estate);
    assert_eq!(
        needs(&found, "/docker/web/swarm/services/db.json"),
        ["bind:/srv/data", "volume:elsewhere", "volume:here"]
    );
}

/// `docker compose up` of one service with another file writes that into its container alone.
#[test]
fn a_project_has_the_files_of_all_its_services() {
    let folder = tempfile::tempdir().unwrap();
    let mut estate = estate();
    for (name, file) in [("api", "compose.yml"), ("prometheus", "monitoring.yml")] {
        let file = folder.path().join(file);
        std::fs::write(&file, "services: {}").unwrap();
        let labels = json!({"com.docker.compose.project": "shop",
            "com.docker.compose.service": name,
            "com.docker.compose.project.working_dir": folder.path(),
            "com.docker.compose.project.config_files": file});
        add(&mut estate, name, "app", &[], labels);
    }
    let (project, findings) = crate::discover::project_definition("shop", &estate, true);
    let files: Vec<&str> = project
        .files
        .iter()
        .map(|file| file.stored.as_str())
        .collect();
    assert_eq!(files, ["compose.yml", "monitoring.yml"]);
    assert_eq!(findings, []);
}
