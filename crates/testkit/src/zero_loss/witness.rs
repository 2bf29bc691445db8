//! restic's opinion of a sample of states.
//!
//! Invariant: every fiftieth state and every state of a kind not seen before is looked at, until the
//! limit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKind, Storage};

/// Of so many states one is looked at.
const ONE_OF: u64 = 50;
/// How many are looked at because of their kind, at most: each costs a second.
const KINDS_MAX: usize = 24;

/// Asks restic.
pub struct Witness {
    password: String,
    seen: Mutex<(u64, BTreeSet<Vec<usize>>, u64)>,
    is_there: bool,
}

impl Witness {
    /// A witness who knows the password.
    #[must_use]
    pub fn new(password: &str) -> Self {
        let is_there = Command::new("restic").arg("version").output().is_ok();
        if !is_there {
            crate::skip("restic is not installed");
        }
        Self {
            password: password.to_owned(),
            seen: Mutex::default(),
            is_there,
        }
    }

    /// Lets restic read all data of a state, if it is one of the sample.
    ///
    /// # Panics
    /// restic finds an error.
    pub fn see(&self, storage: &dyn Storage, what: &str) {
        if !self.is_there || !self.wants(storage) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        copy_files(storage, folder.path());
        let output = Command::new("restic")
            .args(["--no-cache", "check", "--read-data", "--no-lock", "-r"])
            .arg(folder.path())
            .env("RESTIC_PASSWORD", &self.password)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{what}: restic: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// How many states were looked at.
    pub fn count(&self) -> u64 {
        self.seen.lock().unwrap().2
    }

    fn wants(&self, storage: &dyn Storage) -> bool {
        let kinds = FileKind::FOLDERS.map(|kind| storage.list(kind).unwrap().len());
        let mut seen = self.seen.lock().unwrap();
        seen.0 += 1;
        let is_new = seen.1.len() < KINDS_MAX && seen.1.insert(kinds.to_vec());
        let wanted = is_new || seen.0.is_multiple_of(ONE_OF);
        seen.2 += u64::from(wanted);
        wanted
    }
}

/// Writes a repository's files into a folder.
fn copy_files(storage: &dyn Storage, folder: &Path) {
    let target = LocalStorage::new(folder);
    target.create().unwrap();
    let config = refloat_storage::FileKey::CONFIG;
    target
        .write(&config, &storage.read(&config).unwrap())
        .unwrap();
    for kind in FileKind::FOLDERS {
        for file in storage.list(kind).unwrap() {
            let bytes = storage.read(&file.key).unwrap();
            target.write(&file.key, &bytes).unwrap();
        }
    }
}
