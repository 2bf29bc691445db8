//! restic as an independent witness: it must find in order what we wrote, and we must read what
//! it wrote.
//!
//! Invariant: no call reads or writes the user's caches, configuration or environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A restic program with a repository of its own world: no cache, no inherited environment.
#[derive(Clone, Debug)]
pub struct Restic {
    program: PathBuf,
    repository: OsString,
    password: String,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
}

/// A restic repository format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatVersion {
    /// Without compression.
    V1,
    /// With compression.
    V2,
}

/// What a call of restic did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The arguments, for messages.
    pub arguments: Vec<OsString>,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What `restic check` says of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckReport {
    /// Exit code 0 and no complaint.
    pub is_clean: bool,
    /// Errors: something is lost or damaged.
    pub complaints: Vec<String>,
    /// What a crash may leave and prune removes: packs that no index names, duplicates.
    pub remarks: Vec<String>,
    /// Everything, for messages.
    pub outcome: Outcome,
}

impl Outcome {
    /// Passes a success on.
    ///
    /// # Panics
    /// restic did not end with exit code 0; the message shows what it printed.
    #[must_use]
    pub fn require(self) -> Self {
        assert!(
            self.code == Some(0),
            "restic {:?} ended with {:?}\n{}\n{}",
            self.arguments,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }
}

impl Restic {
    /// restic from `PATH`, or the program that `REFLOAT_TEST_RESTIC` names.
    ///
    /// None, after a visible skip, if there is none on this machine.
    ///
    /// # Panics
    /// There is none and `REFLOAT_TEST_ALL` is `1`.
    #[must_use]
    pub fn find(repository: &Path, password: &str) -> Option<Self> {
        let named = std::env::var_os("REFLOAT_TEST_RESTIC").map(PathBuf::from);
        let Some(program) = named.or_else(|| in_path("restic")) else {
            crate::skip("restic is not installed: no independent check of the repository");
            return None;
        };
        Some(Self {
            program,
            repository: repository.as_os_str().to_owned(),
            password: password.to_owned(),
            environment: Vec::new(),
            flags: Vec::new(),
        })
    }

    /// The same for a repository on another machine, with what its service needs.
    ///
    /// # Panics
    /// As for [`find`](Self::find).
    #[must_use]
    pub fn find_remote(
        address: &str,
        password: &str,
        environment: &[(&str, &str)],
        flags: &[&str],
    ) -> Option<Self> {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        Some(Self {
            environment: environment.iter().map(owned).collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Self::find(Path::new(address), password)?
        })
    }

    /// Its version: `0.14.0`.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn version(&self) -> String {
        let outcome = self.run(["version"]).require();
        let version = outcome.stdout.split_whitespace().nth(1);
        version.expect("restic version prints one").to_owned()
    }

    /// Makes a repository.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn init(&self, version: FormatVersion) {
        let version = match version {
            FormatVersion::V1 => "1",
            FormatVersion::V2 => "2",
        };
        let _done = self
            .run(["init", "--repository-version", version])
            .require();
    }

    /// Backs a folder up; more arguments as restic takes them. Paths are taken relative to the
    /// folder, so the snapshot's tree has the folder's entries at its root.
    pub fn backup(&self, folder: &Path, arguments: &[&str]) -> Outcome {
        let mut command = self.command();
        command.current_dir(folder);
        command.args(["backup", "--host", "refloat-test"]);
        command.args(arguments).arg(".");
        run(command)
    }

    /// Restores a snapshot (an id, its start, or `latest`) into a folder.
    pub fn restore(&self, snapshot: &str, target: &Path, arguments: &[&str]) -> Outcome {
        let mut command = self.command();
        command.args(["restore", "--no-lock", snapshot, "--target"]);
        command.arg(target).args(arguments);
        run(command)
    }

    /// Reads the whole repository without locking it: `restic check --read-data --no-lock`.
    #[must_use]
    pub fn check_read_data(&self) -> CheckReport {
        self.check(&["--read-data", "--no-lock"])
    }

    /// Checks with these arguments.
    ///
    /// Reading packs that are cut or gone takes restic 40 s and more of useless retries; without
    /// `--read-data` it finds them at once.
    #[must_use]
    pub fn check(&self, arguments: &[&str]) -> CheckReport {
        let mut command = self.command();
        command.arg("check").args(arguments);
        let outcome = run(command);
        let of = |text: &str, is_wanted: fn(&str) -> bool| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.is_empty());
            let wanted = lines.filter(|line| is_wanted(line));
            wanted.map(str::to_owned).collect()
        };
        let complaints = of(&outcome.stderr, |line| !is_remark(line));
        let mut remarks = of(&outcome.stdout, is_remark);
        remarks.extend(of(&outcome.stderr, is_remark));
        CheckReport {
            is_clean: outcome.code == Some(0) && complaints.is_empty(),
            complaints,
            remarks,
            outcome,
        }
    }

    /// The ids of all snapshots, sorted.
    ///
    /// # Panics
    /// They cannot be listed.
    #[must_use]
    pub fn snapshots(&self) -> Vec<String> {
        let listed = self
            .run(["list", "snapshots", "--no-lock", "--quiet"])
            .require();
        let mut ids: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    }

    /// Runs restic with any arguments.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = self.command();
        command.args(arguments);
        run(command)
    }

    /// A command with the environment and the repository, without a verb.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // restic wants a home even without a cache; this one cannot be written to.
            .env("HOME", "/nonexistent")
            .env("TMPDIR", std::env::temp_dir())
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .env("RESTIC_PASSWORD", &self.password)
            .env("RESTIC_REPOSITORY", &self.repository)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg("--no-cache")
            .args(&self.flags);
        command
    }
}

fn run(mut command: Command) -> Outcome {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    Outcome {
        arguments: command.get_args().map(OsStr::to_owned).collect(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Lines that name waste, not loss; some versions print them among the errors.
fn is_remark(line: &str) -> bool {
    const WASTE: [&str; 6] = [
        "not referenced in any index",
        "additional files were found",
        "restic prune",
        "contained in several indexes",
        "mixed data and tree blobs",
        "unused blob",
    ];
    WASTE.iter().any(|waste| line.contains(waste))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
