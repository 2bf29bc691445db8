//! A thread of the pipeline that panics: the run fails, and it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use refloat_repository::{BlobReader as _, ChunkerChoice, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::support::*;

/// Storage that panics at the n-th read of a pack, once; never with 0.
fn panicking(inner: &SharedStorage, left: &Arc<AtomicUsize>) -> SharedStorage {
    let left = Arc::clone(left);
    let gate = move |call| {
        let counted = |n: usize| n.checked_sub(1);
        if matches!(call, Call::Read(file) if FileKey::kind(&file) == FileKind::Pack)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted) == Ok(1)
        {
            panic!("on purpose, by the test");
        }
        Ok(())
    };
    Arc::new(Intercepted::new(Arc::clone(inner), Box::new(gate)).with_connections(4))
}

/// What a backup beside an earlier one comes to, if reading the earlier one panics at the n-th tree.
fn backup_with_panic(inner: &SharedStorage, files: &Files, at: usize) -> bool {
    let left = Arc::new(AtomicUsize::new(0));
    let storage = panicking(inner, &left);
    let repository = open(&storage);
    let parent = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let previous = repository.read_tree(parent).unwrap();
    let archiver = archiver(&repository);
    left.store(at, Ordering::SeqCst);
    let ended = (|| {
        let mut builder = archiver.tree(settled(previous));
        // Whoever pushes meets the failure, or the end does.
        drop(try_push(&mut builder, files, &Arc::default()));
        let tree = builder.finish()?;
        let _root = archiver.store_directory(tree.nodes)?;
        archiver.finish().map(drop)
    })();
    let happened = left.load(Ordering::SeqCst) == 0;
    let failed = match &ended {
        Ok(()) => false,
        Err(RepositoryError::Panicked | RepositoryError::Stopped) => true,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(failed, happened, "at {at}: {ended:?}");
    happened
}

#[test]
fn a_panic_while_trees_are_read_ahead_ends_the_run_and_nobody_waits() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let mut files = Files::default();
    // Each backup makes a pack of trees, so that those of the last lie apart: of each pack one is read
    // alone and the others in a block.
    for directory in 0..12 {
        for number in 0..4 {
            let path = format!("d{directory:02}/s{number}/file");
            files.insert(path, (1, noise(900, directory * 4 + number)));
        }
        let _earlier = backup(&storage, &files);
    }
    let mut happened = 0;
    for at in 1..=12 {
        let (storage, files) = (Arc::clone(&storage), files.clone());
        let (ended, answer) = mpsc::channel();
        std::thread::spawn(move || ended.send(backup_with_panic(&storage, &files, at)));
        match answer.recv_timeout(Duration::from_secs(60)) {
            Ok(true) => happened += 1,
            Ok(false) => {}
            // The panic was on the thread of whoever pushes, who knows of it.
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("at {at}: it hangs"),
        }
    }
    assert!(happened >= 3, "{happened}");
}
