//! Who depends on whom, as cargo resolves it.
//!
//! Invariant: only the edges that code can rely on: normal and build dependencies, and development
//! ones apart from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Unreadable;

/// Packages by name, with the names of what they use.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The workspace's own packages.
    pub members: BTreeSet<String>,
    /// Normal and build dependencies of every package.
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Asks cargo.
    ///
    /// # Errors
    /// Cargo fails, or answers what is not understood.
    pub fn of_workspace(root: &Path) -> Result<Self, Unreadable> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1"])
            .current_dir(root)
            .output()
            .map_err(|cause| Unreadable::Path(root.to_owned(), cause))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Unreadable::Metadata(text));
        }
        serde_json::from_slice(&output.stdout)
            .ok()
            .as_ref()
            .and_then(Self::parse)
            .ok_or_else(|| Unreadable::Metadata("its answer is not understood".to_owned()))
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        for package in metadata.get("packages")?.as_array()? {
            let id = package.get("id")?.as_str()?;
            names.insert(id, package.get("name")?.as_str()?.to_owned());
        }
        let mut graph = Self::default();
        for id in metadata.get("workspace_members")?.as_array()? {
            graph.members.insert(names.get(id.as_str()?)?.clone());
        }
        for node in metadata.get("resolve")?.get("nodes")?.as_array()? {
            let name = names.get(node.get("id")?.as_str()?)?;
            let uses = graph.uses.entry(name.clone()).or_default();
            for edge in node.get("deps")?.as_array()? {
                let kinds = edge.get("dep_kinds")?.as_array()?;
                if kinds.iter().any(|k| k.get("kind") != Some(&"dev".into())) {
                    uses.insert(names.get(edge.get("pkg")?.as_str()?)?.clone());
                }
            }
        }
        Some(graph)
    }

    /// A package that is reached from `from`, directly or not, and that `wanted` names; with the
    /// way to it.
    #[must_use]
    pub fn way(&self, from: &str, wanted: &[&str]) -> Option<Vec<String>> {
        let mut seen = BTreeSet::from([from.to_owned()]);
        let mut ways = vec![vec![from.to_owned()]];
        while let Some(way) = ways.pop() {
            let last = way.last()?;
            for next in self.uses.get(last).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    let mut longer = way.clone();
                    longer.push(next.clone());
                    if wanted.contains(&next.as_str()) {
                        return Some(longer);
                    }
                    ways.push(longer);
                }
            }
        }
        None
    }
}
