//! Real clusters of the test bed (`scripts/testbed`).
//!
//! Invariant: a cluster ends with the process that started it, however it ends: a shell that waits
//! for our end stops it by the process ids that it recorded.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where ports of clusters are looked for: below those that the system gives to clients.
const PORTS: std::ops::Range<u16> = 1_000..3_000;

/// How long a condition may take to become true; pods of busy machines start slowly, the first ones of a new
/// machine in more than 90 s.
const WAIT_MAX: Duration = Duration::from_secs(240);

/// How much of a cluster there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// API server, etcd and controllers. Pods stay Pending.
    Controllers,
    /// A node too, where pods run. Needs root.
    Node,
}

/// A running cluster.
pub struct Cluster {
    /// How it is reached.
    pub kubeconfig: PathBuf,
    /// Its standard input is held open; when it closes, the shell stops the cluster.
    _guard: Child,
}

/// Starts two clusters at once; none, after saying so, without a test bed.
#[must_use]
pub fn start_pair(level: Level) -> Option<(Cluster, Cluster)> {
    if !is_available(level) {
        return None;
    }
    // Both before either starts: looking for a port takes it for a moment.
    let ports = [free_port_base(0), free_port_base(1)];
    Some(std::thread::scope(|scope| {
        let a = scope.spawn(|| Cluster::start(level, "a", ports[0]));
        let b = scope.spawn(|| Cluster::start(level, "b", ports[1]));
        (a.join().unwrap(), b.join().unwrap())
    }))
}

/// Starts one cluster; none, after saying so, without a test bed.
#[must_use]
pub fn start(level: Level) -> Option<Cluster> {
    is_available(level).then(|| Cluster::start(level, "a", free_port_base(0)))
}

fn is_available(level: Level) -> bool {
    if !cache().join("bin/pause").exists() {
        crate::skip("the Kubernetes test bed is not built (scripts/testbed/kubernetes-up)");
        return false;
    }
    if level == Level::Node && !rustix::process::geteuid().is_root() {
        crate::skip("a Kubernetes node needs root");
        return false;
    }
    true
}

/// Where the programs of the test bed are.
#[must_use]
pub fn cache() -> PathBuf {
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

/// Makes the image `localhost/refloat-busybox:1` known to all nodes.
///
/// # Panics
/// It cannot be made.
pub fn busybox_image() {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "httpd", "true", "tee"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    let made = Command::new(script("kubernetes-image"))
        .args(["localhost/refloat-busybox:1"])
        .arg(root.path())
        .arg("sh")
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

impl Cluster {
    fn start(level: Level, name: &str, port_base: u16) -> Self {
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
        let word = match level {
            Level::Controllers => "controllers",
            Level::Node => "node",
        };
        let up = Command::new(script("kubernetes-up"))
            .env("K8S_TESTBED_CLUSTERS", &folder)
            .args([word, "--name", &name, "--port-base"])
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

    /// kubectl with these arguments, ready to be run.
    #[must_use]
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cache().join("bin/kubectl"));
        let _itself = command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        command
    }

    /// Runs kubectl, which must succeed, and returns its output.
    ///
    /// # Panics
    /// It fails.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self
            .kubectl_command(arguments)
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

    /// A way to the API server without TLS and credentials.
    ///
    /// # Panics
    /// kubectl does not start.
    #[must_use]
    pub fn plain_way(&self) -> PlainWay {
        let mut child = self
            .kubectl_command(&["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        let _length = BufReader::new(output).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        PlainWay { port, child }
    }

    /// The process id of a part of the cluster: `kube-apiserver`, `etcd`.
    ///
    /// # Panics
    /// There is no such part.
    #[must_use]
    pub fn pid(&self, process: &str) -> u32 {
        let folder = self.kubeconfig.ancestors().nth(2).unwrap();
        let text = std::fs::read_to_string(folder.join("pid").join(process)).unwrap();
        text.split(' ').next().unwrap().trim().parse().unwrap()
    }

    /// The port of the API server; etcd listens without TLS on the next one.
    ///
    /// # Panics
    /// The kubeconfig names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let after = text.split("server: \"https://").nth(1).unwrap();
        let address = after.split('"').next().unwrap();
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        // What begins with a brace would be read as JSON.
        self.kubectl(&["apply", "-f", "-"], &format!("---\n{manifest}"));
    }

    /// Applies a manifest and leaves no trace of kubectl in the annotations.
    pub fn apply_server_side(&self, manifest: &str) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], manifest);
    }

    /// Objects as JSON.
    ///
    /// # Panics
    /// There are none of that name.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let all = [&["get", "-o", "json"], arguments].concat();
        serde_json::from_str(&self.kubectl(&all, "")).unwrap()
    }
}

/// `kubectl proxy`, for proxies that misbehave before it; ends when it is dropped.
pub struct PlainWay {
    /// Where it listens.
    pub port: u16,
    child: Child,
}

impl Drop for PlainWay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A kubeconfig for an API server on a port of this machine that asks for no credentials.
#[must_use]
pub fn plain_kubeconfig(port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: \
         {{server: 'http://127.0.0.1:{port}'}}}}], users: [{{name: u, user: {{}}}}], \
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"
    )
}

/// Waits until `condition` holds.
///
/// # Panics
/// It takes too long.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < WAIT_MAX, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
