//! Taking an entry over with everything below it: only if everything below it is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use refloat_model::entry::TreeSink as _;
use refloat_repository::{BlobKind, BlobReader as _, ChunkerChoice, PackId};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::oracle::*;
use crate::support::*;

/// Two entries of large files in directories below them, in packs of their own.
fn files() -> Files {
    let names = ["first/deep/er/file", "first/other", "second/deep/file"];
    let file = |(number, name): (usize, &str)| {
        let content = noise(1_500_000, number as u64);
        (name.to_owned(), (1, content))
    };
    names.into_iter().enumerate().map(file).collect()
}

#[test]
fn an_entry_is_taken_over_only_if_nothing_below_it_is_lost() {
    let original = Arc::new(MemoryStorage::new());
    let storage: SharedStorage = Arc::clone(&original) as SharedStorage;
    drop(init(&storage, ChunkerChoice::Gear));
    let _whole = backup(&storage, &files());
    let repository = open(&storage).into_indexed().unwrap();
    let root = newest_tree(&repository);
    let packs: BTreeSet<PackId> = repository.index().packs().iter().copied().collect();
    let mut refused = 0;
    for lost in packs.iter().map(Some).chain([None]) {
        // What is needed below each entry, found the slow way.
        let needs = |name: &str| {
            let mut open = vec![];
            for node in repository.read_tree(root).unwrap() {
                if node.name() == name.as_bytes() {
                    open.push(node);
                }
            }
            let mut needed = BTreeSet::new();
            while let Some(node) = open.pop() {
                let content = node.content.iter().map(|blob| (BlobKind::Data, *blob));
                let subtree = node.subtree.map(|tree| (BlobKind::Tree, tree));
                for (kind, blob) in content.chain(subtree) {
                    needed.insert(repository.index().get(kind, &blob).unwrap().pack);
                }
                open.extend(
                    node.subtree
                        .into_iter()
                        .flat_map(|t| repository.read_tree(t).unwrap()),
                );
            }
            needed
        };
        let copy: SharedStorage = Arc::new(original.duplicate());
        if let Some(pack) = lost {
            copy.delete(&FileKey::new(FileKind::Pack, pack.0)).unwrap();
        }
        let swap = Swap::new(&copy);
        let damaged = open(&swap.shared()).into_indexed().unwrap();
        let archiver = archiver(&damaged);
        // The entries of the root are known, whatever became of its tree.
        let mut builder = archiver.tree(repository.read_tree(root).unwrap());
        for name in ["first", "second"] {
            let is_whole = lost.is_none_or(|pack| !needs(name).contains(pack));
            let taken = builder.reuse(name.as_bytes()).unwrap();
            assert_eq!(taken, is_whole, "{name} without {lost:?}");
            refused += usize::from(!taken);
        }
        assert!(!builder.reuse(b"third").unwrap(), "there is none");
    }
    assert!(refused >= 3, "{refused}");
}
