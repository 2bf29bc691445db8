//! Reading the files of a commit.
//!
//! Invariant: one git process serves all reads; it ends with its reader.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::command::succeed;
use crate::error::GitError;
use crate::repository::GitRepository;

/// Documents are small; a larger file is none.
const FILE_BYTES_MAX: u64 = 64 << 20;
const ANSWER: GitError = GitError::Answer {
    operation: "cat-file",
};

/// Reads objects.
#[derive(Debug)]
pub struct TreeReader {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

struct TreeEntry {
    mode: String,
    object: String,
    path: String,
}

impl GitRepository {
    /// The regular files of a commit, or of a folder in it (`main:prod`): path and object.
    ///
    /// # Errors
    /// git refuses.
    pub fn files(&self, tree: &str) -> Result<Vec<(String, String)>, GitError> {
        // Links and submodules are no documents.
        let entries = self.entries(tree)?.into_iter();
        let files = entries.filter(|entry| entry.mode.starts_with("100"));
        Ok(files.map(|entry| (entry.path, entry.object)).collect())
    }

    /// The paths of everything in a commit, or in a folder of it.
    ///
    /// # Errors
    /// git refuses.
    pub fn paths(&self, tree: &str) -> Result<Vec<String>, GitError> {
        Ok(self.entries(tree)?.into_iter().map(|e| e.path).collect())
    }

    fn entries(&self, tree: &str) -> Result<Vec<TreeEntry>, GitError> {
        let mut command = self.git();
        command.args(["ls-tree", "-r", "-z", "--full-tree", "--end-of-options"]);
        command.arg(tree);
        let output = succeed(command, "ls-tree", self.folder())?;
        let entries = output.split(|b| *b == 0).filter(|e| !e.is_empty());
        let read = |entry: &[u8]| {
            let text = String::from_utf8_lossy(entry);
            let (head, path) = text.split_once('\t')?;
            let mut head = head.split(' ');
            Some(TreeEntry {
                mode: head.next()?.to_owned(),
                object: head.nth(1)?.to_owned(),
                path: path.to_owned(),
            })
        };
        let answer = || GitError::Answer {
            operation: "ls-tree",
        };
        entries.map(|e| read(e).ok_or_else(answer)).collect()
    }

    /// A reader of objects.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn reader(&self) -> Result<TreeReader, GitError> {
        let mut command = self.git();
        command.args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(GitError::Run)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GitError::Run(io::ErrorKind::BrokenPipe.into()));
        };
        Ok(TreeReader {
            child,
            input,
            output: BufReader::new(output),
        })
    }
}

impl TreeReader {
    /// The content of an object.
    ///
    /// # Errors
    /// There is none, or it is too large to be a document.
    pub fn read(&mut self, object: &str) -> Result<Vec<u8>, GitError> {
        writeln!(self.input, "{object}").map_err(GitError::Run)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(GitError::Run)?;
        let size: u64 = line
            .trim()
            .strip_prefix(object)
            .and_then(|rest| rest.trim().strip_prefix("blob "))
            .and_then(|size| size.parse().ok())
            .filter(|size| *size <= FILE_BYTES_MAX)
            .ok_or(ANSWER)?;
        let mut content = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.output
            .read_exact(&mut content)
            .map_err(GitError::Run)?;
        let mut end = [0];
        self.output.read_exact(&mut end).map_err(GitError::Run)?;
        Ok(content)
    }
}

impl Drop for TreeReader {
    fn drop(&mut self) {
        // It would end by itself when its input closes; nobody waits for what it says.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
