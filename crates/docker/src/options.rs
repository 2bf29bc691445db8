//! What a policy wants of a Docker host.
//!
//! Invariant: the defaults capture everything that cannot be made again and change no workload.

use std::path::PathBuf;
use std::time::Duration;

use refloat_model::glob::Glob;

use crate::client::ConnectOptions;
use crate::consistency::Consistency;

/// How one Docker host is captured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the engine is reached.
    pub connect: ConnectOptions,
    /// Projects and containers to capture, by name; empty means all, with everything that is
    /// in no use at all.
    pub select: Vec<Glob>,
    /// Projects and containers to leave out, by name.
    pub exclude: Vec<Glob>,
    /// Which images are captured.
    pub images: ImageSelection,
    /// What happens to data in containers' own filesystems.
    pub rootfs: RootfsSelection,
    /// Host paths of bind mounts that are left out, beside those that are never captured.
    pub exclude_binds: Vec<Glob>,
    /// How volume data is read.
    pub volume_access: VolumeAccess,
    /// What is done for consistency with containers of these names, where their labels say
    /// nothing. The first pattern that fits counts.
    pub consistency: Vec<(Glob, Consistency)>,
    /// How long a command before or after may take.
    pub command_timeout: Duration,
    /// How long a dump may be silent.
    pub dump_silence_max: Duration,
    /// Where the engine's settings are, when the engine is on this machine.
    pub daemon_file: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            select: Vec::new(),
            exclude: Vec::new(),
            images: ImageSelection::default(),
            rootfs: RootfsSelection::default(),
            exclude_binds: Vec::new(),
            volume_access: VolumeAccess::default(),
            consistency: Vec::new(),
            command_timeout: Duration::from_secs(300),
            dump_silence_max: Duration::from_secs(900),
            daemon_file: PathBuf::from("/etc/docker/daemon.json"),
        }
    }
}

/// Which images are captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ImageSelection {
    /// Those that a captured container was made from.
    #[default]
    InUse,
    /// All that have a name or are in use.
    All,
    /// None: they are expected to be in a registry. Each one in use is a missing reference.
    None,
}

/// What happens to data that was written into a container's own filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RootfsSelection {
    /// It is looked for and reported.
    #[default]
    Report,
    /// It is looked for and captured.
    Save,
    /// It is not looked for: the look costs time on hosts with many files.
    Ignore,
}

/// How volume data is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VolumeAccess {
    /// Directly where the folder is reachable, else through the engine.
    #[default]
    Auto,
    /// Through the engine always.
    Engine,
}

impl Options {
    /// Whether a policy selects a container, by its own or its project's name.
    pub(crate) fn selects(&self, container: &str, project: Option<&str>) -> bool {
        let fits = |globs: &[Glob]| {
            globs
                .iter()
                .any(|glob| glob.matches(container) || project.is_some_and(|p| glob.matches(p)))
        };
        (self.select.is_empty() || fits(&self.select)) && !fits(&self.exclude)
    }

    /// What the policy says for a container whose labels say nothing.
    pub(crate) fn consistency_for(&self, container: &str) -> Consistency {
        self.consistency
            .iter()
            .find(|(glob, _)| glob.matches(container))
            .map(|(_, consistency)| consistency.clone())
            .unwrap_or_default()
    }
}
