//! Who may depend on whom: the layers of the design.
//!
//! Invariant: a crate that has no place here is a violation, so that nobody forgets to give it one.

use crate::graph::Graph;

/// The prefix of the packages' names.
const PREFIX: &str = "refloat-";

/// Where a crate stands. Arrows point down only, never sideways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Layer {
    /// Vocabulary.
    Pure,
    /// Bytes in and out.
    Storage,
    /// The clients of storage on other machines; front-ends choose among them.
    StorageClient,
    /// The repository, the contract of adapters, and knowledge that several adapters share.
    Substance,
    /// One system each.
    Adapter,
    /// Decisions.
    Engine,
    /// Wiring, printing, exit codes.
    FrontEnd,
    /// Tests and tools; others may use them for their tests only.
    Beside,
}

const LAYERS: [(Layer, &[&str]); 8] = [
    (Layer::Pure, &["model"]),
    (Layer::Storage, &["storage", "localfs", "http"]),
    (Layer::StorageClient, &["storage-remote"]),
    (Layer::Substance, &["repository", "source", "database"]),
    (
        Layer::Adapter,
        &[
            "files",
            "docker",
            "registry",
            "kubernetes",
            "etcd",
            "git",
            "bucket",
            "prometheus",
            "vault",
        ],
    ),
    (Layer::Engine, &["engine"]),
    (Layer::FrontEnd, &["cli", "operator", "dashboard"]),
    (Layer::Beside, &["testkit", "e2e", "bench", "fuzz", "xtask"]),
];

/// Clients with many dependencies, and the crates that may use each.
const HEAVY: [(&str, &[&str]); 6] = [
    ("bollard", &["docker"]),
    ("kube", &["kubernetes"]),
    ("k8s-openapi", &["kubernetes"]),
    ("ureq", &["http", "registry", "storage-remote"]),
    ("oci-client", &["registry"]),
    ("tonic", &["etcd"]),
];

/// What nothing of the synchronous core may reach.
const ASYNC: [&str; 5] = ["tokio", "bollard", "kube", "hyper", "reqwest"];

/// The synchronous core.
const CORE: [&str; 9] = [
    "model",
    "http",
    "storage",
    "storage-remote",
    "localfs",
    "repository",
    "source",
    "database",
    "engine",
];

/// Every arrow that must not be.
#[must_use]
pub fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in &graph.members {
        let name = short(member);
        let Some(layer) = layer(name) else {
            found.push(format!("{name} has no layer in xtask/src/dependencies.rs"));
            continue;
        };
        for used in graph.uses.get(member).into_iter().flatten() {
            found.extend(client(name, used));
            if graph.members.contains(used) {
                found.extend(arrow(name, layer, short(used)));
            }
        }
        if CORE.contains(&name) {
            let way = graph.way(member, &ASYNC);
            found.extend(way.map(|way| format!("{name} is synchronous: {}", way.join(" -> "))));
        }
    }
    found
}

fn arrow(name: &str, from: Layer, used: &str) -> Option<String> {
    let to = layer(used)?;
    let why = if to == Layer::Beside {
        "is for tests and tools"
    } else if from == Layer::Beside {
        return None;
    } else if to >= from {
        "is not below it"
    } else if from == Layer::Engine && to == Layer::Adapter {
        "is an adapter, which the engine knows only by the source contract"
    } else if from == Layer::Adapter && matches!(used, "repository" | "storage") {
        "is the repository's side, which adapters never see"
    } else if to == Layer::StorageClient && from != Layer::FrontEnd {
        "is a client of one kind of storage, which only front-ends choose"
    } else {
        return None;
    };
    Some(format!("{name} uses {used}, which {why}"))
}

fn client(name: &str, used: &str) -> Option<String> {
    let (_, owners) = HEAVY.iter().find(|(client, _)| *client == used)?;
    let allowed = owners.contains(&name);
    (!allowed).then(|| {
        format!(
            "{name} uses {used}, which only {} may",
            owners.join(" and ")
        )
    })
}

fn layer(name: &str) -> Option<Layer> {
    LAYERS
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map(|(layer, _)| *layer)
}

fn short(package: &str) -> &str {
    package.strip_prefix(PREFIX).unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a: b c` says that a uses b and c; every package on the left is a member.
    fn check(arrows: &[&str], expected: &[&str]) {
        let full = |name: &str| match layer(name) {
            Some(_) if name != "xtask" => format!("{PREFIX}{name}"),
            _ => name.to_owned(),
        };
        let mut graph = Graph::default();
        for line in arrows {
            let (user, used) = line.split_once(':').unwrap();
            let used = used.split_whitespace().map(full).collect();
            if layer(user).is_some() || user == "novel" {
                graph.members.insert(full(user));
            }
            graph.uses.insert(full(user), used);
        }
        assert_eq!(violations(&graph), expected, "{arrows:?}");
    }

    #[test]
    fn arrows_point_down_only() {
        check(
            &[
                "cli: engine docker",
                "docker: source localfs bollard",
                "source: model",
                "engine: localfs repository source",
                "localfs:",
                "repository: storage",
                "storage: model",
                "kubernetes: source kube k8s-openapi",
                "registry: source ureq",
            ],
            &[],
        );
        check(
            &["model: storage", "storage: model"],
            &["model uses storage, which is not below it"],
        );
        check(
            &["docker: files", "files: source"],
            &["docker uses files, which is not below it"],
        );
        check(
            &["engine: docker", "docker:"],
            &[
                "engine uses docker, which is an adapter, which the engine knows only by the source \
               contract",
            ],
        );
        check(
            &["docker: repository", "repository: model", "model:"],
            &["docker uses repository, which is the repository's side, which adapters never see"],
        );
        check(
            &["engine: testkit", "testkit: repository", "repository:"],
            &["engine uses testkit, which is for tests and tools"],
        );
        check(
            &["repository: storage-remote", "storage-remote: storage"],
            &[
                "repository uses storage-remote, which is a client of one kind of storage, which \
               only front-ends choose",
            ],
        );
        check(
            &["novel:"],
            &["novel has no layer in xtask/src/dependencies.rs"],
        );
    }

    #[test]
    fn heavy_clients_stay_in_one_crate_and_the_core_synchronous() {
        check(
            &["cli: bollard"],
            &["cli uses bollard, which only docker may"],
        );
        check(
            &["kubernetes: ureq"],
            &["kubernetes uses ureq, which only http and registry and storage-remote may"],
        );
        check(
            &["repository: innocent", "innocent: hidden", "hidden: tokio"],
            &["repository is synchronous: refloat-repository -> innocent -> hidden -> tokio"],
        );
    }
}
