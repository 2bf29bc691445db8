//! Images for tests, made on the spot without a registry.
//!
//! Invariant: the same image is built from the same bytes on every engine of a test run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Engine, succeeded};

/// How long a service in a container may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine {
    /// Makes an image of one layer with a static busybox and all its applets; gives its id.
    ///
    /// # Panics
    /// Busybox (Debian: `busybox-static`) is not installed, or the engine refuses.
    pub fn import_busybox(&self, reference: &str) -> String {
        let root = self.folder().join("busybox");
        if !root.exists() {
            busybox_root(&root)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", root.display()));
        }
        let tar = Command::new("tar")
            .args([
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "-C",
            ])
            .arg(&root)
            .args(["-c", "."])
            .output()
            .unwrap_or_else(|error| panic!("cannot run tar: {error}"));
        assert!(tar.status.success(), "tar failed");
        let import = ["import", "-c", r#"CMD ["/bin/sh"]"#, "-", reference];
        self.docker_with_input(import, &tar.stdout);
        self.docker(["image", "inspect", "-f", "{{.Id}}", reference])
    }

    /// Builds an image from a Dockerfile and files beside it; gives its id. `FROM` may name
    /// images that the engine has; nothing is pulled.
    ///
    /// # Panics
    /// The build failed.
    pub fn build(&self, reference: &str, dockerfile: &str, files: &[(&str, &str)]) -> String {
        let context = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        for (name, content) in files.iter().chain([&("Dockerfile", dockerfile)]) {
            super::write_file(&context.path().join(name), content);
        }
        self.build_folder(reference, context.path());
        self.docker(["image", "inspect", "-f", "{{.Id}}", reference])
    }

    /// Builds the demo estate's images (`scripts/demo-images`): those named, for example
    /// `postgres:15`, and what they are made from.
    ///
    /// # Panics
    /// A build failed, or the packages cannot be downloaded.
    pub fn build_demo_images(&self, references: &[&str]) {
        let script = repository_root().join("scripts/demo-images");
        let mut command = Command::new(script);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let contexts = PathBuf::from(succeeded(&command, output));
        self.build_folder("refloat-demo/base:1", &contexts.join("base"));
        for reference in references {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            let folder = name.split(':').next().unwrap_or(name);
            self.build_folder(reference, &contexts.join(folder));
        }
    }

    fn build_folder(&self, reference: &str, folder: &Path) {
        let folder = folder.to_string_lossy().into_owned();
        self.docker(["build", "--quiet", "--tag", reference, &folder]);
    }

    /// Runs a program in the engine's network namespace until it prints `expected`.
    ///
    /// # Panics
    /// It does not within 30 s.
    pub fn await_output(&self, program: &str, arguments: &[&str], expected: &str) {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let output = self.inside(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{program} {arguments:?} printed {text:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn busybox_root(root: &Path) -> std::io::Result<()> {
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let list = Command::new(root.join("bin/busybox"))
        .arg("--list")
        .output()?;
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}
