//! One point as one commit.
//!
//! Invariant: the folder of each cluster in the commit is what the point holds of it, whatever
//! others put there; only what the point could not see stays as it was.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_engine::git_export::{
    self, Changes, FileChange, Gaps, History, Last, Shortfall, cluster_folder, message,
};
use refloat_engine::manifest;
use refloat_engine::stored::{BlobStream, StoredTree};
use refloat_git::{Branch, Commit, FastImport, GitPath, GitRepository};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::id::PointId;
use refloat_model::progress::{Counters, Progress as _};
use refloat_repository::{BlobId, IndexedRepository, Node, RepositoryError};
use serde::Serialize;

use super::secrets::Choice;
use super::{Asked, Report};
use crate::command_error::{CommandError, ErrorKind};
use crate::progress::Shown;

/// The kind of sources that are exported.
const KIND: &str = "kubernetes";
/// Documents that are read ahead: objects have at most some MiB, mostly some KiB.
const READ_AHEAD: usize = 256;
/// Documents that are read at once: on remote storage each waits for an answer.
const READS_AT_ONCE: usize = 8;

#[derive(Serialize)]
pub(super) struct CommitView {
    pub(super) point: PointId,
    /// The commit's id.
    pub(super) commit: String,
    clusters: Vec<String>,
    pub(super) written: u64,
    pub(super) removed: u64,
    milliseconds: u64,
}

/// An export on its way.
pub(super) struct Export<'a> {
    pub(super) repository: IndexedRepository,
    pub(super) git: &'a GitRepository,
    pub(super) branch: &'a Branch,
    /// The trees of all points.
    pub(super) roots: BTreeMap<PointId, BlobId>,
    /// Where the branch is.
    pub(super) head: Option<String>,
    pub(super) history: History,
    pub(super) secrets: Choice,
    pub(super) cancel: &'a Cancel,
    pub(super) progress: &'a Shown,
}

/// A cluster of a point.
struct Cluster {
    folder: String,
    /// Whether the commit has all that the cluster had.
    is_whole: bool,
    changes: Changes,
}

impl Export<'_> {
    /// Exports one point, or says why not.
    pub(super) fn point(&mut self, asked: &Asked, report: &mut Report) -> Result<(), CommandError> {
        let begun = std::time::Instant::now();
        let tree = StoredTree::new(self.repository.clone(), asked.root);
        let record = manifest::read_record(&tree)?;
        let sources = record.sources.iter();
        let names: Vec<String> = sources
            .filter(|(_, source)| source.kind == KIND)
            .map(|(name, _)| name.clone())
            .collect();
        if let Err(why) = self.history.takes_clusters(&asked.summary, &names) {
            report.skip(asked.id, &why);
            return Ok(());
        }
        let (mut clusters, mut incomplete, mut refused) = (Vec::new(), Vec::new(), 0);
        for name in &names {
            let mut gaps = Gaps::of_point(&record, name);
            for item in manifest::read_items(&tree, name)? {
                gaps.add(&item.item, &item.outcome);
            }
            if !gaps.is_empty() {
                report.findings.push(Finding::warning(
                    format!("point {}", asked.summary.short()),
                    format!("does not hold all of {name}: what it did not see stays as it was"),
                ));
            }
            let mut cluster = self.cluster(&tree, name, gaps)?;
            refused += cluster.refuse(report);
            if !cluster.is_whole {
                incomplete.push(name.clone());
            }
            clusters.push(cluster);
        }
        let word = self.secrets.word();
        let shortfall = Shortfall {
            incomplete: &incomplete,
            refused,
        };
        let message = message((&asked.summary, asked.id), &names, shortfall, &word);
        let commit = Commit {
            message: &message,
            time_seconds: asked.summary.time.seconds,
            parent: self.head.as_deref(),
        };
        let mut view = CommitView {
            point: asked.id,
            commit: String::new(),
            clusters: names,
            written: 0,
            removed: 0,
            milliseconds: 0,
        };
        let mut import = FastImport::begin(self.git, self.branch, &commit)?;
        let modified = asked
            .summary
            .time
            .to_jiff()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        for cluster in clusters.iter_mut() {
            let changes = std::mem::take(&mut cluster.changes);
            self.write(&mut import, &mut view, (changes, &modified))?;
        }
        view.commit = import.finish()?;
        self.done(asked, &clusters, &view.commit);
        view.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.commits.push(view);
        Ok(())
    }

    /// What of a cluster is to be written and removed.
    fn cluster(&self, tree: &StoredTree, name: &str, gaps: Gaps) -> Result<Cluster, CommandError> {
        let folder = cluster_folder(name);
        let base = self.base(&folder, name)?;
        let after = git_export::objects(tree, name)?;
        let secrets = self.secrets.secrets();
        let trees = (base, after);
        let mut changes = git_export::changes(&self.repository, name, trees, secrets, self.cancel)?;
        if base.is_none() {
            // Whatever lies there and is not of this point goes.
            for path in self.present(&folder)? {
                let _kept = changes.entry(path).or_insert(FileChange::Remove);
            }
        }
        changes.retain(|path, change| {
            let hidden = || git_export::place(path).is_some_and(|place| gaps.hides(&place));
            !matches!(change, FileChange::Remove) || !hidden()
        });
        Ok(Cluster {
            folder,
            is_whole: gaps.is_empty(),
            changes,
        })
    }

    /// The tree of objects that the branch holds of a cluster; none if that is not known, or is not
    /// what we wrote any more: then all of it is written again.
    fn base(&self, folder: &str, name: &str) -> Result<Option<BlobId>, CommandError> {
        let (Some(last), Some(head)) = (self.history.last(folder), &self.head) else {
            return Ok(None);
        };
        let Some(point) = last.point.filter(|_| last.secrets == self.secrets.word()) else {
            return Ok(None);
        };
        if last.commit != *head {
            let path = GitPath::new(folder)?;
            let ours = self.git.content(&last.commit, &path)?;
            if ours != self.git.content(head, &path)? {
                return Ok(None);
            }
        }
        // A point that was forgotten is no base.
        let Some(root) = self.roots.get(&point) else {
            return Ok(None);
        };
        let tree = StoredTree::new(self.repository.clone(), *root);
        // One that cannot be read is none either.
        Ok(git_export::objects(&tree, name).ok().flatten())
    }

    /// What the branch holds in the folder of a cluster.
    fn present(&self, folder: &str) -> Result<Vec<String>, CommandError> {
        let Some(head) = &self.head else {
            return Ok(Vec::new());
        };
        let mut paths = self.git.paths(head)?;
        let prefix = format!("{folder}/");
        paths.retain(|path| path.starts_with(&prefix));
        Ok(paths)
    }

    fn write(
        &mut self,
        import: &mut FastImport<'_>,
        view: &mut CommitView,
        (changes, modified): (Changes, &str),
    ) -> Result<(), CommandError> {
        let changes: Vec<(String, FileChange)> = changes.into_iter().collect();
        // Removed first: a folder may stand where a file was.
        for (path, change) in &changes {
            // What cannot be in a commit is in none.
            if matches!(change, FileChange::Remove)
                && let Ok(path) = GitPath::new(path)
            {
                import.remove(&path)?;
                view.removed += 1;
            }
        }
        let written: Vec<(String, Node, bool)> = changes
            .into_iter()
            .filter_map(|(path, change)| match change {
                FileChange::Write(node) => Some((path, node, false)),
                FileChange::Encrypt(node) => Some((path, node, true)),
                FileChange::Remove => None,
            })
            .collect();
        for ahead in written.chunks(READ_AHEAD) {
            self.cancel.check().map_err(RepositoryError::from)?;
            let contents = read_all(&self.repository, ahead);
            for ((path, _, is_secret), content) in ahead.iter().zip(contents) {
                let mut content = content?;
                let path = GitPath::new(path)?;
                if *is_secret {
                    content = self.secrets.seal(&content, modified)?;
                }
                import.file(&path, &content)?;
                view.written += 1;
                let counters = self.progress.counters();
                Counters::add(&counters.entries_done, 1);
                Counters::add(&counters.bytes_done, content.len() as u64);
            }
        }
        Ok(())
    }

    /// The branch has moved to this commit of ours.
    fn done(&mut self, asked: &Asked, clusters: &[Cluster], commit: &str) {
        self.head = Some(commit.to_owned());
        for cluster in clusters {
            let last = Last {
                commit: commit.to_owned(),
                point: Some(asked.id).filter(|_| cluster.is_whole),
                time_seconds: asked.summary.time.seconds,
                secrets: self.secrets.word(),
            };
            self.history.add(asked.id, cluster.folder.clone(), last);
        }
    }
}

impl Cluster {
    /// Takes out what cannot be in a commit. That it is missing must be said by the commit itself,
    /// lest the next one builds on it as if nothing were. Gives how much that is.
    fn refuse(&mut self, report: &mut Report) -> u64 {
        let (is_whole, mut count) = (&mut self.is_whole, 0);
        self.changes.retain(|path, change| {
            let refused = match (GitPath::new(path), change) {
                (Err(error), FileChange::Write(_) | FileChange::Encrypt(_)) => error,
                _ => return true,
            };
            *is_whole = false;
            count += 1;
            report.complete = false;
            let finding = Finding::error("object", refused.to_string());
            report.findings.push(finding);
            false
        });
        count
    }
}

/// The contents of files, in their order; several are read at once.
fn read_all(
    repository: &IndexedRepository,
    files: &[(String, Node, bool)],
) -> Vec<Result<Vec<u8>, CommandError>> {
    let next = AtomicUsize::new(0);
    let read = |mut done: Vec<(usize, Result<Vec<u8>, CommandError>)>| {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some((path, node, _)) = files.get(index)
        {
            done.push((index, read_file(repository, path, node)));
        }
        done
    };
    let mut all = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READS_AT_ONCE.min(files.len()))
            .map(|_| scope.spawn(|| read(Vec::new())))
            .collect();
        let done = readers.into_iter().flat_map(|reader| {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        done.collect::<Vec<_>>()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, content)| content).collect()
}

fn read_file(
    repository: &IndexedRepository,
    path: &str,
    node: &Node,
) -> Result<Vec<u8>, CommandError> {
    let mut content = Vec::new();
    BlobStream::new(repository.clone(), node.content.clone())
        .read_to_end(&mut content)
        .map_err(|error| damaged(path, &error))?;
    if content.len() as u64 != node.size() {
        let error = std::io::Error::other("it is not as long as its entry says");
        return Err(damaged(path, &error));
    }
    Ok(content)
}

fn damaged(path: &str, error: &std::io::Error) -> CommandError {
    let mut damaged = CommandError::of(ErrorKind::Damaged, error);
    damaged.causes.insert(0, damaged.message);
    damaged.message = format!("cannot read {path} of the recovery point");
    damaged.hint("the branch is as it was; `refloat check --read-data` tells what is damaged")
}
