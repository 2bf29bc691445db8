//! Plays the container and the adapter: runs commands, starts servers, ends them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use refloat_database::{
    Accepted, Container, DumpRejected, DumpRestore, DumpStep, Exec, Input, Recipe, RestoreStep,
    StepRejected,
};
use refloat_testkit::skip;
use tempfile::TempDir;

/// Where Debian keeps servers.
const PATH: &str = "/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Whether the programs are there; says so if not.
pub fn installed(programs: &[&str]) -> bool {
    let found = |program: &str| {
        PATH.split(':')
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let missing: Vec<_> = programs.iter().filter(|program| !found(program)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("{missing:?} are not installed"));
    false
}

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i64>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A server in a folder of its own, and the "container" it runs in.
pub struct Server {
    pub folder: TempDir,
    pub environment: Vec<String>,
    pub recipe: Recipe,
    command: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A place for a server that does not run yet.
    pub fn new(folder: TempDir, image: &str, environment: Vec<String>, command: &[String]) -> Self {
        let container = Container {
            image,
            environment: &environment,
            command,
        };
        Self {
            recipe: Recipe::recognise(&container).unwrap(),
            folder,
            environment,
            command: command.to_vec(),
            process: None,
        }
    }

    /// A "container" whose only programs are these shell scripts, and a few that they and the
    /// recipes call; what the scripts note is in the folder, which is their `$HOME`.
    pub fn of_stubs(
        image: &str,
        environment: &[&str],
        command: &[&str],
        stubs: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for program in ["sh", "cat", "sed"] {
            symlink(format!("/bin/{program}"), folder.path().join(program)).unwrap();
        }
        for (name, script) in stubs {
            let file = folder.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = folder.path().to_str().unwrap().to_owned();
        let mut variables = vec![format!("HOME={path}"), format!("PATH={path}")];
        variables.extend(words(environment));
        Self::new(folder, image, variables, &words(command))
    }

    /// What a stub noted.
    pub fn noted(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    /// Starts the server and waits until the recipe calls it ready.
    pub fn start(&mut self, user: Option<&str>) {
        let command = self.command.clone();
        self.start_as(&command, user);
    }

    /// The same with another command than the "container's" definition shows.
    pub fn start_as(&mut self, command: &[String], user: Option<&str>) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = as_user(user, command);
        command.env("PATH", PATH).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        let mut last = self.run(&self.recipe.readiness(), b"");
        while last.code != Some(0) {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            assert!(
                begun.elapsed() < START_TIME_MAX,
                "not ready: {last:?} {log:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
            last = self.run(&self.recipe.readiness(), b"");
        }
    }

    /// Asks the server to end and waits for it.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, "TERM");
            process.wait().unwrap();
        }
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Runs a command in the "container".
    pub fn run(&self, exec: &Exec, input: &[u8]) -> Finished {
        let mut child = self.command(exec).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A command that ends early closes its input; its exit status tells.
            scope.spawn(move || drop(stdin.write_all(input)));
            let output = child.wait_with_output().unwrap();
            Finished {
                code: code(output.status),
                stdout: output.stdout,
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        })
    }

    /// Runs a dump as an adapter does: what would be stored, and the judgement.
    pub fn dump(&self, step: &DumpStep) -> (Vec<u8>, Result<Accepted, DumpRejected>) {
        let mut child = self
            .command(&step.exec)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let mut checked = step.checked(output, || code(child.wait().unwrap()));
        let mut stored = Vec::new();
        let read = checked.read_to_end(&mut stored);
        let outcome = checked.outcome().unwrap().clone();
        assert_eq!(read.is_ok(), outcome.is_ok());
        (stored, outcome)
    }

    /// All dumps, each of which must be accepted without a warning.
    pub fn dump_all(&self) -> Vec<(String, Vec<u8>)> {
        let finished = self.run(&self.recipe.survey(), b"");
        let survey = self.recipe.parse_survey(finished.code, &finished.stdout);
        let survey = survey.unwrap_or_else(|e| panic!("{e}: {finished:?}"));
        let dump = |step: DumpStep| {
            let (bytes, judged) = self.dump(&step);
            assert_eq!(
                judged.map(|accepted| accepted.warnings),
                Ok(Vec::new()),
                "{} {}",
                step.file_name,
                self.run(&step.exec, b"").stderr
            );
            (step.file_name, bytes)
        };
        self.recipe.dumps(&survey).into_iter().map(dump).collect()
    }

    /// Runs one step of a restore as an adapter does.
    pub fn restore_step(&self, step: &RestoreStep, dump: &[u8]) -> Result<(), StepRejected> {
        let input = match &step.input {
            Input::None => Vec::new(),
            Input::Text(text) => text.clone().into_bytes(),
            Input::Dump { suffix } => [dump, suffix.as_bytes()].concat(),
        };
        let finished = self.run(&step.exec, &input);
        eprintln!("{}: {:?} {}", step.title, finished.code, finished.stderr);
        step.judge(finished.code, &finished.stdout, finished.stderr.as_bytes())
    }

    /// Restores everything into the running server; what was rejected once more, as adapters do.
    pub fn restore_all(&self, dumps: &[(String, Vec<u8>)]) -> Result<(), StepRejected> {
        let names: Vec<&str> = dumps.iter().map(|(name, _)| name.as_str()).collect();
        let mut restores = self.recipe.restore(&names).unwrap();
        restores.retain(|restore| self.restore(restore, dumps).is_err());
        restores
            .iter()
            .try_for_each(|restore| self.restore(restore, dumps))?;
        self.restore_step(&self.recipe.verify(), b"")
    }

    /// Loads one of the dumps; if it is rejected, all is undone.
    fn restore(
        &self,
        restore: &DumpRestore,
        dumps: &[(String, Vec<u8>)],
    ) -> Result<(), StepRejected> {
        let (_, dump) = dumps.iter().find(|(n, _)| *n == restore.file_name).unwrap();
        let mut steps = restore.steps.iter();
        let loaded = steps.try_for_each(|step| self.restore_step(step, dump));
        if loaded.is_err() {
            let mut undo = restore.undo.iter();
            assert_eq!(
                undo.try_for_each(|step| self.restore_step(step, b"")),
                Ok(())
            );
        }
        loaded
    }

    /// Starts a dump, takes its first `bytes`, kills it, and gives what the check says, first
    /// with its real end, then as if the runtime had said 0.
    pub fn kill_dump_after(
        &self,
        step: &DumpStep,
        bytes: usize,
    ) -> [Result<Accepted, DumpRejected>; 2] {
        let mut child = self.command(&step.exec).spawn().unwrap();
        let mut piece = vec![0; bytes];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut piece)
            .unwrap();
        child.kill().unwrap();
        let mut rest = Vec::new();
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_to_end(&mut rest)
            .unwrap();
        let status = child.wait().unwrap();
        [code(status), Some(0)].map(|code| {
            let mut checked = step.checked(piece.as_slice().chain(rest.as_slice()), || code);
            checked.read_to_end(&mut Vec::new()).unwrap_err();
            checked.outcome().unwrap().clone()
        })
    }

    /// Starts a dump, takes its first `bytes`, stops the server at once, and gives what the check
    /// says of all that came.
    pub fn stop_server_after(
        &mut self,
        step: &DumpStep,
        bytes: usize,
        signal_name: &str,
    ) -> Result<Accepted, DumpRejected> {
        let mut child = self.command(&step.exec).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut piece = vec![0; bytes];
        output.read_exact(&mut piece).unwrap();
        let mut server = self.process.take().unwrap();
        signal(&server, signal_name);
        server.wait().unwrap();
        let output = piece.as_slice().chain(output);
        let mut checked = step.checked(output, || code(child.wait().unwrap()));
        checked.read_to_end(&mut Vec::new()).unwrap_err();
        checked.outcome().unwrap().clone()
    }

    /// A command of the "container", not started.
    pub fn command(&self, exec: &Exec) -> Command {
        let mut command = Command::new(&exec.argv[0]);
        command.args(&exec.argv[1..]).env_clear().env("PATH", PATH);
        command.envs(self.environment.iter().filter_map(|v| v.split_once('=')));
        for (name, value) in &exec.environment {
            command.env(name, String::from_utf8(value.expose().to_vec()).unwrap());
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// `argv` as words.
pub fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(ToString::to_string).collect()
}

/// Runs a program for the test itself and gives what it printed.
pub fn tool(user: Option<&str>, argv: &[&str]) -> String {
    let output = as_user(user, &words(argv))
        .env("PATH", PATH)
        .output()
        .unwrap();
    assert!(output.status.success(), "{argv:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Some servers refuse to run as root.
fn as_user(user: Option<&str>, argv: &[String]) -> Command {
    let mut words = argv.to_vec();
    if let Some(user) = user.filter(|_| is_root()) {
        let prefix = [
            "setpriv",
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
        ];
        words.splice(0..0, prefix.map(str::to_owned));
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("PATH", PATH);
    command
}

/// Gives a folder to the user that the server will run as.
pub fn give(folder: &Path, user: &str) {
    if is_root() {
        tool(
            None,
            &[
                "chown",
                "-R",
                &format!("{user}:{user}"),
                folder.to_str().unwrap(),
            ],
        );
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

fn signal(process: &Child, name: &str) {
    tool(
        None,
        &["kill", &format!("-{name}"), &process.id().to_string()],
    );
}

/// As container runtimes report it: 128 + signal.
fn code(status: ExitStatus) -> Option<i64> {
    let signalled = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signalled).map(i64::from)
}
