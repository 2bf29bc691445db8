//! Running a program with so much memory and no more, by a control group of its own.
//!
//! Invariant: the limit is the kernel's and counts what cannot be taken back, as for a container.

use std::path::PathBuf;
use std::process::Command;

/// Where control groups of the first and the second version are.
const ROOTS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.max"),
];

/// A control group. Removed when it is dropped.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    file: &'static str,
}

impl MemoryLimit {
    /// A new group; none, after saying so, where groups cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let name = format!("refloat-{name}-{}", std::process::id());
        for (root, file) in ROOTS {
            let folder = PathBuf::from(root).join(&name);
            if std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder, file };
            if group.set(u64::from(u32::MAX)) {
                return Some(group);
            }
        }
        crate::skip("no control group can be made: no limits of memory");
        None
    }

    /// Sets the limit in bytes; whether the kernel took it.
    #[must_use]
    pub fn set(&self, bytes: u64) -> bool {
        std::fs::write(self.folder.join(self.file), bytes.to_string()).is_ok()
    }

    /// The command, which puts itself into the group before it becomes the program.
    #[must_use]
    pub fn around(&self, program: &Command) -> Command {
        let mut command = Command::new("/bin/sh");
        let procs = self.folder.join("cgroup.procs");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(procs)
            .arg(program.get_program())
            .args(program.get_args())
            .env_clear();
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        let set = program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        command.envs(set);
        command
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel refuses while somebody is still in it; a later run has another name.
        let _left = std::fs::remove_dir(&self.folder);
    }
}
