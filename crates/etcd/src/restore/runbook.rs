//! What a person has to do with the folders, on a real control plane.
//!
//! Invariant: the order keeps two rules: no API server runs while etcd is exchanged, and all of
//! them start anew afterwards, since their caches know revisions of a history that is gone.

use std::path::PathBuf;

use super::cluster::NewCluster;
use super::folder::name;

/// The steps in their order.
pub fn steps(
    source: &str,
    cluster: &NewCluster,
    token: &str,
    folders: &[(String, PathBuf)],
) -> Vec<String> {
    let mut steps = vec![
        "on every control-plane host, stop the API server, the controllers and etcd (kubeadm: \
         move /etc/kubernetes/manifests/*.yaml into another folder and wait until their \
         containers are gone)"
            .to_owned(),
        "on every control-plane host, move the old data folder away, usually /var/lib/etcd; keep \
         it until the cluster is well"
            .to_owned(),
    ];
    for (member, folder) in folders {
        steps.push(format!(
            "copy {} to the data folder of {member}, with its modes, owned by the user that runs \
             etcd",
            folder.display()
        ));
    }
    let missing: Vec<&str> = cluster
        .members()
        .iter()
        .map(|(_, member)| member.name.as_str())
        .filter(|member| !folders.iter().any(|(name, _)| name == member))
        .collect();
    if !missing.is_empty() {
        steps.push(format!(
            "make the folders of {} with the same --etcd-member options, --etcd-token {token} and \
             their own --etcd-name, from the same recovery point",
            missing.join(", ")
        ));
    }
    steps.extend([
        format!(
            "if certificates, the encryption configuration or manifests were lost as well, \
             restore them from POINT:/etcd/{}/host first: without the encryption configuration \
             encrypted Secrets cannot be read",
            name(source)
        ),
        format!(
            "start etcd on every host with --name as above, --initial-cluster {} \
             --initial-cluster-token {token} --initial-cluster-state existing, and see that all \
             members are healthy (etcdctl endpoint health --cluster)",
            cluster.initial_cluster()
        ),
        "start the API servers, then the controller managers and schedulers (kubeadm: move the \
         manifests back): all of them, since their caches are of the old history"
            .to_owned(),
        "restart kubelet on every node, and whatever watches the API without having noticed; pods \
         that were made after the recovery point run on until their kubelet is restarted"
            .to_owned(),
        "compare: kubectl get nodes, kubectl get pods -A, and refloat drift".to_owned(),
    ]);
    steps
}
