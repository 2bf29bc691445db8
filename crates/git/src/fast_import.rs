//! Writing one commit as a stream into `git fast-import`.
//!
//! Guarantees: the branch moves when the stream has ended well, to the new commit, and only from
//! the commit that the stream began with; before, and after a failure, it is where it was.
//!
//! Invariant: equal commits give equal ids: nothing of this machine or this moment is in them.

use std::fs;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdin, Stdio};
use std::thread::JoinHandle;

use crate::command::failed;
use crate::error::GitError;
use crate::path::GitPath;
use crate::repository::{Branch, GitRepository};

/// Who makes and wrote the commits.
const AUTHOR_NAME: &str = "Refloat";
/// The address that tells our commits from others.
pub const AUTHOR_ADDRESS: &str = "refloat@localhost";
/// Git's own words for a branch that somebody else moved.
const MOVED: &str = "Not updating refs/heads/";

/// A stream of one commit.
#[derive(Debug)]
pub struct FastImport<'a> {
    repository: &'a GitRepository,
    child: Child,
    /// None once the stream has ended.
    input: Option<BufWriter<ChildStdin>>,
    /// Git's words, read beside: a full pipe would hold git up.
    said: Option<JoinHandle<Vec<u8>>>,
}

/// A commit without its changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit<'a> {
    /// Subject and body.
    pub message: &'a str,
    /// When it was written and made, in seconds.
    pub time_seconds: i64,
    /// The commit it follows, which the branch must still be at; none begins the branch.
    pub parent: Option<&'a str>,
}

impl<'a> FastImport<'a> {
    /// Begins a commit on `branch`; changes that follow are its own.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn begin(
        repository: &'a GitRepository,
        branch: &Branch,
        commit: &Commit<'_>,
    ) -> Result<Self, GitError> {
        let mut command = repository.git();
        command.args(["fast-import", "--quiet", "--done", "--date-format=raw"]);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::Run)?;
        let input = child.stdin.take();
        let said = child.stderr.take().map(listen);
        let mut this = Self {
            repository,
            child,
            input: input.map(|input| BufWriter::with_capacity(1 << 18, input)),
            said,
        };
        let reference = branch.reference();
        let (time, message) = (commit.time_seconds, commit.message);
        let who = format!("{AUTHOR_NAME} <{AUTHOR_ADDRESS}> {time} +0000");
        let mut text = format!(
            "commit {reference}\nmark :1\nauthor {who}\ncommitter {who}\ndata {}\n{message}\n",
            message.len()
        );
        if let Some(parent) = commit.parent {
            text.push_str(&format!("from {parent}\n"));
        }
        this.write(text.as_bytes())?;
        Ok(this)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// git has ended.
    pub fn file(&mut self, path: &GitPath, content: &[u8]) -> Result<(), GitError> {
        let head = format!("M 100644 inline {}\ndata {}\n", quoted(path), content.len());
        self.write(head.as_bytes())?;
        self.write(content)?;
        self.write(b"\n")
    }

    /// Removes a file, or a folder with all that it holds.
    ///
    /// # Errors
    /// git has ended.
    pub fn remove(&mut self, path: &GitPath) -> Result<(), GitError> {
        self.write(format!("D {}\n", quoted(path)).as_bytes())
    }

    /// Ends the stream and moves the branch; the commit's id.
    ///
    /// # Errors
    /// git refused something of it, or the branch was moved meanwhile; it is where it was.
    pub fn finish(mut self) -> Result<String, GitError> {
        self.write(b"get-mark :1\ndone\n")?;
        if let Some(mut input) = self.input.take()
            && let Err(error) = input.flush()
        {
            return Err(self.end(error));
        }
        // Its only output is one id, which a pipe holds.
        let mut answer = String::new();
        let read = match self.child.stdout.take() {
            Some(mut output) => output.read_to_string(&mut answer),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let status = self.child.wait().map_err(GitError::Run)?;
        if !status.success() {
            return Err(self.end(io::ErrorKind::Other.into()));
        }
        read.map_err(GitError::Run)?;
        let id = answer.trim();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(GitError::Answer {
                operation: "fast-import",
            });
        }
        Ok(id.to_owned())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), GitError> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let written = match &mut self.input {
            Some(input) => input.write_all(bytes),
            None => Err(gone()),
        };
        written.map_err(|error| self.end(error))
    }

    /// git has ended before the stream, or without success: what it said is the reason.
    fn end(&mut self, error: io::Error) -> GitError {
        self.input = None;
        let said = self.said.take().and_then(|said| said.join().ok());
        let said = said.unwrap_or_default();
        if String::from_utf8_lossy(&said).contains(MOVED) {
            return GitError::Moved(self.repository.folder().to_owned());
        }
        if said.is_empty() {
            return GitError::Run(error);
        }
        failed("fast-import", self.repository.folder(), &said)
    }
}

impl Drop for FastImport<'_> {
    /// A stream that was not ended changes nothing; git leaves a report of it, which nobody wants.
    fn drop(&mut self) {
        // Without the end of the stream git gives up by itself, and puts its files in order.
        self.input = None;
        let _status = self.child.wait();
        let report = format!("fast_import_crash_{}", self.child.id());
        let _absent = fs::remove_file(self.repository.directory().join(report));
    }
}

fn listen(mut stderr: ChildStderr) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        // What could not be read is missing from an error's text.
        let _cut = stderr.read_to_end(&mut said);
        said
    })
}

/// A path as fast-import reads it. It has no control characters.
fn quoted(path: &GitPath) -> String {
    let mut quoted = String::with_capacity(path.as_str().len() + 2);
    quoted.push('"');
    for c in path.as_str().chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}
