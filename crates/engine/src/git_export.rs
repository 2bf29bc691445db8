//! Which files of a recovery point go into a Git repository, and which of them changed.
//!
//! A cluster's objects lie there as `<cluster>/<group>/<version>/<resource>/<namespace>/<name>.yaml`.
//! The parts that long folders are cut into in a point are put together again, so that an object
//! keeps its path when its neighbours come and go.
//!
//! Invariant: equal trees are passed over by their ids, so that a point that hardly changed costs
//! hardly anything.

mod gaps;
mod history;

use std::collections::BTreeMap;

use refloat_model::cancel::Cancel;
use refloat_model::tree_path::{TreePath, escape};
use refloat_repository::{BlobId, BlobReader as _, IndexedRepository, Node, RepositoryError};

pub(crate) use gaps::kind_id;
pub use gaps::{Gaps, item_place};
pub use history::{Exported, History, Last, NotExported, Shortfall, message};

use crate::diff::pairs;
use crate::stored::{StoredTree, TreePathError};

/// What objects' documents end in.
const DOCUMENT_SUFFIX: &[u8] = b".yaml";
/// Group, version, resource, namespace: what folders of objects lie below.
pub const FOLDER_DEPTH: usize = 4;

/// What is done with Secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// They stay out.
    Exclude,
    /// They are there, encrypted.
    Encrypt,
}

/// What becomes of a file.
#[derive(Clone, Debug)]
pub enum FileChange {
    /// It is written.
    Write(Node),
    /// It is a Secret: it is encrypted and written.
    Encrypt(Node),
    /// It is removed.
    Remove,
}

/// Files by their path.
pub type Changes = BTreeMap<String, FileChange>;

/// The tree of a cluster's objects; none if the point has none.
///
/// # Errors
/// The repository failed.
pub fn objects(tree: &StoredTree, cluster: &str) -> Result<Option<BlobId>, TreePathError> {
    let path = TreePath::root()
        .child("kubernetes")
        .child(cluster)
        .child("resources");
    Ok(tree.node(&path)?.and_then(|node| node.subtree))
}

/// The folder of a cluster in a Git repository.
#[must_use]
pub fn cluster_folder(cluster: &str) -> String {
    escape(cluster)
}

/// A file before and after.
#[derive(Default)]
struct Pair {
    old: Option<Node>,
    new: Option<Node>,
    is_secret: bool,
}

/// What of a cluster changed from one tree to the next; all of it if there is none before.
///
/// # Errors
/// A tree that differs cannot be read, or the run was cancelled.
pub fn changes(
    repository: &IndexedRepository,
    cluster: &str,
    trees: (Option<BlobId>, Option<BlobId>),
    secrets: Secrets,
    cancel: &Cancel,
) -> Result<Changes, RepositoryError> {
    let mut files: BTreeMap<String, Pair> = BTreeMap::new();
    let mut waiting = vec![(TreePath::root(), trees.0, trees.1)];
    while let Some((path, before, after)) = waiting.pop() {
        cancel.check()?;
        let is_secret = is_secrets(&path);
        if before == after || (is_secret && secrets == Secrets::Exclude) {
            continue;
        }
        let read = |tree: Option<BlobId>| {
            tree.map_or_else(|| Ok(Vec::new()), |tree| repository.read_tree(tree))
        };
        for (old, new) in pairs(read(before)?, read(after)?) {
            let Some(name) = new.as_ref().or(old.as_ref()).map(|n| n.name().to_vec()) else {
                continue;
            };
            let Ok(path) = path.clone().join(&name) else {
                continue;
            };
            let tree = |node: &Option<Node>| node.as_ref().and_then(|n| n.subtree);
            let (old_tree, new_tree) = (tree(&old), tree(&new));
            if old_tree.is_some() || new_tree.is_some() {
                waiting.push((path, old_tree, new_tree));
            } else if name.ends_with(DOCUMENT_SUFFIX) {
                // An object can be in another part of its folder than before.
                let pair = files.entry(git_path(cluster, &path)).or_default();
                pair.is_secret = is_secret;
                pair.old = pair.old.take().or(old);
                pair.new = pair.new.take().or(new);
            }
        }
    }
    Ok(files
        .into_iter()
        .filter_map(|(path, pair)| Some((path, pair.change()?)))
        .collect())
}

impl Pair {
    fn change(self) -> Option<FileChange> {
        match (self.old, self.new) {
            (Some(old), Some(new)) if old.content == new.content => None,
            (_, Some(new)) if self.is_secret => Some(FileChange::Encrypt(new)),
            (_, Some(new)) => Some(FileChange::Write(new)),
            (Some(_), None) => Some(FileChange::Remove),
            (None, None) => None,
        }
    }
}

/// The place of an object's folder, `apps/v1/deployments/shop`, of its path in a Git repository.
#[must_use]
pub fn place(path: &str) -> Option<String> {
    let (_, below) = path.split_once('/')?;
    let (folder, _) = below.rsplit_once('/')?;
    Some(folder.to_owned())
}

/// Whether `<group>/<version>/<resource>/…` is one of Secrets.
fn is_secrets(path: &TreePath) -> bool {
    matches!(
        path.components(),
        [group, _, resource, ..] if group == b"core" && resource == b"secrets"
    )
}

fn git_path(cluster: &str, path: &TreePath) -> String {
    let mut parts: Vec<String> = vec![cluster_folder(cluster)];
    let components = path.components();
    for (depth, part) in components.iter().enumerate() {
        // Between an object's folder and its document there are only parts.
        let is_part = depth >= FOLDER_DEPTH && depth + 1 < components.len();
        if !is_part {
            parts.push(String::from_utf8_lossy(part).into_owned());
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_long_folders_are_put_together() {
        for (path, expected) in [
            (
                "core/v1/configmaps/shop/a.yaml",
                "prod/core/v1/configmaps/shop/a.yaml",
            ),
            (
                "apps/v1/deployments/shop/from-web/web.yaml",
                "prod/apps/v1/deployments/shop/web.yaml",
            ),
        ] {
            let path = TreePath::parse(path).unwrap();
            assert_eq!(git_path("prod", &path), expected);
        }
        assert_eq!(git_path("..", &TreePath::root()), "%2E.");
        let path = "prod/apps/v1/deployments/shop/web.yaml";
        assert_eq!(place(path).unwrap(), "apps/v1/deployments/shop");
    }

    #[test]
    fn secrets_are_those_of_the_core_group() {
        for (path, expected) in [
            ("core/v1/secrets", true),
            ("core/v2/secrets", true),
            ("core/v1/secrets/shop/from-a", true),
            ("core/v1/configmaps/secrets", false),
            ("vault.example/v1/secrets", false),
        ] {
            assert_eq!(
                is_secrets(&TreePath::parse(path).unwrap()),
                expected,
                "{path}"
            );
        }
    }
}
