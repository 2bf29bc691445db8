//! A hermetic place to run `refloat` in: an own folder, an empty environment, fixed names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// What must not depend on the machine or the moment.
const FILTERS: [(&str, &str); 11] = [
    (r"\b[0-9a-f]{64}\b", "[ID64]"),
    (r"\b[0-9a-f]{32}\b", "[ID32]"),
    (r"\b[0-9a-f]{8}\b", "[ID8]"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "[TIME]"),
    (r"\bin \d+\.\d s", "in [DURATION]"),
    (r#""milliseconds": \d+"#, r#""milliseconds": [N]"#),
    (
        r"\d+(\.\d+)? (B|KiB) of it new, stored as \d+(\.\d+)? (B|KiB)",
        "[NEW] of it new, stored as [STORED]",
    ),
    (r#""bytes_(added|stored)": \d+"#, r#""bytes_$1": [N]"#),
    // Columns are as wide as the temporary folder's name; packs are filled at random.
    (r" {2,}", "  "),
    (r"\d+ packs?", "[N] packs"),
    (
        r"\d+(\.\d+)? (B|KiB) of \d+(\.\d+)? (B|KiB) read",
        "[READ] of [LISTED] read",
    ),
];

/// The place.
pub struct CliEnv {
    folder: TempDir,
    password: String,
}

/// Checks what a command printed and how it ended.
macro_rules! assert_cli {
    ($env:expr, $name:literal, $($arg:expr),+ $(,)?) => {{
        let text = $env.run(&[$($arg),+]);
        insta::with_settings!({ filters => $crate::cli_env::filters(), prepend_module_to_snapshot => true }, {
            insta::assert_snapshot!($name, text);
        });
    }};
}
pub(crate) use assert_cli;

/// For `insta`.
pub fn filters() -> Vec<(&'static str, &'static str)> {
    FILTERS.to_vec()
}

impl CliEnv {
    /// An empty place.
    pub fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            password: "secret words".to_owned(),
        }
    }

    /// A place with a repository in `repo`.
    pub fn with_repository() -> Self {
        let env = Self::new();
        env.succeed(&["init"]);
        env
    }

    /// A place with a repository and a small tree in `data`.
    pub fn with_data() -> Self {
        let env = Self::with_repository();
        env.write("data/readme.txt", "hello\n");
        env.write("data/sub/numbers", &"0123456789".repeat(1000));
        std::os::unix::fs::symlink("readme.txt", env.path("data/link")).unwrap();
        env
    }

    /// A path in the place.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Uses another password from now on; none if it is empty.
    pub fn set_password(&mut self, password: &str) {
        self.password = password.to_owned();
    }

    /// The command, ready to be changed and run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_refloat"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("REFLOAT_REPOSITORY", "repo")
            .stdin(Stdio::null());
        if !self.password.is_empty() {
            command.env("REFLOAT_PASSWORD", &self.password);
        }
        command
    }

    /// Runs a command and gives everything that is visible of it.
    pub fn run(&self, args: &[&str]) -> String {
        self.show(&self.command(args).output().unwrap())
    }

    /// The exit code and all that was printed.
    pub fn outcome(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).output().unwrap();
        (output.status.code().unwrap_or(-1), self.show(&output))
    }

    /// Everything that is visible of a command's end.
    pub fn show(&self, output: &Output) -> String {
        let text = format!(
            "exit code: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        text.replace(&self.folder.path().display().to_string(), "[TMP]")
    }

    /// Runs a command that must end with 0, and gives its standard output.
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", self.show(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with `--json` and gives its document.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.command(args).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", self.show(&output)))
    }

    /// The command on two processors: memory follows the number of threads.
    pub fn pinned(&self, args: &[&str]) -> Command {
        let command = self.command(args);
        let mut pinned = Command::new("taskset");
        pinned
            .args(["--cpu-list", "0,1"])
            .arg(command.get_program());
        pinned.args(command.get_args()).env_clear();
        pinned.current_dir(command.get_current_dir().unwrap());
        pinned.env("PATH", "/usr/bin:/bin");
        for (name, value) in command.get_envs() {
            pinned.env(name, value.unwrap());
        }
        pinned
    }

    /// The exit code of a command.
    pub fn code(&self, args: &[&str]) -> i32 {
        self.command(args).output().unwrap().status.code().unwrap()
    }

    /// Makes a point of `data` under a fixed host name.
    pub fn back_up(&self) -> String {
        let source = format!("files:{}", self.path("data").display());
        self.succeed(&["backup", "--host", "testhost", "--source", &source])
    }
}

/// Names, kinds, modes and contents of everything below a folder, sorted.
pub fn tree(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_dir() {
                waiting.push(path.clone());
                String::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            lines.push(format!(
                "{} {:o} {}.{} {content}",
                path.strip_prefix(folder).unwrap().display(),
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
        }
    }
    lines.sort();
    lines
}
