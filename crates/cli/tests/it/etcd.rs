//! etcd through the command line: with a server of its own, and under a real API server.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli_env::CliEnv;
use crate::control_plane::ControlPlane;

/// A server, ended with its test.
struct Etcd {
    child: Child,
    client: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    std::array::from_fn(|n| held[n].local_addr().unwrap().port())
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> std::process::Output {
    Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(arguments)
        .output()
        .unwrap()
}

impl Etcd {
    fn start(data: &Path, [client, peer]: [u16; 2]) -> Option<Self> {
        if !Path::new("/usr/bin/etcd").exists() {
            refloat_testkit::skip("etcd is not installed (etcd-server, etcd-client)");
            return None;
        }
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let child = Command::new("/usr/bin/etcd")
            .arg("--data-dir")
            .arg(data)
            .args([
                "--name",
                "only",
                "--initial-cluster",
                &format!("only={peer}"),
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, client };
        let begun = Instant::now();
        while !etcdctl(&this.client, &["get", "x"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(this)
    }

    fn put(&self, key: &str, value: &str) {
        let output = etcdctl(&self.client, &["put", key, value]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn keys_of_a_snapshot_are_listed_shown_and_restored() {
    let env = CliEnv::with_repository();
    let Some(etcd) = Etcd::start(&env.path("etcd"), free_ports()) else {
        return;
    };
    let map =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"green"}}"#;
    let secret =
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"p":"aHVudGVy"}}"#;
    etcd.put("/registry/configmaps/shop/a", map);
    etcd.put("/registry/secrets/shop/s", secret);
    etcd.put("/registry/secrets/shop/e", "k8s:enc:aescbc:v1:key1:xyz");
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
    let ports = free_ports();
    let Some(etcd) = Etcd::start(&env.path("etcd"), ports) else {
        return;
    };
    etcd.put("/registry/a", "1");
    let source = format!("prod=etcd:{}", etcd.client);
    env.succeed(&["backup", "--source", &source]);
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
    let etcd = Etcd::start(&env.path("new"), ports).unwrap();
    let read = etcdctl(&etcd.client, &["get", "/registry/a", "--print-value-only"]);
    assert_eq!(read.stdout, b"1\n");
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
