//! What a power cut leaves of a folder that a program writes: C3.
//!
//! The program runs under `strace`, so that what is judged is what it asked the system for, and not
//! what it says of itself. From each moment of the recording every state is possible that the promises of
//! POSIX allow: content that no `fsync` of the file covered may be lost, cut, or zeros; entries of a folder
//! (created, renamed, removed) that no `fsync` of the folder covered may be there or not, each by itself and in
//! any order. File systems promise more; nothing here relies on it.
//!
//! Invariant: a state holds everything that was synchronised before its moment.

mod disk;
mod trace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use disk::{Disk, Remains};

use crate::random::Random;

/// A program's changes to a folder, in the order in which the system carried them out.
#[derive(Debug)]
pub struct Recording {
    before: Disk,
    calls: Vec<trace::Call>,
}

/// One thing that a power cut may leave.
#[derive(Debug)]
pub struct State {
    /// After how many calls.
    pub after: usize,
    /// The calls that were carried out last, for messages.
    pub last: String,
    /// Files by path below the folder, and folders, which hold nothing.
    pub files: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Recording {
    /// Runs a program and records what it does to `folder`; none, after saying so, where `strace` is not
    /// installed. Everything that is there before counts as synchronised.
    ///
    /// # Panics
    /// `strace` fails, or the program does something that the model does not know.
    #[must_use]
    pub fn of(folder: &Path, program: &Command) -> Option<(Self, Output)> {
        if Command::new("strace").arg("--version").output().is_err() {
            crate::skip("strace is not installed: no power cuts");
            return None;
        }
        let folder = std::path::absolute(folder).unwrap();
        let before = Disk::of(&folder);
        let (calls, output) = trace::record(&folder, program);
        Some((Self { before, calls }, output))
    }

    /// How many calls changed or synchronised something.
    #[must_use]
    pub const fn calls(&self) -> usize {
        self.calls.len()
    }

    /// States that differ, from all moments; at most `random_each` of each are by chance, beside
    /// the extremes: nothing that is not promised is there, everything is, or all but one.
    #[must_use]
    pub fn states(&self, random_each: usize, seed: u64) -> Vec<State> {
        let mut random = Random::new(seed);
        let mut seen = std::collections::HashSet::new();
        let mut states = Vec::new();
        let mut disk = self.before.clone();
        for after in 0..=self.calls.len() {
            if after > 0 {
                disk.apply(&self.calls[after - 1]);
            }
            // What is left after the end is judged as that, even if it was possible before: a last
            // call may take back what another one did.
            if after == self.calls.len() {
                seen.clear();
            }
            let last = after
                .checked_sub(1)
                .map(|number| self.calls[number].to_string());
            for remains in disk.choices(random_each, &mut random) {
                let files = disk.after_cut(&remains);
                if seen.insert(files.clone()) {
                    let last = last.clone().unwrap_or_else(|| "nothing".to_owned());
                    states.push(State { after, last, files });
                }
            }
        }
        states
    }

    /// The states after the program's end.
    #[must_use]
    pub fn is_end(&self, state: &State) -> bool {
        state.after == self.calls.len()
    }
}

impl State {
    /// Writes it into an empty folder; all files are as old as `modified`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, folder: &Path, modified: std::time::SystemTime) {
        for (path, content) in &self.files {
            let path = folder.join(path);
            match content {
                None => std::fs::create_dir_all(&path).unwrap(),
                Some(bytes) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, bytes).unwrap();
                    let file = std::fs::File::open(&path).unwrap();
                    file.set_modified(modified).unwrap();
                }
            }
        }
    }
}
