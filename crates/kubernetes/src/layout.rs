//! Where objects lie in a recovery point.
//!
//! ```text
//! /kubernetes/<source>/resources/<group|core>/<version>/<resource>/<namespace|_cluster>/<name>.yaml
//!                                                                  …/_server.jsonl
//!                                                                  …/from-<name>/<name>.yaml
//! ```
//!
//! One item is one folder of a kind and namespace. `_server.jsonl` holds what only the server has
//! to say of its objects. A folder that would be too long is cut into parts in the order of names,
//! at names that a hash picks: so a part changes only when one of its own objects does, and the
//! parts can be written while the list is still being read.
//!
//! Invariant: a folder's place says kind and namespace; an object's own document says its name.

use refloat_model::tree_path::{TreePath, unescape};

use crate::hash::Fnv;
use crate::kind::Kind;

/// Above everything of this adapter.
const ROOT: &str = "kubernetes";
/// Above the objects of a source.
const RESOURCES: &str = "resources";
/// The core group, which has no name of its own.
const CORE: &str = "core";
/// Instead of a namespace: `_` is in no namespace's name.
const CLUSTER: &str = "_cluster";
/// What only the server has to say, beside the objects. No object's file ends in `.jsonl`.
pub(crate) const SERVER_FILE: &str = "_server.jsonl";
/// What documents end in.
pub(crate) const DOCUMENT_SUFFIX: &str = ".yaml";

/// The most objects in one folder; beyond, it is cut into parts.
pub(crate) const FOLDER_ENTRIES_MAX: usize = 10_000;
/// Parts are this long on average (a power of two), and never longer than a folder may be.
const PART_ENTRIES_MEAN: u64 = 2_048;

/// A folder of objects: one kind in one version, in one namespace or cluster-wide.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Folder {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
}

/// The root of a source's tree.
pub(crate) fn source_root(source: &str) -> TreePath {
    TreePath::root().child(ROOT).child(source)
}

impl Folder {
    /// Whether it holds objects of a kind in this version.
    pub(crate) fn is_of(&self, kind: &Kind) -> bool {
        (&self.resource, &self.group, &self.version) == (&kind.resource, &kind.group, &kind.version)
    }

    /// How its kind is called: `secrets`, `deployments.apps`.
    pub(crate) fn id(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Whether both are of one kind in one version.
    pub(crate) fn is_kind_of(&self, other: &Self) -> bool {
        (&self.resource, &self.group, &self.version)
            == (&other.resource, &other.group, &other.version)
    }

    /// Its path in the recovery point.
    pub(crate) fn path(&self, source: &str) -> TreePath {
        let group = if self.group.is_empty() {
            CORE
        } else {
            &self.group
        };
        source_root(source)
            .child(RESOURCES)
            .child(group)
            .child(&self.version)
            .child(&self.resource)
            .child(self.namespace.as_deref().unwrap_or(CLUSTER))
    }

    /// The folder that `path`, or the folder above it, is; none if it is something else.
    pub(crate) fn of_path(path: &TreePath) -> Option<Self> {
        let names: Option<Vec<String>> = path
            .components()
            .iter()
            .take(7)
            .map(|c| unescape(std::str::from_utf8(c).ok()?))
            .collect();
        let names = names?;
        let [root, _, resources, group, version, resource, namespace] = names.as_slice() else {
            return None;
        };
        let is_ours = root == ROOT && resources == RESOURCES;
        is_ours.then(|| Self {
            group: if group == CORE {
                String::new()
            } else {
                group.clone()
            },
            version: version.clone(),
            resource: resource.clone(),
            namespace: (namespace != CLUSTER).then(|| namespace.clone()),
        })
    }
}

/// Whether a part ends before the object `name`, after `entries` objects.
pub(crate) fn part_begins(name: &str, entries: usize) -> bool {
    entries == 0
        || entries >= FOLDER_ENTRIES_MAX
        || mixed(name.as_bytes()).is_multiple_of(PART_ENTRIES_MEAN)
}

/// The name of the part that begins with the object `name`.
pub(crate) fn part_name(name: &str) -> String {
    format!("from-{name}")
}

/// FNV-1a with a final mix, because its low bits alone are weak in the last byte.
fn mixed(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.write(bytes);
    let hash = hash.finish();
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_back_from_their_paths() {
        let folder = |group: &str, namespace: Option<&str>| Folder {
            group: group.into(),
            version: "v1".into(),
            resource: "things".into(),
            namespace: namespace.map(str::to_owned),
        };
        let apps = folder("apps", Some("shop"));
        let path = apps.path("prod/1");
        assert_eq!(
            path.to_string(),
            "/kubernetes/prod%2F1/resources/apps/v1/things/shop"
        );
        assert_eq!(Folder::of_path(&path.child("web.yaml")), Some(apps));
        let core = folder("", None);
        let path = core.path("a");
        assert_eq!(
            path.to_string(),
            "/kubernetes/a/resources/core/v1/things/_cluster"
        );
        assert_eq!(Folder::of_path(&path), Some(core));
        assert_eq!(Folder::of_path(&source_root("a")), None);
    }

    #[test]
    fn an_object_more_changes_one_part_only() {
        let parts = |skip: usize| {
            let (mut parts, mut entries) = (Vec::new(), 0);
            for name in (0..31_000)
                .filter(|n| *n != skip)
                .map(|n| format!("s-{n:05}"))
            {
                if part_begins(&name, entries) {
                    parts.push((name.clone(), 0));
                    entries = 0;
                }
                entries += 1;
                if let Some(last) = parts.last_mut() {
                    last.1 = entries;
                }
            }
            parts
        };
        let (all, less) = (parts(31_000), parts(17_003));
        assert!((5..40).contains(&all.len()), "{}", all.len());
        assert!(
            all.iter()
                .all(|(_, entries)| *entries <= FOLDER_ENTRIES_MAX)
        );
        let differing = all.iter().filter(|part| !less.contains(part)).count();
        assert_eq!(differing, 1);
    }
}
