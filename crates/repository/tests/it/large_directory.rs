//! A directory whose tree would be larger than what is read back.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::archive::{ArchiveOptions, Archiver};
use refloat_repository::{ChunkerChoice, RepositoryError};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use crate::support::*;

#[test]
fn it_is_named_with_the_reason_and_all_else_is_stored() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let repository = open(&storage).into_indexed().unwrap();
    let options = ArchiveOptions {
        tree_bytes_max: 4000,
        ..ArchiveOptions::default()
    };
    let counters = Arc::new(Counters::default());
    let archiver =
        Archiver::start(repository.clone(), options, counters, Cancel::default()).unwrap();
    let mut files: Files = (0..50)
        .map(|number| (format!("large/{number}"), (100, b"x".to_vec())))
        .collect();
    files.insert("small/f".to_owned(), (100, b"kept".to_vec()));
    let mut builder = archiver.tree(Vec::new());
    push(&mut builder, &files, &Arc::default());
    let tree = builder.finish().unwrap();
    let names: Vec<_> = tree.nodes.iter().map(|node| node.name()).collect();
    assert_eq!(names, [b"small"]);
    assert_eq!(tree.failure_count, 1);
    let failure = &tree.failures[0];
    assert_eq!(failure.path, b"large");
    let max = "more than the 4000 of the largest directory that can be read back";
    assert!(failure.reason.ends_with(max), "{}", failure.reason);
    // Where there is no directory above it, the run ends with the reason.
    let node = tree.nodes[0].clone();
    let many = (0..50).map(|number| {
        let mut node = node.clone();
        node.entry.name = number.to_string().into_bytes();
        node
    });
    let error = archiver.store_directory(many.collect()).unwrap_err();
    assert!(
        matches!(error, RepositoryError::TreeTooLarge { max: 4000, .. }),
        "{error}"
    );
    drop(archiver.finish().unwrap());
}
