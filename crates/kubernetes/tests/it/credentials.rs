//! Credential plugins as EKS, AKS and GKE use them, and proxies between us and the API server.
//!
//! Invariant: nothing that a plugin printed or was called with, and no password of a proxy, is in
//! any error.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use refloat_kubernetes::{Access, KubernetesSource, Options};
use refloat_model::cancel::Cancel;
use refloat_source::{Source as _, SourceError};
use serde_json::{Value, json};

use crate::bad_input::token;
use crate::bed::{Cluster, clusters, named, wait_for};

/// What no message may hold.
const SECRET: &str = "hunter2-of-the-plugin";

/// A kubeconfig of the cluster with another user and a proxy.
fn kubeconfig(cluster: &Cluster, folder: &Path, user: &Value, proxy: Option<&str>) -> Access {
    let text = cluster.kubectl(&["config", "view", "--raw", "-o", "json"], "");
    let mut config: Value = serde_json::from_str(&text).unwrap();
    if !user.is_null() {
        config["users"][0]["user"] = user.clone();
    }
    if let Some(proxy) = proxy {
        config["clusters"][0]["cluster"]["proxy-url"] = proxy.into();
    }
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    Access::Kubeconfig {
        files: vec![path],
        context: None,
    }
}

/// A credential plugin: a shell script. It counts its calls in a file.
fn plugin(folder: &Path, script: &str) -> Value {
    let path = folder.join("plugin");
    let text = format!(
        "#!/bin/sh\necho x >>{}\n{script}\n",
        calls_file(folder).display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": path,
        "args": ["--password", SECRET], "env": [{"name": "PASSWORD", "value": SECRET}],
        "interactiveMode": "Never", "provideClusterInfo": false}})
}

fn calls_file(folder: &Path) -> PathBuf {
    folder.join("calls")
}

fn calls(folder: &Path) -> usize {
    std::fs::read_to_string(calls_file(folder)).map_or(0, |text| text.lines().count())
}

/// Shell that prints an ExecCredential which expires in so many seconds.
fn credential(token: &str, seconds: u32) -> String {
    format!(
        "echo '{{\"apiVersion\": \"client.authentication.k8s.io/v1beta1\", \"kind\": \"ExecCredential\", \
         \"status\": {{\"token\": \"{token}\", \"expirationTimestamp\": \"'$(date -u -d '{seconds} seconds' \
         +%Y-%m-%dT%H:%M:%SZ)'\"}}}}'"
    )
}

fn source(access: Access) -> Result<KubernetesSource, SourceError> {
    let mut options = Options::new(access);
    options.namespaces = vec![named(&["keys"])];
    KubernetesSource::connect("prod", options)
}

/// A service account that may see the namespace's ConfigMaps, and its token.
fn account(cluster: &Cluster) -> String {
    cluster.kubectl(&["create", "namespace", "keys"], "");
    let run = |arguments: &[&str]| cluster.kubectl(&[&["-n", "keys"], arguments].concat(), "");
    run(&["create", "serviceaccount", "reader"]);
    run(&["create", "configmap", "seen"]);
    run(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=configmaps",
    ]);
    run(&[
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        "--serviceaccount=keys:reader",
    ]);
    token(cluster, "keys", "reader")
}

fn sees(source: &KubernetesSource) -> bool {
    let inventory = source.discover(&Cancel::default()).unwrap();
    inventory
        .items
        .iter()
        .any(|i| i.title == "configmaps in keys")
}

/// Everything an error says, causes included, however it is printed.
fn chain(error: &SourceError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[test]
fn a_plugins_token_is_used_and_renewed_before_it_expires() {
    let Some((a, _)) = clusters() else { return };
    let token = account(a);
    let folder = tempfile::tempdir().unwrap();
    // Tokens are renewed a minute before they expire.
    let user = plugin(folder.path(), &credential(&token, 62));
    let source = source(kubeconfig(a, folder.path(), &user, None)).unwrap();
    assert!(sees(&source));
    let first = calls(folder.path());
    wait_for("the plugin is asked again", || {
        assert!(sees(&source));
        calls(folder.path()) > first
    });

    // It fails in the middle: what it prints then is in no message.
    plugin(
        folder.path(),
        &format!("echo {SECRET}; echo {SECRET} >&2; exit 7"),
    );
    let failed = std::cell::RefCell::new(String::new());
    wait_for("the plugin fails", || {
        match source.discover(&Cancel::default()) {
            Ok(_) => false,
            Err(error) => {
                *failed.borrow_mut() = chain(&error);
                true
            }
        }
    });
    let text = failed.into_inner();
    assert!(
        text.contains("credential plugin") && text.contains("exit status: 7"),
        "{text}"
    );
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn a_token_that_is_refused_early_is_asked_for_again() {
    let Some((a, _)) = clusters() else { return };
    let token = account(a);
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (credential(&token, 3_600), credential("revoked", 3_600));
    let user = plugin(folder.path(), &bad);
    let source = source(kubeconfig(a, folder.path(), &user, None)).unwrap();
    let once = calls(folder.path());
    plugin(folder.path(), &good);
    assert!(sees(&source));
    // Many requests were under way at once; one of them got the connection anew.
    assert_eq!(calls(folder.path()), 2 * once);

    // Who gives bad tokens only is asked once more by each request, and that is the end.
    plugin(folder.path(), &bad);
    let refused = self::source(kubeconfig(
        a,
        folder.path(),
        &plugin(folder.path(), &bad),
        None,
    ))
    .unwrap();
    let error = refused.discover(&Cancel::default()).unwrap_err();
    assert!(chain(&error).contains("401"), "{}", chain(&error));
}

#[test]
fn another_current_context_does_not_lead_to_another_cluster() {
    let Some((a, b)) = clusters() else { return };
    let folder = tempfile::tempdir().unwrap();
    let user = plugin(folder.path(), &credential("revoked", 3_600));
    let source = source(kubeconfig(a, folder.path(), &user, None)).unwrap();
    // Where the same file leads now, everything would be allowed.
    kubeconfig(b, folder.path(), &Value::Null, None);
    let error = source.discover(&Cancel::default()).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("leads to another server by now"), "{text}");
}

#[test]
fn a_plugin_that_gives_nothing_is_named_without_its_secrets() {
    let Some((a, _)) = clusters() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            format!("echo {SECRET}; echo {SECRET} >&2; exit 3"),
            "failed (exit status: 3)",
        ),
        (format!("echo {SECRET}"), "gave no usable credentials"),
        (
            format!("echo '{{\"status\": {{\"token\": [\"{SECRET}\"]}}}}'"),
            "gave no usable credentials",
        ),
    ];
    for (script, part) in cases {
        let user = plugin(folder.path(), &script);
        let error = source(kubeconfig(a, folder.path(), &user, None))
            .err()
            .unwrap();
        let text = chain(&error);
        assert!(text.contains(part) && text.contains("/plugin"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        let SourceError::Unavailable { hint, .. } = error else {
            panic!("{text}");
        };
        assert!(hint.unwrap().contains("run the plugin by hand"));
    }
    let missing = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "/no/such/program", "args": [SECRET], "interactiveMode": "Never"}});
    let error = source(kubeconfig(a, folder.path(), &missing, None))
        .err()
        .unwrap();
    assert!(chain(&error).contains("\"/no/such/program\" of the kubeconfig cannot be started"));
    assert!(!chain(&error).contains(SECRET));
}

/// A proxy that understands CONNECT; what it was asked, and how often.
struct Tunnel {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    passed: Arc<AtomicU32>,
}

fn tunnel(refuse: bool) -> Tunnel {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tunnel = Tunnel {
        address: listener.local_addr().unwrap().to_string(),
        heads: Arc::default(),
        passed: Arc::default(),
    };
    let (heads, passed) = (Arc::clone(&tunnel.heads), Arc::clone(&tunnel.passed));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (heads, passed) = (Arc::clone(&heads), Arc::clone(&passed));
            std::thread::spawn(move || {
                let mut client = client.unwrap();
                let head = head(&mut client);
                heads.lock().unwrap().push(head.clone());
                if refuse {
                    let _gone =
                        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                    return;
                }
                let address = head.split(' ').nth(1).unwrap();
                let server = TcpStream::connect(address).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                passed.fetch_add(1, Ordering::Relaxed);
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
                let _gone = std::io::copy(&mut &server, &mut client);
            });
        }
    });
    tunnel
}

fn head(client: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_kubeconfigs_proxy_is_used_with_its_password_and_never_shows_it() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "keys"], "");
    a.kubectl(&["-n", "keys", "create", "configmap", "seen"], "");
    let folder = tempfile::tempdir().unwrap();
    let through = tunnel(false);
    let url = format!("http://user:{SECRET}@{}", through.address);
    let access = kubeconfig(a, folder.path(), &Value::Null, Some(&url));
    assert!(sees(&source(access).unwrap()));
    assert!(through.passed.load(Ordering::Relaxed) > 0);
    let heads = through.heads.lock().unwrap().clone();
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with("CONNECT 127.0.0.1:")),
        "{heads:?}"
    );
    assert!(
        heads
            .iter()
            .all(|head| head.to_lowercase().contains("proxy-authorization: basic "))
    );

    let closed = tunnel(true);
    let url = format!("http://user:{SECRET}@{}", closed.address);
    let access = kubeconfig(a, folder.path(), &Value::Null, Some(&url));
    let error = source(access)
        .unwrap()
        .discover(&Cancel::default())
        .unwrap_err();
    assert!(
        chain(&error).contains("connection to the API server failed"),
        "{}",
        chain(&error)
    );
    assert!(!chain(&error).contains(SECRET), "{}", chain(&error));

    let url = format!("gopher://user:{SECRET}@127.0.0.1:1");
    let access = kubeconfig(a, folder.path(), &Value::Null, Some(&url));
    let error = source(access).err().unwrap();
    assert!(
        chain(&error).contains("a proxy of a kind that is not known: \"gopher\""),
        "{}",
        chain(&error)
    );
    assert!(!chain(&error).contains(SECRET), "{}", chain(&error));
}
