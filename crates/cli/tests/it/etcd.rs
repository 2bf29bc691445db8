//! etcd through the command line: with a server of its own, and under a real API server.

use std::fs;
use std::path::Path;

use refloat_testkit::etcd::{Server, Start, debian};
use serde_json::Value;

use crate::cli_env::CliEnv;
use crate::control_plane::ControlPlane;

/// Debian's etcd with its data in `folder`, at `ports` if they are given.
fn start(folder: &Path, ports: Option<(u16, u16)>) -> Option<Server> {
    let programs = debian()?;
    let mut start = Start::new(&programs, "only", folder);
    if let Some(ports) = ports {
        (start.client_port, start.peer_port) = ports;
    }
    Some(start.run())
}

#[test]
fn keys_of_a_snapshot_are_listed_shown_and_restored() {
    let env = CliEnv::with_repository();
    let Some(etcd) = start(&env.path("etcd"), None) else {
        return;
    };
    let map =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"green"}}"#;
    let secret =
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"p":"aHVudGVy"}}"#;
    etcd.ctl(&["put", "/registry/configmaps/shop/a", map]);
    etcd.ctl(&["put", "/registry/secrets/shop/s", secret]);
    etcd.ctl(&[
        "put",
        "/registry/secrets/shop/e",
        "k8s:enc:aescbc:v1:key1:xyz",
    ]);
    env.write("kubernetes/pki/ca.key", "private");
    let source = format!("prod=etcd:{}", etcd.client);
    let control_plane = env.path("kubernetes").display().to_string();
    let args = ["backup", "--source", &source, "--control-plane"];
    let report = env.json(&[&args[..], &[&control_plane]].concat());
    let text = report.to_string();
    assert!(text.contains("1 of 1 members have the hash"), "{text}");
    assert!(
        text.contains("pki/sa.key"),
        "what is missing is named: {text}"
    );

    let snapshot = "latest:/etcd/prod/snapshot.db";
    assert_eq!(
        env.succeed(&["ls", snapshot]),
        "/etcd/prod/snapshot.db/registry/\n"
    );
    let below = format!("{snapshot}/registry");
    assert_eq!(
        env.succeed(&["ls", "-R", &below]),
        "/etcd/prod/snapshot.db/registry/configmaps/shop/a\n\
         /etcd/prod/snapshot.db/registry/secrets/shop/e\n\
         /etcd/prod/snapshot.db/registry/secrets/shop/s\n"
    );
    let listed = env.json(&["ls", &format!("{below}/secrets/shop")]);
    assert_eq!(listed["keys"][0]["holds"], "encrypted aescbc:v1:key1");
    assert_eq!(listed["keys"][1]["holds"], "json v1 Secret");

    let shown = env.succeed(&["cat", &format!("{below}/configmaps/shop/a")]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["data"]["k"], "green");
    let path = format!("{below}/secrets/shop/s");
    assert!(!env.run(&["cat", &path]).contains("aHVudGVy"));
    assert!(
        env.succeed(&["cat", "--reveal", &path])
            .contains("aHVudGVy")
    );
    let encrypted = env.run(&["cat", &format!("{below}/secrets/shop/e")]);
    assert!(
        encrypted.contains("is encrypted (aescbc:v1:key1)"),
        "{encrypted}"
    );
    let missing = env.run(&["cat", &format!("{below}/secrets/shop/nobody")]);
    assert!(
        missing.contains("holds no /registry/secrets/shop/nobody"),
        "{missing}"
    );

    env.succeed(&["restore", &format!("{below}/secrets"), "--target", "out"]);
    assert_eq!(
        fs::read_to_string(env.path("out/secrets/shop/s.json")).unwrap(),
        secret
    );
    assert!(env.path("out/secrets/shop/e.encrypted").exists());
    // The host's files are in the point, and masked like all keys.
    let key = format!("latest:/etcd/prod/host{control_plane}/pki/ca.key");
    assert!(!env.run(&["cat", &key]).contains("private"));
    assert!(env.run(&["cat", "--reveal", &key]).contains("private"));
}

#[test]
fn a_snapshot_becomes_a_data_folder_with_a_runbook() {
    let env = CliEnv::with_repository();
    let Some(etcd) = start(&env.path("etcd"), None) else {
        return;
    };
    etcd.ctl(&["put", "/registry/a", "1"]);
    let source = format!("prod=etcd:{}", etcd.client);
    env.succeed(&["backup", "--source", &source]);
    let ports = etcd.ports();
    drop(etcd);
    let plan = env.json(&["restore", "latest", "--to", "etcd:new", "--dry-run"]);
    assert_eq!(plan["plan"]["steps"][0]["action"], "create");
    assert!(!env.path("new").exists());
    let said = env.succeed(&["restore", "latest", "--to", "etcd:new"]);
    assert!(said.contains("1 keys read back and equal"), "{said}");
    assert!(said.contains("revision 2 became 1000000002"), "{said}");
    assert!(said.contains("\nnow:\n  1. "), "{said}");
    // A second time there is something.
    assert_eq!(env.code(&["restore", "latest", "--to", "etcd:new"]), 1);
    let etcd = start(&env.path("new"), Some(ports)).unwrap();
    let read = etcd.ctl(&["get", "/registry/a", "--print-value-only"]);
    assert_eq!(read, "1\n");
    for (arguments, expected) in [
        (
            vec!["--to", "etcd:"],
            "etcd is restored into new data folders",
        ),
        (
            vec!["--to", "etcd:x", "--etcd-member", "nonsense"],
            "is no member: write NAME=URL",
        ),
        (
            vec![
                "--to",
                "etcd:x",
                "--etcd-member",
                "a=http://h:1",
                "--etcd-name",
                "b",
            ],
            "no member is called \"b\"",
        ),
        (vec!["--to", "etcd:x", "--only", "nobody"], "no etcd called"),
    ] {
        let said = env.run(&[&["restore", "latest"], arguments.as_slice()].concat());
        assert!(said.contains(expected), "{said}");
        assert!(!env.path("x").exists());
    }
}

#[test]
fn etcd_is_lost_and_back_and_a_real_api_server_serves_from_it() {
    let Some(mut cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    for n in 0..20 {
        let literal = format!("--from-literal=n={n}");
        cluster.kubectl(&["create", "configmap", &format!("c{n}"), &literal]);
    }
    cluster.kubectl(&["create", "secret", "generic", "s", "--from-literal=p=word"]);
    let before = cluster.objects();
    let client = format!("http://127.0.0.1:{}", cluster.port + 1);
    env.succeed(&["backup", "--source", &format!("prod=etcd:{client}")]);

    // Straight out of the snapshot, from the API server's protobuf.
    let below = "latest:/etcd/prod/snapshot.db/registry";
    let shown = env.succeed(&["cat", &format!("{below}/configmaps/default/c7")]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["kind"], "ConfigMap");
    assert_eq!(shown["metadata"]["namespace"], "default");
    assert_eq!(shown["data"]["n"], "7");
    let masked = env.run(&["cat", &format!("{below}/secrets/default/s")]);
    assert!(
        masked.contains("***") && !masked.contains("d29yZA=="),
        "{masked}"
    );
    let revealed = env.succeed(&["cat", "--reveal", &format!("{below}/secrets/default/s")]);
    assert!(revealed.contains("d29yZA=="), "{revealed}");

    // Changes after the backup: clients saw revisions that will be gone.
    for n in 0..30 {
        cluster.kubectl(&["create", "configmap", &format!("later{n}")]);
    }
    let seen = cluster.version();
    cluster.script("kubernetes-down", &["--keep"]);
    let data = cluster.folder.join(&cluster.name).join("etcd");
    fs::remove_dir_all(&data).unwrap();

    let to = format!("etcd:{}", data.display());
    let said = env.succeed(&["restore", "latest", "--to", &to]);
    assert!(said.contains("keys read back and equal"), "{said}");
    cluster.up();
    assert_eq!(cluster.objects(), before);
    // An informer that goes on where it was is told to list again.
    let told = cluster.watch(&seen);
    assert!(told.contains("too old resource version"), "{told}");
    // And a watch from now on sees what happens.
    let now = cluster.version();
    assert!(now.parse::<u64>().unwrap() > seen.parse().unwrap());
    cluster.kubectl(&["create", "configmap", "new"]);
    let told = cluster.watch(&now);
    assert!(
        told.contains("\"ADDED\"") && told.contains("\"name\":\"new\""),
        "{told}"
    );
    cluster.kubectl(&["delete", "configmap", "c3"]);
    cluster.kubectl(&["label", "configmap", "c4", "x=y"]);
    // The next backup compares and works as before.
    env.succeed(&["backup", "--source", &format!("prod=etcd:{client}")]);
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_and_is_told_nowhere() {
    let env = CliEnv::with_repository();
    let Some(etcd) = start(&env.path("etcd"), None) else {
        return;
    };
    etcd.ctl(&["put", "/registry/a", "1"]);
    etcd.ctl(&["user", "add", "root:hunter2"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let source = format!("prod=etcd:{}", etcd.client);
    let backup = ["backup", "--source", &source];
    let refused = env.run(&backup);
    assert!(refused.contains("exit code: 3"), "{refused}");
    assert!(refused.contains("--etcd-user"), "{refused}");
    let as_root = [&backup[..], &["--etcd-user", "root"]].concat();
    let mut command = env.command(&as_root);
    let output = command
        .env("REFLOAT_ETCD_PASSWORD", "hunter2")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    for (password, code) in [("hunter2", 0), ("another", 1)] {
        env.write("password", &format!("{password}\n"));
        let said = env.run(&[&as_root[..], &["--etcd-password-file", "password"]].concat());
        assert!(said.starts_with(&format!("exit code: {code}")), "{said}");
        assert!(!said.contains(password), "{said}");
    }
    env.write("password", "hunter2\n");
    let config = format!(
        "repository: {{url: ./repo}}\nsources:\n  prod: {{etcd: {{endpoints: [{}], auth: {{user: \
         root, password: {{file: password}}}}}}}}\npolicies:\n  one: {{select: [{{source: prod}}]}}\n",
        etcd.client
    );
    env.write("refloat.yaml", &config);
    env.succeed(&["backup", "-c", "refloat.yaml"]);
}
