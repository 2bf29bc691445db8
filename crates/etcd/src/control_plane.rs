//! The files of a control-plane host without which a restored etcd is of little use.
//!
//! The folder (kubeadm: `/etc/kubernetes`) is captured as a whole, with the keys of all
//! authorities; so are files elsewhere that the API server's static pod is told to read, such as
//! the encryption configuration, and kubelet's configuration. What a control plane usually has
//! and this host lacks is named.
//!
//! Invariant: all of it is sensitive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use refloat_model::finding::Finding;
use refloat_model::tree_path::TreePath;

use crate::document::{HOST, directory};

/// What kubeadm's control planes have, below the folder.
const USUAL: [&str; 15] = [
    "admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
    "manifests/etcd.yaml",
    "manifests/kube-apiserver.yaml",
    "manifests/kube-controller-manager.yaml",
    "manifests/kube-scheduler.yaml",
    "pki/ca.crt",
    "pki/ca.key",
    "pki/etcd/ca.crt",
    "pki/etcd/ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/sa.key",
    "pki/sa.pub",
];
/// Kept beside the folder, if it is there.
const BESIDE: [&str; 2] = [
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
];
/// Names under which kubeadm's own configuration is kept by those who keep it.
const KUBEADM: [&str; 4] = [
    "kubeadm-config.yaml",
    "kubeadm.yaml",
    "kubeadm-config.conf",
    "kubeadm.conf",
];
/// A manifest is a page long.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// kubeadm keeps copies of etcd and of manifests there when it upgrades.
pub const LEFT_OUT: &str = "tmp";

/// One folder or file of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPath {
    /// On the host.
    pub path: PathBuf,
    /// In the recovery point.
    pub in_point: TreePath,
}

/// What of the host is captured, and what is missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControlPlane {
    /// The folder, and files beside it.
    pub paths: Vec<HostPath>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

impl ControlPlane {
    /// Looks at a control plane's folder for the source `name`.
    #[must_use]
    pub fn look(name: &str, folder: &Path) -> Self {
        let mut this = Self::default();
        if !folder.is_dir() {
            let missing = "is no folder that can be read: the control plane's files are missing";
            this.findings
                .push(Finding::error(folder.display().to_string(), missing));
            return this;
        }
        this.add(name, folder);
        for usual in USUAL {
            if !folder.join(usual).exists() {
                this.missing(&folder.join(usual), "a control plane usually has it");
            }
        }
        if !KUBEADM.iter().any(|file| folder.join(file).exists()) {
            this.findings.push(Finding::note(
                folder.display().to_string(),
                "holds no kubeadm configuration; the cluster's is in the etcd snapshot, as the \
                 ConfigMap kube-system/kubeadm-config",
            ));
        }
        let mut beside: BTreeSet<PathBuf> = BESIDE.iter().map(PathBuf::from).collect();
        beside.retain(|path| path.exists());
        beside.extend(this.led_out(folder));
        for (flag, path) in told_to_read(&folder.join("manifests/kube-apiserver.yaml")) {
            if !path.exists() {
                this.missing(&path, &format!("the API server reads it: --{flag}"));
            } else if !path.starts_with(folder) || has_parents(&path) {
                let real = path.canonicalize().ok().filter(|_| has_parents(&path));
                beside.insert(real.unwrap_or(path));
            }
        }
        for path in beside {
            this.add(name, &path);
        }
        this
    }

    /// Where links in the folder lead that leave it: in the point they are links still, to what would not
    /// be there.
    fn led_out(&mut self, folder: &Path) -> BTreeSet<PathBuf> {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            // What cannot be listed is named by the capture.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(kind) if kind.is_symlink() => match path.canonicalize() {
                        Ok(target) if target.starts_with(&real) => {}
                        Ok(target) if !real.starts_with(&target) => drop(found.insert(target)),
                        _ => self.missing(&path, "the link leads to nothing that can be captured"),
                    },
                    _ => {}
                }
            }
        }
        found
    }

    fn add(&mut self, name: &str, path: &Path) {
        // A folder that lies in another one is captured with it.
        if self.paths.iter().any(|known| path.starts_with(&known.path)) {
            return;
        }
        match in_point(name, path) {
            Some(in_point) => self.paths.push(HostPath {
                path: path.to_owned(),
                in_point,
            }),
            None => self.missing(path, "it is not an absolute path"),
        }
    }

    fn missing(&mut self, path: &Path, why: &str) {
        let message = format!("is missing: {why}");
        self.findings
            .push(Finding::warning(path.display().to_string(), message));
    }
}

fn has_parents(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

fn in_point(name: &str, path: &Path) -> Option<TreePath> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut in_point = directory(name).child(HOST);
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => in_point = in_point.join(name.as_bytes()).ok()?,
            _ => return None,
        }
    }
    path.is_absolute().then_some(in_point)
}

/// Flags of a static pod's command whose values are absolute paths of files that are read.
///
/// Read line by line and not as YAML: a manifest that a person broke still names its files.
fn told_to_read(manifest: &Path) -> Vec<(String, PathBuf)> {
    let is_small = fs::metadata(manifest).is_ok_and(|m| m.len() <= MANIFEST_BYTES_MAX);
    // Its absence is named as one of the usual files.
    let text = is_small
        .then(|| fs::read_to_string(manifest).ok())
        .flatten();
    let text = text.unwrap_or_default();
    let flags = text.lines().filter_map(|line| {
        let word = line.trim().trim_start_matches('-').trim();
        let word = word.trim_matches(['"', '\'']);
        let (flag, value) = word.strip_prefix("--").unwrap_or(word).split_once('=')?;
        let is_read = value.starts_with('/') && !flag.contains("log") && !flag.ends_with("-dir");
        (is_read && line.contains("--")).then(|| (flag.to_owned(), PathBuf::from(value)))
    });
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_lies_elsewhere_is_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("kubernetes");
        let elsewhere = root.path().join("secrets/encryption.yaml");
        for usual in USUAL {
            let path = folder.join(usual);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::write(&elsewhere, "kind: EncryptionConfiguration").unwrap();
        fs::remove_file(folder.join("pki/sa.key")).unwrap();
        fs::write(folder.join("kubeadm-config.yaml"), "x").unwrap();
        let manifest = format!(
            "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    \
             - --encryption-provider-config={}\n    - --audit-policy-file=/nowhere/audit.yaml\n    \
             - --audit-log-path=/var/log/audit.log\n    - \"--client-ca-file={}\"\n",
            elsewhere.display(),
            folder.join("pki/ca.crt").display(),
        );
        fs::write(folder.join("manifests/kube-apiserver.yaml"), manifest).unwrap();
        let seen = ControlPlane::look("prod", &folder);
        let mut paths: Vec<_> = seen.paths.iter().map(|p| p.path.clone()).collect();
        paths.retain(|path| !BESIDE.iter().any(|beside| path == Path::new(beside)));
        assert_eq!(paths, [folder.clone(), elsewhere]);
        let findings: Vec<String> = seen
            .findings
            .iter()
            .map(|f| format!("{} {}", f.subject, f.message))
            .collect();
        assert_eq!(
            findings,
            [
                format!(
                    "{}/pki/sa.key is missing: a control plane usually has it",
                    folder.display()
                ),
                "/nowhere/audit.yaml is missing: the API server reads it: --audit-policy-file"
                    .to_owned(),
            ]
        );
        let gone = ControlPlane::look("prod", &root.path().join("gone"));
        assert_eq!((gone.paths.len(), gone.findings.len()), (0, 1));
    }

    #[test]
    fn where_links_lead_is_captured_too() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let folder = root.join("kubernetes");
        let (pki, key) = (root.join("secure/pki"), root.join("keys/enc.yaml"));
        for path in [&folder.join("manifests"), &pki, &root.join("keys")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(&key, "x").unwrap();
        fs::write(folder.join("inside"), "x").unwrap();
        for (target, link) in [
            (pki.as_path(), "pki"),
            (Path::new("inside"), "link"),
            (Path::new(".."), "up"),
            (Path::new("gone"), "dangling"),
        ] {
            std::os::unix::fs::symlink(target, folder.join(link)).unwrap();
        }
        let manifest = format!(
            "    - --encryption-provider-config={}/../keys/enc.yaml\n",
            folder.display()
        );
        fs::write(folder.join("manifests/kube-apiserver.yaml"), manifest).unwrap();
        let seen = ControlPlane::look("prod", &folder);
        let mut paths: Vec<_> = seen.paths.iter().map(|p| p.path.clone()).collect();
        paths.retain(|path| path.starts_with(&root));
        assert_eq!(paths, [folder.clone(), key, pki]);
        let told = |link: &str| {
            let subject = folder.join(link).display().to_string();
            seen.findings
                .iter()
                .any(|finding| finding.subject == subject)
        };
        assert_eq!(
            [told("up"), told("dangling"), told("link")],
            [true, true, false]
        );
    }
}
