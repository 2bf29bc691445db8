//! Two clusters of the test bed, shared by all tests of this binary.
//!
//! Invariant: they end with this process, however it ends: a shell that waits for our end stops
//! them by the process ids that they recorded.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use refloat_kubernetes::{Access, KubernetesSource, KubernetesTarget, Options, TargetOptions};
use refloat_model::glob::Glob;
use serde_json::Value;

/// Where ports of clusters are looked for: below those that the system gives to clients.
const PORTS: std::ops::Range<u16> = 1_000..3_000;

/// A cluster: API server, etcd and controllers. Pods stay Pending.
pub struct Cluster {
    pub kubeconfig: PathBuf,
    /// Its standard input is held open; when it closes, the shell stops the cluster.
    _guard: Child,
}

/// The clusters `a` and `b`; none, after saying so, without a test bed.
pub fn clusters() -> Option<&'static (Cluster, Cluster)> {
    static CLUSTERS: OnceLock<Option<(Cluster, Cluster)>> = OnceLock::new();
    let clusters = CLUSTERS.get_or_init(|| {
        is_built().then(|| {
            let started = Instant::now();
            // Both before either starts: looking for a port takes it for a moment.
            let ports = [free_port_base(0), free_port_base(1)];
            let pair = std::thread::scope(|scope| {
                let a = scope.spawn(|| Cluster::start("a", ports[0]));
                let b = scope.spawn(|| Cluster::start("b", ports[1]));
                (a.join().unwrap(), b.join().unwrap())
            });
            eprintln!(
                "two clusters up after {:.1} s",
                started.elapsed().as_secs_f32()
            );
            pair
        })
    });
    if clusters.is_none() {
        refloat_testkit::skip(
            "the Kubernetes test bed is not built (scripts/testbed/kubernetes-up)",
        );
    }
    clusters.as_ref()
}

fn cache() -> PathBuf {
    let given = std::env::var_os("K8S_TESTBED_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    given.unwrap_or_else(|| home().join(".cache/k8s-testbed"))
}

/// Where clusters keep their data: in memory if possible, because etcd waits for the disk with
/// every write, and the disk of a machine that builds is busy.
fn clusters_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.join("refloat-testbed")
    } else {
        cache().join("clusters")
    }
}

fn is_built() -> bool {
    cache().join("bin/pause").exists()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts/testbed")
        .join(name)
}

fn free_port_base(skip: usize) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = u16::try_from(std::process::id() % 1_500).unwrap();
    PORTS
        .map(|n| (PORTS.start + (n - PORTS.start + start) % 2_000) * 10)
        .filter(|base| (0..3).all(|n| is_free(base + n)))
        .nth(skip)
        .expect("free ports")
}

impl Cluster {
    fn start(name: &str, port_base: u16) -> Self {
        let name = format!("test-{}-{name}", std::process::id());
        let down = script("kubernetes-down");
        let folder = clusters_folder();
        let guard = Command::new("setsid")
            .env("K8S_TESTBED_CLUSTERS", &folder)
            .args(["sh", "-c", "cat >/dev/null; exec \"$0\" --name \"$1\""])
            .arg(&down)
            .arg(&name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = Command::new(script("kubernetes-up"))
            .env("K8S_TESTBED_CLUSTERS", &folder)
            .args(["controllers", "--name", &name, "--port-base"])
            .arg(port_base.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&up.stdout).into_owned();
        assert!(
            up.status.success(),
            "{}",
            String::from_utf8_lossy(&up.stderr)
        );
        Self {
            kubeconfig: PathBuf::from(text.lines().last().unwrap()),
            _guard: guard,
        }
    }

    pub fn access(&self) -> Access {
        Access::Kubeconfig {
            files: vec![self.kubeconfig.clone()],
            context: None,
        }
    }

    /// A source of the given namespaces and what is in none.
    pub fn source(&self, namespaces: &[&str]) -> KubernetesSource {
        let mut options = Options::new(self.access());
        options.namespaces = namespaces.iter().map(|n| Glob::new(n).unwrap()).collect();
        KubernetesSource::connect("prod", options).unwrap()
    }

    pub fn target(&self, include: &[&str]) -> KubernetesTarget {
        let include = include.iter().map(|n| Glob::new(n).unwrap()).collect();
        let options = TargetOptions {
            access: self.access(),
            include,
        };
        KubernetesTarget::connect("prod", options).unwrap()
    }

    /// Runs kubectl, which must succeed, and returns its output.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let mut child = Command::new(cache().join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn apply(&self, manifest: &str) {
        // What begins with a brace would be read as JSON.
        self.kubectl(&["apply", "-f", "-"], &format!("---\n{manifest}"));
    }

    /// Leaves no trace of kubectl in the annotations.
    pub fn apply_server_side(&self, manifest: &str) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], manifest);
    }

    pub fn get(&self, arguments: &[&str]) -> Value {
        let all = [&["get", "-o", "json"], arguments].concat();
        serde_json::from_str(&self.kubectl(&all, "")).unwrap()
    }
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
