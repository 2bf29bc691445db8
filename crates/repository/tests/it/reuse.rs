//! Taking an entry over with everything below it: only if everything below it is there. Taking a file
//! over unread: only if its times would tell of a change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use refloat_model::entry::TreeSink as _;
use refloat_model::time::Timestamp;
use refloat_repository::archive::{ParentTree, TreeStatistics};
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
        let mut builder = archiver.tree(settled(repository.read_tree(root).unwrap()));
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

/// A backup of one file beside a parent that began at `begun`: how often it was read, and the counts.
fn beside(storage: &SharedStorage, begun: i64, file: &Files) -> (usize, TreeStatistics, Vec<u8>) {
    let repository = open(storage);
    let nodes = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let nodes = repository.read_tree(nodes).unwrap();
    let archiver = archiver(&repository);
    let begun = Timestamp {
        seconds: begun,
        nanoseconds: 0,
    };
    let mut builder = archiver.tree(vec![ParentTree { nodes, begun }]);
    let reads = Arc::default();
    push(&mut builder, file, &reads);
    let tree = builder.finish().unwrap();
    let content = tree.nodes[0].content[0];
    let before = repository.clone();
    drop(archiver.finish().unwrap());
    let repository = before.reload().unwrap();
    let content = repository.read_blob(BlobKind::Data, content).unwrap();
    (reads.load(Ordering::SeqCst), tree.statistics, content)
}

#[test]
fn a_file_whose_times_could_not_tell_of_a_change_is_read_again() {
    let file = |content: &[u8]| Files::from([("f".to_owned(), (1_000_000, content.to_vec()))]);
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let _first = backup(&storage, &file(b"before"));
    // Of times that lie in the future of the run, on it, shortly before it, and long before it.
    for (begun, is_read) in [
        (0, true),
        (999_000, true),
        (1_000_000, true),
        (1_000_059, true),
        (1_000_060, false),
        (2_000_000, false),
    ] {
        for content in [b"before", b"behind"] {
            let (reads, statistics, stored) = beside(&storage, begun, &file(content));
            assert_eq!(reads, usize::from(is_read), "{begun}");
            let expected = if is_read { content } else { b"before" };
            assert_eq!(stored, expected, "{begun}");
            // What is found to be as before counts as that.
            let is_unmodified = stored == b"before";
            assert_eq!(
                (statistics.files_unmodified, statistics.files_changed),
                (u64::from(is_unmodified), u64::from(!is_unmodified)),
                "{begun}"
            );
        }
    }
}
