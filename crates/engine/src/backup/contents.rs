//! Contents of earlier points by their digests, for sources that know the digest of what they are
//! about to read: a layer of one image repository need not be downloaded again for another.
//!
//! What an earlier run got of an item before that broke off counts too: each file by itself is
//! whole, whatever else is missing.
//!
//! Invariant: only folders that a source vouches for, in copies of this system, are looked into;
//! whatever cannot be read costs reading it again and nothing else.

use std::sync::Arc;

use refloat_model::tree_path::TreePath;
use refloat_repository::archive::{ContentIndex, EarlierContents, KnownContent};
use refloat_repository::{BlobId, BlobReader as _, IndexedRepository, Node};
use refloat_source::Source;

use super::parents::Parents;
use super::plan::BackupPlan;

/// A folder of an earlier copy: its item's tree, and the way from there.
type Folder = (BlobId, Vec<Vec<u8>>);

/// What earlier points hold of the plan's items, read when first asked for.
pub fn earlier(
    repository: &IndexedRepository,
    sources: &[Arc<dyn Source>],
    plan: &BackupPlan,
    parents: &Parents,
) -> EarlierContents {
    let mut folders: Vec<Folder> = Vec::new();
    for planned in &plan.sources {
        let source = sources
            .iter()
            .find(|s| s.description().name == planned.name);
        let Some(source) = source else { continue };
        for item in planned.groups.iter().flat_map(|group| group.items()) {
            let parent = parents.by_path.get(&item.path).map(|parent| &parent.node);
            let part = parents.parts.get(&item.path).map(|part| &part.node);
            for tree in parent
                .into_iter()
                .chain(part)
                .filter_map(|node| node.subtree)
            {
                let below = |folder: TreePath| {
                    let way = folder.components().get(item.path.components().len()..)?;
                    Some((tree, way.iter().map(|name| name.to_vec()).collect()))
                };
                folders.extend(source.content_folders(item).into_iter().filter_map(below));
            }
        }
    }
    let repository = repository.clone();
    Box::new(move || {
        let mut index = ContentIndex::new();
        for (tree, way) in &folders {
            add(&repository, *tree, way, &mut index);
        }
        index
    })
}

fn add(repository: &IndexedRepository, tree: BlobId, way: &[Vec<u8>], index: &mut ContentIndex) {
    for (sha256, node) in files(repository, tree, way) {
        let (content, size) = (Arc::clone(&node.content), node.size());
        index.insert(sha256, KnownContent { content, size });
    }
}

/// The files of a folder below `tree` that are named by their digests; none if it cannot be read.
pub fn files(
    repository: &IndexedRepository,
    tree: BlobId,
    way: &[Vec<u8>],
) -> Vec<([u8; 32], Node)> {
    let mut tree = tree;
    for name in way {
        let nodes = repository.read_tree(tree).unwrap_or_default();
        let node = nodes
            .into_iter()
            .find(|node| node.name() == name.as_slice());
        match node.and_then(|node| node.subtree) {
            Some(below) => tree = below,
            None => return Vec::new(),
        }
    }
    let nodes = repository.read_tree(tree).unwrap_or_default().into_iter();
    nodes
        .filter_map(|node| Some((digest(node.name())?, node)))
        .collect()
}

/// The digest that a name of 64 hexadecimal digits means.
fn digest(name: &[u8]) -> Option<[u8; 32]> {
    let mut sha256 = [0; 32];
    if name.len() != 64 {
        return None;
    }
    for (byte, pair) in sha256.iter_mut().zip(name.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(sha256)
}
