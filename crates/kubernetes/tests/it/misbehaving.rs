//! A server that misbehaves in the middle, by a proxy before the real one.
//!
//! Invariant: whatever it does, what is not captured is named, and the rest is captured.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use refloat_kubernetes::{Access, ClusterWide, KubernetesSource, Options};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_source::Source as _;
use refloat_testkit::kubernetes::{PlainWay, plain_kubeconfig};

use crate::bed::{Cluster, clusters, globs, named};
use crate::memory::MemorySink;

/// What the proxy answers to a request line instead of the server; none to pass it on.
pub(crate) type Rule = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A plain way to the server, and what goes wrong on it.
pub(crate) fn misbehave(cluster: &Cluster, folder: &Path, rule: Arc<Rule>) -> (Access, PlainWay) {
    let way = cluster.plain_way();
    let upstream = format!("127.0.0.1:{}", way.port);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (rule, upstream) = (Arc::clone(&rule), upstream.clone());
            std::thread::spawn(move || pass(&client.unwrap(), &upstream, rule.as_ref()));
        }
    });
    let path = folder.join("misbehaving");
    std::fs::write(&path, plain_kubeconfig(address.port())).unwrap();
    let access = Access::Kubeconfig {
        files: vec![path],
        context: None,
    };
    (access, way)
}

/// One request on a connection of its own.
fn pass(client: &TcpStream, upstream: &str, rule: &Rule) {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut client = client;
    if let Some(answer) = rule(head.lines().next().unwrap_or_default()) {
        let _gone = client.write_all(answer.as_bytes());
        return;
    }
    let mut server = TcpStream::connect(upstream).unwrap();
    write!(server, "{head}Connection: close\r\n\r\n").unwrap();
    server.write_all(&body).unwrap();
    let _gone = std::io::copy(&mut server, &mut client);
}

pub(crate) fn status(code: u16, reason: &str, extra: &str) -> String {
    let body = format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"{reason}\",\
         \"message\":\"{reason}\",\"code\":{code}}}"
    );
    answer(code, &body, extra)
}

pub(crate) fn answer(code: u16, body: &str, extra: &str) -> String {
    format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nConnection: close\r\n{extra}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Errors of discovery, files by item, gaps.
type Captured = (Vec<String>, Vec<(String, u64)>, Vec<(String, String)>);

/// Whether captures use what the look has read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Keeps,
    Forgets,
}

/// What a capture of the namespace gives.
fn capture(access: Access, look: Look) -> Captured {
    let mut options = Options::new(access);
    if look == Look::Forgets {
        options.kept_bytes_max = 0;
    }
    options.namespaces = vec![named(&["bumpy"])];
    options.cluster_wide = ClusterWide::None;
    options.kinds = globs(&["configmaps", "serviceaccounts"]);
    let source = KubernetesSource::connect("prod", options).unwrap();
    let cancel = Cancel::default();
    let inventory = source.discover(&cancel).unwrap();
    let errors = inventory
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error);
    let errors = errors.map(|f| f.message.clone()).collect();
    let (mut files, mut gaps) = (Vec::new(), Vec::new());
    for item in inventory.items.iter().filter(|item| item.skip.is_none()) {
        let mut sink = MemorySink::default();
        if source.capture(item, &mut sink, &cancel).is_ok() {
            files.push((item.title.clone(), sink.files));
        }
        gaps.append(&mut sink.failures);
    }
    (errors, files, gaps)
}

/// More than one page of objects.
fn bumpy(cluster: &Cluster) {
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: bumpy}}");
    let one = |n: u32| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c-{n:03}, namespace: bumpy}}}}"
        )
    };
    let all: Vec<String> = (0..520).map(one).collect();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: List, items: [{}]}}",
        all.join(", ")
    ));
}

#[test]
fn a_server_that_misbehaves_costs_what_is_named_and_nothing_else() {
    let Some((a, _)) = clusters() else { return };
    bumpy(a);
    let folder = tempfile::tempdir().unwrap();
    let run_with = |look: Look, rule: Arc<Rule>| {
        let (access, _stop) = misbehave(a, folder.path(), rule);
        capture(access, look)
    };
    let run = |rule: Arc<Rule>| run_with(Look::Forgets, rule);
    // 520 objects and what the server says of them; the cluster's own ConfigMap stays out.
    let whole = vec![
        ("configmaps in bumpy".to_owned(), 521),
        ("serviceaccounts in bumpy".to_owned(), 2),
    ];
    assert_eq!(run(Arc::new(|_| None)), (vec![], whole.clone(), vec![]));

    each_list_is_read_once(&run_with, &whole);

    // Too many requests: everything only at the fourth time of asking.
    let asked: Mutex<BTreeMap<String, u32>> = Mutex::default();
    let busy = run(Arc::new(move |line| {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(line.to_owned()).or_default();
        *times += 1;
        let again = status(429, "TooManyRequests", "Retry-After: 0\r\n");
        (!times.is_multiple_of(4)).then_some(again)
    }));
    assert_eq!(busy, (vec![], whole.clone(), vec![]));

    // The token expires between two kinds.
    let expired = run(Arc::new(|line| {
        line.contains("/serviceaccounts")
            .then(|| status(401, "Unauthorized", ""))
    }));
    assert_eq!(
        expired,
        (
            vec![
                "serviceaccounts in bumpy cannot be listed: the server no longer accepts the \
                 credentials"
                    .to_owned()
            ],
            whole[..1].to_vec(),
            vec![]
        )
    );

    // The token expires in the middle of a list, when that is captured: its beginning is kept.
    let count = AtomicU32::new(0);
    let (errors, files, gaps) = run(Arc::new(move |line| {
        let is_second = line.contains("continue=") && count.fetch_add(1, Ordering::Relaxed) > 0;
        is_second.then(|| status(401, "Unauthorized", ""))
    }));
    assert_eq!(errors, [""; 0]);
    assert_eq!(files[0], ("configmaps in bumpy".to_owned(), 501));
    assert!(gaps[0].0.contains("objects after c-499"), "{gaps:?}");
    assert!(gaps[0].1.contains("401"), "{gaps:?}");

    // Objects vanish while they are listed: the list is of one moment, and they are in it.
    let vanished = run(Arc::new(move |line| {
        if line.contains("continue=") {
            let gone = [
                "-n",
                "bumpy",
                "delete",
                "--ignore-not-found",
                "configmap",
                "c-519",
            ];
            a.kubectl(&gone, "");
        }
        None
    }));
    assert_eq!(
        vanished.1,
        [("configmaps in bumpy".to_owned(), 520), whole[1].clone()]
    );
    a.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: c-519, namespace: bumpy}}");

    a_version_that_is_gone_costs_the_rest_of_a_list(&run);
}

fn a_version_that_is_gone_costs_the_rest_of_a_list(run: &dyn Fn(Arc<Rule>) -> Captured) {
    // The list's version is gone, but only when it is captured: its beginning is kept.
    let count = AtomicU32::new(0);
    let (errors, files, gaps) = run(Arc::new(move |line| {
        let is_second = line.contains("continue=") && count.fetch_add(1, Ordering::Relaxed) > 0;
        is_second.then(|| status(410, "Expired", ""))
    }));
    assert_eq!(errors, [""; 0]);
    assert_eq!(files[0], ("configmaps in bumpy".to_owned(), 501));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].1.contains("410"), "{gaps:?}");
}

/// With the token that expires in the middle of a list, and comes back.
fn each_list_is_read_once(run: &dyn Fn(Look, Arc<Rule>) -> Captured, whole: &[(String, u64)]) {
    let asked: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let count = |asked: &Mutex<BTreeMap<String, u32>>, line: &str| {
        let mut asked = asked.lock().unwrap();
        let list = line.split("continue=").next().unwrap();
        if line.contains("/configmaps") || line.contains("/serviceaccounts") {
            *asked.entry(list.to_owned()).or_default() += 1;
        }
        asked.values().sum::<u32>()
    };
    let counted = Arc::clone(&asked);
    let kept = run(
        Look::Keeps,
        Arc::new(move |line| {
            count(&counted, line);
            None
        }),
    );
    assert_eq!(kept, (vec![], whole.to_vec(), vec![]));
    // Two pages and one; nobody asked for them again.
    let times: Vec<u32> = asked.lock().unwrap().values().copied().collect();
    assert_eq!(times, [1, 1, 1], "{asked:?}");

    let pages = AtomicU32::new(0);
    let (errors, files, gaps) = run(
        Look::Keeps,
        Arc::new(move |line| {
            let is_first = line.contains("continue=") && pages.fetch_add(1, Ordering::Relaxed) == 0;
            is_first.then(|| status(401, "Unauthorized", ""))
        }),
    );
    assert_eq!(errors.len(), 1, "{errors:?}");
    // The half that the look has is worth nothing: the capture reads the list again, and whole.
    assert_eq!((files.as_slice(), gaps), (whole, vec![]));
}

#[test]
fn a_list_that_breaks_while_members_are_looked_for_is_an_error() {
    let Some((a, _)) = clusters() else { return };
    a.apply(
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: {name: unsure}},
        {apiVersion: v1, kind: ConfigMap, metadata: {name: web, namespace: unsure,
          labels: {app.kubernetes.io/instance: web}}}]}",
    );
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    let rule: Arc<Rule> = Arc::new(move |line| {
        let is_list = line.contains("/namespaces/unsure/configmaps");
        // Afterwards, when what is to be saved is listed, all is well again.
        (is_list && count.fetch_add(1, Ordering::Relaxed) == 0)
            .then(|| status(403, "Forbidden", ""))
    });
    let (access, _stop) = misbehave(a, folder.path(), rule);
    let mut options = Options::new(access);
    options.namespaces = vec![named(&["unsure"])];
    options.applications = globs(&["unsure/web"]);
    options.kinds = globs(&["configmaps"]);
    let source = KubernetesSource::connect("prod", options).unwrap();
    let found = source.discover(&Cancel::default()).unwrap();
    let told = found.findings.iter().any(|finding| {
        finding.severity == Severity::Error
            && finding.subject == "configmaps"
            && finding.message.contains("may be missing")
    });
    assert!(told, "{:?}", found.findings);
}
