//! Files that become something else while they wait to be read.

use std::io;
use std::sync::Arc;

use refloat_model::entry::{Content, EntryKind, Opened, Reader, Solid, TreeSink as _};
use refloat_repository::{BlobKind, BlobReader as _, ChunkerChoice};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use crate::support::*;

/// A file that was listed, and what it is when it is opened; none if it is gone.
struct Live(Option<&'static str>);

impl Content for Live {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
        Err(io::Error::other("it was replaced"))
    }

    fn open_now(self: Box<Self>) -> io::Result<Opened> {
        let Some(content) = self.0 else {
            return Ok(Opened::Gone);
        };
        let mut entry = real_file("replaced", 200, content.len());
        entry.metadata.mode = 0o604;
        entry.metadata.accessed.seconds = 7;
        let reader = Solid(io::Cursor::new(content));
        Ok(Opened::Replaced(Box::new(entry), Box::new(reader)))
    }
}

#[test]
fn a_replaced_file_is_stored_as_it_is_now_and_a_deleted_one_is_no_failure() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let backup = backup_with(&storage, |builder| {
        for (name, now) in [("gone", None), ("replaced", Some("what it is now"))] {
            let file = real_file(name, 100, 3);
            builder.file(file, Box::new(Live(now))).unwrap();
        }
    });
    let tree = &backup.tree;
    assert_eq!((tree.failure_count, tree.failures.len()), (0, 0));
    let statistics = tree.statistics;
    assert_eq!((statistics.files_new, statistics.files_vanished), (1, 1));
    assert_eq!(statistics.bytes, 14);
    let [node] = tree.nodes.as_slice() else {
        panic!("{:?}", tree.nodes);
    };
    let entry = &node.entry;
    assert_eq!(
        (entry.name.as_slice(), &entry.kind),
        (&b"replaced"[..], &EntryKind::File { size: 14 })
    );
    assert_eq!(
        (entry.metadata.mode, entry.metadata.modified.seconds),
        (0o604, 200)
    );
    // In the form of all others.
    assert_eq!(entry.metadata.accessed, entry.metadata.modified);
    let repository = open(&storage).into_indexed().unwrap();
    let content = repository.read_blob(BlobKind::Data, node.content[0]);
    assert_eq!(content.unwrap(), b"what it is now");
}
