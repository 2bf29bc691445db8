//! Walking: what is told of each entry, what is left out, what fails.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use refloat_localfs::walk::{Caches, CandidateKind, Mounts};
use refloat_localfs::{WalkError, WalkOptions, WalkSummary, walk_contents, walk_entry};
use refloat_model::cancel::Cancel;
use refloat_model::entry::EntryKind;

use crate::recorder::Recorder;

fn walk(folder: &Path, options: &WalkOptions<'_>) -> (Recorder, WalkSummary) {
    let mut sink = Recorder::new();
    let summary = walk_contents(folder, options, &mut sink, &Cancel::default()).unwrap();
    assert_eq!(sink.depth(), 0, "every directory is left again");
    (sink, summary)
}

#[test]
fn walks_a_hundred_thousand_files_quickly() {
    let folder = tempfile::tempdir().unwrap();
    for d in 0..100 {
        let directory = folder.path().join(format!("d{d}"));
        fs::create_dir(&directory).unwrap();
        for f in 0..1000 {
            fs::write(directory.join(format!("f{f}")), b"").unwrap();
        }
    }
    let mut sink = Counter::default();
    let start = Instant::now();
    let options = WalkOptions::default();
    let summary = walk_contents(folder.path(), &options, &mut sink, &Cancel::default()).unwrap();
    let elapsed = start.elapsed();
    println!("100,000 files walked in {elapsed:?}");
    assert_eq!(
        (summary.files, summary.directories, summary.failed),
        (100_000, 100, 0)
    );
    assert_eq!(sink.0, 100_000);
    // Generous: shared machines are slow at times. The aim is well under one second.
    assert!(elapsed.as_secs() < 10, "{elapsed:?}");
}

#[derive(Default)]
struct Counter(u64);

impl refloat_model::entry::TreeSink for Counter {
    fn enter(
        &mut self,
        _: refloat_model::entry::Entry,
    ) -> Result<(), refloat_model::entry::SinkError> {
        Ok(())
    }
    fn leave(&mut self) -> Result<(), refloat_model::entry::SinkError> {
        Ok(())
    }
    fn file(
        &mut self,
        _: refloat_model::entry::Entry,
        _: Box<dyn refloat_model::entry::Content>,
    ) -> Result<(), refloat_model::entry::SinkError> {
        self.0 += 1;
        Ok(())
    }
    fn stream(
        &mut self,
        _: refloat_model::entry::Entry,
        _: &mut dyn std::io::Read,
    ) -> Result<(), refloat_model::entry::SinkError> {
        Ok(())
    }
    fn node(
        &mut self,
        _: refloat_model::entry::Entry,
    ) -> Result<(), refloat_model::entry::SinkError> {
        Ok(())
    }
    fn reuse(&mut self, _: &[u8]) -> Result<bool, refloat_model::entry::SinkError> {
        Ok(false)
    }
    fn fail(&mut self, _: &[u8], _: String) {}
}
