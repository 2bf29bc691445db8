//! An API server of the test bed with its etcd, and nothing else: nothing happens by itself.
//!
//! Invariant: it ends with its test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use refloat_testkit::kubernetes::cache;
use serde_json::Value;

/// An API server of the test bed, with its etcd.
pub struct ControlPlane {
    pub name: String,
    pub folder: PathBuf,
    pub port: u16,
    pub kubeconfig: PathBuf,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _gone = self.script("kubernetes-down", &[]);
    }
}

impl ControlPlane {
    pub fn start() -> Option<Self> {
        if !cache().join("bin/pause").exists() {
            refloat_testkit::skip("the Kubernetes test bed is not built (scripts/testbed)");
            return None;
        }
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            memory.join("refloat-testbed")
        } else {
            cache().join("clusters")
        };
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let start = u16::try_from(std::process::id() % 900).unwrap();
        let port = (0..900)
            .map(|n| 10_000 + (n + start) % 900 * 10)
            .find(|base| (0..3).all(|n| is_free(base + n)))
            .unwrap();
        let mut this = Self {
            name: format!("etcd-{}", std::process::id()),
            folder,
            port,
            kubeconfig: PathBuf::new(),
        };
        this.up();
        Some(this)
    }

    pub fn script(&self, script: &str, arguments: &[&str]) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/testbed");
        let output = Command::new(path.join(script))
            .env("K8S_TESTBED_CLUSTERS", &self.folder)
            .args(arguments)
            .args(["--name", &self.name])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn up(&mut self) {
        let port = self.port.to_string();
        let said = self.script("kubernetes-up", &["control-plane", "--port-base", &port]);
        self.kubeconfig = said.lines().last().unwrap().into();
    }

    fn try_kubectl(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(cache().join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .output()
            .unwrap()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a person does with `kubectl edit`; `script` is sed's.
    pub fn edit(&self, object: &str, script: &str) {
        let output = Command::new(cache().join("bin/kubectl"))
            .env("KUBE_EDITOR", format!("sed -i {script}"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["edit", object])
            .output()
            .unwrap();
        assert!(output.status.success(), "kubectl edit {object}: {output:?}");
    }

    /// All objects of some kinds, without what changes by itself.
    pub fn objects(&self) -> Value {
        let kinds = "configmaps,secrets,namespaces,clusterroles,customresourcedefinitions";
        let json = self.kubectl(&["get", "-A", "-o", "json", kinds]);
        let list: Value = serde_json::from_str(&json).unwrap();
        list["items"].clone()
    }

    /// The events of a watch that goes on at `version`, for some seconds.
    pub fn watch(&self, version: &str) -> String {
        let path = format!(
            "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=4&resourceVersion={version}"
        );
        let output = self.try_kubectl(&["get", "--raw", &path]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub fn version(&self) -> String {
        let list = self.kubectl(&["get", "--raw", "/api/v1/namespaces/default/configmaps"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}
