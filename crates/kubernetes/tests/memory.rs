//! Memory of capturing very many objects.
//!
//! One test in a process of its own: what is measured is the peak of its anonymous memory, which a
//! thread watches; a thing that holds every object would be seen for seconds. The objects are put
//! straight into etcd, as a server stores what it was sent as JSON, because making 100,000 of them
//! by requests takes minutes. `REFLOAT_TEST_OBJECTS=100000` is the promise (256 MiB).
//!
//! Invariant: memory follows pages and names, not what objects hold.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use refloat_kubernetes::{Access, KubernetesSource, Namespaces, Options};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_model::glob::Glob;
use refloat_source::Source as _;
use refloat_testkit::kubernetes::{Cluster, Level, start};
use serde_json::{Value, json};

const OBJECTS_USUAL: usize = 10_000;
const LIMIT_MIB: u64 = 256;
/// How many objects go into one transaction; etcd takes 128.
const PUTS: usize = 128;
/// How long an object's value is.
const VALUE_BYTES: usize = 2_000;

/// Anonymous memory of this process, in KiB.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Runs something and gives the most anonymous memory, in MiB, that was seen meanwhile.
fn watched<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(anonymous_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap();
        result
    });
    (result, most.load(Ordering::Relaxed) >> 10)
}

/// One call of etcd's JSON gateway.
fn etcd(port: u16, path: &str, body: &Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, n| {
            (bits << 8) | usize::from(*chunk.get(n).unwrap_or(&0))
        });
        for n in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * n)) & 63];
            out.push(if n > chunk.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    out
}

fn fill(cluster: &Cluster, count: usize) {
    cluster.kubectl(&["create", "namespace", "very-many"], "");
    let port = cluster.port() + 1;
    let numbers: Vec<usize> = (0..count).collect();
    for part in numbers.chunks(PUTS) {
        let puts: Vec<Value> = part.iter().map(|n| put(*n)).collect();
        etcd(port, "/v3/kv/txn", &json!({"success": puts}));
    }
}

/// Hexadecimal digits that look random: they become half as long and no shorter, so that of very many
/// objects not all are kept.
fn digits(n: usize) -> String {
    let mut state = n as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    };
    (0..VALUE_BYTES / 8)
        .map(|_| format!("{:08x}", next()))
        .collect()
}

fn put(n: usize) -> Value {
    let name = format!("object-{n:06}");
    let value = digits(n);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": value, "n": n.to_string()},
        "metadata": {"name": name, "namespace": "very-many", "uid": format!("00000000-0000-0000-0000-{n:012}"),
                     "creationTimestamp": "2026-11-25T10:00:00Z"}});
    let key = format!("/registry/configmaps/very-many/{name}");
    json!({"requestPut": {"key": base64(&key), "value": base64(&object.to_string())}})
}

/// Takes everything and keeps nothing but how much it was.
#[derive(Default)]
struct Drain {
    files: usize,
    bytes: u64,
    failures: Vec<String>,
}

impl TreeSink for Drain {
    fn enter(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let mut reader = content.open().unwrap();
        self.stream(file, &mut reader)
    }

    fn stream(&mut self, _: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        self.files += 1;
        self.bytes += std::io::copy(content, &mut std::io::sink()).unwrap();
        Ok(())
    }

    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
        panic!("objects are files");
    }

    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }

    fn fail(&mut self, _: &[u8], reason: String) {
        self.failures.push(reason);
    }
}

fn capture(source: &KubernetesSource) -> Drain {
    let cancel = Cancel::default();
    let inventory = source.discover(&cancel).unwrap();
    let mut drain = Drain::default();
    for item in inventory.items.iter().filter(|item| item.skip.is_none()) {
        let captured = source.capture(item, &mut drain, &cancel).unwrap();
        assert_eq!(captured.findings, [], "{}", item.title);
    }
    drain
}

#[test]
fn very_many_objects_are_captured_within_the_limit() {
    let Some(cluster) = start(Level::Controllers) else {
        return;
    };
    let given = std::env::var("REFLOAT_TEST_OBJECTS").ok();
    let count = given.map_or(OBJECTS_USUAL, |text| text.parse().unwrap());
    fill(&cluster, count);
    let mut options = Options::new(Access::Kubeconfig {
        files: vec![cluster.kubeconfig.clone()],
        context: None,
    });
    options.namespaces = vec![Namespaces {
        names: vec![Glob::new("very-many").unwrap()],
        ..Namespaces::default()
    }];
    let source = KubernetesSource::connect("prod", options).unwrap();
    let started = std::time::Instant::now();
    let before = anonymous_kib() >> 10;
    let (drain, most) = watched(|| capture(&source));
    eprintln!(
        "{count} objects, {} MiB in {} files: {:.1} s, {most} MiB of anonymous memory ({before} before)",
        drain.bytes >> 20,
        drain.files,
        started.elapsed().as_secs_f64()
    );
    assert!(drain.files > count, "{}", drain.files);
    assert!(drain.bytes > (count * VALUE_BYTES) as u64);
    assert_eq!(drain.failures, [""; 0]);
    // What holds 10,000 whole objects holds tens of MiB more than what holds a few pages.
    let limit = if count > OBJECTS_USUAL { LIMIT_MIB } else { 96 };
    assert!(most < limit, "{most} MiB, more than {limit}");
}
