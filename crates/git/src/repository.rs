//! A repository to export to, and whose it is.
//!
//! Invariant: a repository without our mark, or with that of another backup repository, is not
//! written to unless the user asked for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{git, run, succeed};
use crate::error::GitError;
use crate::path::GitPath;

/// The setting that says whose export a repository is.
const MARK: &str = "refloat.export";
/// Exports of a few objects leave loose ones; this many are still found fast.
const LOOSE_OBJECTS_MAX: u64 = 2_000;
/// Git looks into each pack.
const PACKS_MAX: u64 = 20;

/// A Git repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitRepository {
    folder: PathBuf,
    /// The folder itself, or its `.git`.
    directory: PathBuf,
}

/// Whether a repository may be written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// Only a new one, or one that bears our mark.
    Ours,
    /// Whatever it is: it bears our mark from now on.
    Adopt,
}

/// The name of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branch(String);

/// A commit, as a log tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its id.
    pub commit: String,
    /// When it was written, in seconds: a rebase keeps that.
    pub time_seconds: i64,
    /// The address of whoever committed it.
    pub committer: String,
    /// Subject and body.
    pub message: String,
}

impl Branch {
    /// A branch of this name.
    ///
    /// # Errors
    /// git allows no branch to be called so.
    pub fn new(name: &str) -> Result<Self, GitError> {
        let reference = format!("refs/heads/{name}");
        let mut command = git(None);
        command.args(["check-ref-format", &reference]);
        if name.starts_with('-') || !run(command)?.status.success() {
            return Err(GitError::Branch(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// With its folder, `refs/heads/main`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl GitRepository {
    /// Opens the repository in `folder`, which is one without a work tree or has a `.git`.
    ///
    /// # Errors
    /// There is none, or git refuses it.
    pub fn open(folder: &Path) -> Result<Self, GitError> {
        let folder = std::path::absolute(folder).map_err(|source| GitError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let inside = folder.join(".git");
        let directory = if inside.is_dir() {
            inside
        } else {
            folder.clone()
        };
        let this = Self { folder, directory };
        this.is_bare()?;
        Ok(this)
    }

    /// Opens a repository to write to, and makes one in a folder that is empty or not there.
    /// `owner` is the backup repository whose export it is.
    ///
    /// # Errors
    /// It is somebody else's, or cannot be made.
    pub fn own(
        folder: &Path,
        branch: &Branch,
        owner: &str,
        ownership: Ownership,
    ) -> Result<Self, GitError> {
        if is_empty(folder)? {
            return Self::create(folder, branch, owner);
        }
        let not_ours = |what| GitError::NotOurs {
            folder: folder.to_owned(),
            what,
        };
        let this = match Self::open(folder) {
            Ok(this) => this,
            Err(GitError::Failed { .. }) if !folder.join("HEAD").exists() => {
                return Err(not_ours("holds something that is no Git repository"));
            }
            Err(error) => return Err(error),
        };
        if this.checked_out(branch)? {
            return Err(not_ours(
                "has that branch checked out: choose another with --branch",
            ));
        }
        match (this.mark()?, ownership) {
            (Some(mark), _) if mark == owner => Ok(this),
            (_, Ownership::Adopt) => {
                this.set_mark(owner)?;
                Ok(this)
            }
            (Some(_), Ownership::Ours) => {
                Err(not_ours("is the export of another backup repository"))
            }
            (None, Ownership::Ours) => {
                Err(not_ours("is a Git repository that Refloat did not make"))
            }
        }
    }

    fn create(folder: &Path, branch: &Branch, owner: &str) -> Result<Self, GitError> {
        let failed = |source| GitError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let folder = std::path::absolute(folder).map_err(failed)?;
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut command = git(Some(&folder));
        let Branch(name) = branch;
        command.args(["init", "--bare", "--quiet", "--template=", "--shared=umask"]);
        command.arg(format!("--initial-branch={name}"));
        succeed(command, "init", &folder)?;
        let this = Self {
            directory: folder.clone(),
            folder,
        };
        this.set_mark(owner)?;
        Ok(this)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its objects and refs are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn git(&self) -> std::process::Command {
        git(Some(&self.directory))
    }

    fn mark(&self) -> Result<Option<String>, GitError> {
        let mut command = self.git();
        command.args(["config", "--local", "--get", MARK]);
        let output = run(command)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(text))
    }

    fn set_mark(&self, owner: &str) -> Result<(), GitError> {
        let mut command = self.git();
        command.args(["config", "--local", MARK, owner]);
        succeed(command, "config", &self.folder).map(drop)
    }

    /// Whether files of that branch lie in a work tree, which would look changed afterwards.
    fn checked_out(&self, branch: &Branch) -> Result<bool, GitError> {
        let mut command = self.git();
        command.args(["symbolic-ref", "--quiet", "HEAD"]);
        let head = run(command)?.stdout;
        Ok(!self.is_bare()? && head.trim_ascii() == branch.reference().as_bytes())
    }

    fn is_bare(&self) -> Result<bool, GitError> {
        let mut command = self.git();
        command.args(["rev-parse", "--is-bare-repository"]);
        let answer = succeed(command, "rev-parse", &self.folder)?;
        Ok(answer.starts_with(b"true"))
    }

    /// The commit that a branch, or `HEAD`, is at; none if there is none yet.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn head(&self, branch: Option<&Branch>) -> Result<Option<String>, GitError> {
        let reference = branch.map_or_else(|| "HEAD".to_owned(), Branch::reference);
        self.resolve(&format!("{reference}^{{commit}}"))
    }

    /// What a commit has at a path, a file or a folder, as the id of its content; none if nothing.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn content(&self, commit: &str, path: &GitPath) -> Result<Option<String>, GitError> {
        self.resolve(&format!("{commit}:{}", path.as_str()))
    }

    fn resolve(&self, expression: &str) -> Result<Option<String>, GitError> {
        let mut command = self.git();
        command.args(["rev-parse", "--quiet", "--verify", "--end-of-options"]);
        command.arg(expression);
        let output = run(command)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(text))
    }

    /// Puts objects together into fewer packs, if many exports have left many. Nothing is deleted
    /// that is not in the new packs.
    ///
    /// # Errors
    /// git refuses.
    pub fn tidy(&self) -> Result<(), GitError> {
        let mut command = self.git();
        command.args(["count-objects", "-v"]);
        let counts = succeed(command, "count-objects", &self.folder)?;
        let counts = String::from_utf8_lossy(&counts);
        let count = |name: &str| {
            let line = counts.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        if count("count:") <= LOOSE_OBJECTS_MAX && count("packs:") <= PACKS_MAX {
            return Ok(());
        }
        let mut command = self.git();
        // Each pack at least twice as large as the next: the work stays in proportion to what is new.
        command.args(["repack", "--geometric=2", "-d", "-q"]);
        succeed(command, "repack", &self.folder).map(drop)
    }

    /// The commits of a branch, newest first; none if it is not there.
    ///
    /// # Errors
    /// git refuses.
    pub fn log(&self, branch: &Branch) -> Result<Vec<LogEntry>, GitError> {
        if self.head(Some(branch))?.is_none() {
            return Ok(Vec::new());
        }
        let mut command = self.git();
        // Nobody's message holds the byte that parts fields and entries here.
        command.args(["log", "-z", "--format=tformat:%H%x00%at%x00%ce%x00%B"]);
        command.args(["--no-show-signature", "--topo-order", "--end-of-options"]);
        command.args([&branch.reference(), "--"]);
        let output = succeed(command, "log", &self.folder)?;
        entries(&String::from_utf8_lossy(&output)).ok_or(GitError::Answer { operation: "log" })
    }
}

/// Four fields each; behind the last entry there is nothing.
fn entries(log: &str) -> Option<Vec<LogEntry>> {
    let mut fields = log.split('\0');
    let mut entries = Vec::new();
    while let Some(commit) = fields.next().filter(|commit| !commit.is_empty()) {
        entries.push(LogEntry {
            commit: commit.to_owned(),
            time_seconds: fields.next()?.parse().ok()?,
            committer: fields.next()?.to_owned(),
            message: fields.next()?.trim().to_owned(),
        });
    }
    Some(entries)
}

fn is_empty(folder: &Path) -> Result<bool, GitError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(GitError::Folder {
            folder: folder.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use refloat_testkit::fuzz::{Target, run};

    use super::*;
    use crate::path::GitPath;

    #[test]
    fn no_bytes_make_a_parser_panic() {
        let log = "c0ffee\x001700000000\0a@b\0subject\n\nRefloat-Point: 1\n\0";
        let paths = [
            "prod/apps/v1/deployments/shop/web.yaml",
            "prod/.g\u{200c}it/x",
            "a\\..\\b",
        ];
        let targets = [
            Target::text("log", [log, &log.repeat(3)], |text| {
                let _none = entries(text);
            }),
            Target::text("path", paths, |text| {
                if let Ok(path) = GitPath::new(text) {
                    let mut parts = path.as_str().split(['/', '\\']);
                    let is_hostile = |part: &str| {
                        matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git")
                    };
                    assert!(!parts.any(is_hostile) && !text.contains('\0'));
                }
            }),
        ];
        run("F1 git", &targets);
    }
}
