//! Capturing items: by group, several groups at once, each item into a tree of its own.
//!
//! Invariants: a workload that was quiesced is resumed before anything else happens, also after
//! failure, cancellation and panic; what stops one item does not stop the others.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Item, ItemKind, Workload};
use refloat_model::outcome::{Consistency, Outcome};
use refloat_model::point::ItemRecord;
use refloat_model::time::Timestamp;
use refloat_repository::archive::{Archiver, FinishedTree, ParentTree};
use refloat_repository::{Node, RepositoryError};
use refloat_source::{NothingHeld, Quiesced, Source, SourceError};

use super::anomaly;
use super::checkpoint::Keeper;
use super::parents::{Parent, Parents};
use super::plan::{BackupPlan, Group, SourcePlan, title};
use super::punctual::Punctual;
use super::run::{BackupError, BackupRun, Figures};
use crate::chain;

/// How many missing entries of one item are named; all are counted.
const MISSING_NAMED_MAX: usize = 100;
/// How often the deadline is looked at.
const DEADLINE_TICK: Duration = Duration::from_millis(50);

/// One item after its capture.
#[derive(Debug)]
pub struct CapturedItem {
    /// The source's name.
    pub source: String,
    /// Its manifest line.
    pub record: ItemRecord,
    /// Its entry in the tree; none if nothing of it was captured.
    pub node: Option<Node>,
    /// What was finished of an item that failed or was late: for the next run, not for the point.
    pub part: Option<Node>,
}

/// All items after their capture.
#[derive(Debug, Default)]
pub struct Captured {
    /// Items that the plan captures.
    pub items: Vec<CapturedItem>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Figures of the trees.
    pub figures: Figures,
}

/// Captures everything that the plan names.
///
/// # Errors
/// The run as a whole cannot go on; every workload has been resumed.
pub fn capture(
    keeper: &Keeper<'_>,
    parents: &Parents,
    archiver: &Archiver,
) -> Result<Captured, BackupError> {
    let Keeper {
        run, plan, started, ..
    } = *keeper;
    let late = run
        .options
        .deadline
        .as_ref()
        .map_or_else(|| run.cancel.clone(), |_| Cancel::default());
    let captures = Captures {
        run,
        keeper,
        archiver,
        parents,
        late: &late,
        sources: run
            .sources
            .iter()
            .map(|s| (s.description().name, &**s))
            .collect(),
        queue: Mutex::new(
            plan.sources
                .iter()
                .flat_map(|s| s.groups.iter().map(move |g| (s, g)))
                .rev()
                .collect(),
        ),
        done: Mutex::new(Captured::default()),
    };
    expect_bytes(run, plan);
    let began = run.options.began.unwrap_or(started);
    let end = run.options.deadline.as_ref().map(|d| d.after(began));
    let ended = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        if let Some(end) = &end {
            scope.spawn(|| watch(run, &late, *end, &ended));
        }
        let (running, all_ended) = std::sync::mpsc::channel();
        scope.spawn(move || keeper.watch(archiver, &all_ended));
        let workers: Vec<_> = (0..run.options.captures_at_once.max(1))
            .map(|_| scope.spawn(|| captures.work()))
            .collect();
        let results: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        ended.store(true, Ordering::Relaxed);
        drop(running);
        let results = results.into_iter();
        let errors = results.filter_map(|r| r.unwrap_or(Err(BackupError::Panicked)).err());
        // What stopped one worker stops all: the cause is told, not its echo.
        errors.min_by_key(|e| matches!(e, BackupError::Repository(RepositoryError::Stopped)))
    });
    if let Some(error) = result {
        return Err(error);
    }
    let done = captures.done.into_inner();
    Ok(done.unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Raises `late` when the deadline has passed or the run was cancelled.
fn watch(run: &BackupRun<'_>, late: &Cancel, end: Timestamp, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        if run.cancel.is_cancelled() || (run.now)() >= end {
            return late.cancel();
        }
        std::thread::sleep(DEADLINE_TICK);
    }
}

/// Tells the front-end how much is to come, if every item's size is known.
fn expect_bytes(run: &BackupRun<'_>, plan: &BackupPlan) {
    if let Some(bytes) = plan.items().map(|i| i.bytes_estimate).sum::<Option<u64>>() {
        let expected = &run.progress.counters().bytes_expected;
        expected.store(bytes, Ordering::Relaxed);
    }
}

struct Captures<'a> {
    run: &'a BackupRun<'a>,
    keeper: &'a Keeper<'a>,
    archiver: &'a Archiver,
    parents: &'a Parents,
    /// Raised when captures should end: cancelled, or past the deadline.
    late: &'a Cancel,
    sources: BTreeMap<String, &'a dyn Source>,
    queue: Mutex<Vec<(&'a SourcePlan, &'a Group)>>,
    done: Mutex<Captured>,
}

/// One group in the making.
struct GroupCapture<'a, 'run> {
    captures: &'a Captures<'run>,
    plan: &'a SourcePlan,
    source: &'a dyn Source,
    done: Captured,
}

impl Captures<'_> {
    fn work(&self) -> Result<(), BackupError> {
        loop {
            let next = lock(&self.queue).pop();
            let Some((plan, group)) = next else {
                return Ok(());
            };
            let Some(source) = self.sources.get(&plan.name) else {
                let why = "the engine was not given its source";
                lock(&self.done)
                    .items
                    .extend(group.items().map(|i| failed(plan, i, why.to_owned())));
                continue;
            };
            let mut capture = GroupCapture {
                captures: self,
                plan,
                source: *source,
                done: Captured::default(),
            };
            let result = capture.group(group);
            lock(&self.done).absorb(capture.done);
            if result.is_err() {
                // The others stop at their next item.
                lock(&self.queue).clear();
                return result;
            }
        }
    }
}

impl Captured {
    fn absorb(&mut self, other: Self) {
        self.items.extend(other.items);
        self.findings.extend(other.findings);
        self.figures.files_new += other.figures.files_new;
        self.figures.files_changed += other.figures.files_changed;
        self.figures.files_unchanged += other.figures.files_unchanged;
        self.figures.bytes_total += other.figures.bytes_total;
    }
}

impl GroupCapture<'_, '_> {
    fn group(&mut self, group: &Group) -> Result<(), BackupError> {
        self.items(&group.running, None)?;
        if !group.held.is_empty() {
            let (held, worst) = self.quiesce(group.workload.as_ref())?;
            let result = self.items(&group.held, worst);
            self.done.findings.extend(held.resume());
            result?;
        }
        self.items(&group.after, None)
    }

    /// Holds the workload. If that fails its data is captured all the same, as a power cut would
    /// leave it: a copy that is less consistent is better than none, and the run says so.
    fn quiesce(
        &mut self,
        workload: Option<&Workload>,
    ) -> Result<(Box<dyn Quiesced>, Option<Consistency>), BackupError> {
        let Some(workload) = workload else {
            return Ok((Box::new(NothingHeld), None));
        };
        match self.source.quiesce(workload, self.captures.late) {
            Ok(held) => Ok((held, None)),
            Err(SourceError::Cancelled) => {
                self.captures.run.cancel.check()?;
                Ok((Box::new(NothingHeld), Some(Consistency::Crash)))
            }
            Err(error) => {
                let message = format!("could not be made consistent: {}", chain(&error));
                let subject = format!("{} {}", workload.kind, workload.name);
                self.done.findings.push(Finding::error(subject, message));
                Ok((Box::new(NothingHeld), Some(Consistency::Crash)))
            }
        }
    }

    fn items(&mut self, items: &[Item], worst: Option<Consistency>) -> Result<(), BackupError> {
        for item in items {
            self.captures.run.cancel.check()?;
            let mut captured = self.item(item)?;
            captured.record.consistency = captured
                .record
                .consistency
                .max(worst.filter(|_| captured.record.consistency == Some(Consistency::Quiesced)));
            self.captures
                .run
                .progress
                .item(&title(item), &captured.record.outcome);
            self.done.items.push(captured);
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<CapturedItem, BackupError> {
        let Captures {
            run,
            keeper,
            archiver,
            parents,
            late,
            ..
        } = self.captures;
        if late.is_cancelled() {
            return Ok(failed(self.plan, item, self.captures.late_reason()));
        }
        run.progress.phase(&format!("capturing {}", title(item)));
        let parent = parents.by_path.get(&item.path);
        let left = parents.parts.get(&item.path).filter(|_| has_parts(item));
        let known = parent.map(|p| (&p.node, p.time));
        let known = known
            .into_iter()
            .chain(left.map(|part| (&part.node, part.time)));
        let known = known.map(|(node, begun)| ParentTree {
            nodes: vec![node.clone()],
            begun,
        });
        let mut builder = archiver.tree(known.collect());
        let folders = self.source.content_folders(item);
        let took = |sha256: &[u8; 32]| {
            if let Some(folder) = folders.first() {
                keeper.took(&self.plan.name, item, folder, *sha256);
            }
        };
        let mut punctual = Punctual {
            sink: &mut builder,
            late,
            took: &took,
        };
        let reason = match self.source.capture(item, &mut punctual, late) {
            Ok(capture) => return Ok(self.finished(item, parent, capture, builder.finish()?)),
            Err(SourceError::Sink(error)) => return Err(error.into()),
            Err(SourceError::Cancelled) => {
                run.cancel.check()?;
                self.captures.late_reason()
            }
            Err(error) => chain(&error),
        };
        // Contents that are found by their digests are worth keeping one by one.
        let is_useful = has_parts(item) || !folders.is_empty();
        let part = part_of(item, builder.finish()?).filter(|_| is_useful);
        Ok(CapturedItem {
            part,
            ..failed(self.plan, item, reason)
        })
    }

    fn finished(
        &mut self,
        item: &Item,
        parent: Option<&Parent>,
        capture: Capture,
        finished: FinishedTree,
    ) -> CapturedItem {
        let statistics = finished.statistics;
        let FinishedTree {
            mut nodes,
            failures,
            failure_count,
            ..
        } = finished;
        self.done.findings.extend(capture.findings);
        if statistics.files_vanished > 0 {
            let message = format!(
                "{} files were deleted before they could be read",
                statistics.files_vanished
            );
            self.done.findings.push(Finding::note(title(item), message));
        }
        let missing = failures.into_iter().take(MISSING_NAMED_MAX);
        let missing: Vec<String> = missing
            .map(|f| format!("{}: {}", String::from_utf8_lossy(&f.path), f.reason))
            .collect();
        let node = match (nodes.pop(), nodes.is_empty()) {
            (Some(node), true) if Some(node.name()) == item.path.name() => node,
            (None, _) if !missing.is_empty() => {
                return failed(self.plan, item, missing.join("; "));
            }
            (None, _) => return failed(self.plan, item, "its source gave nothing".to_owned()),
            _ => {
                let reason = "its source gave entries that are not the item".to_owned();
                return failed(self.plan, item, reason);
            }
        };
        let unchanged =
            parent.filter(|p| p.node.content == node.content && p.node.subtree == node.subtree);
        let files = statistics.files_new + statistics.files_changed + statistics.files_unmodified;
        let mut record = ItemRecord {
            item: item.clone(),
            outcome: if failure_count == 0 {
                Outcome::Saved
            } else {
                Outcome::Partial {
                    missing,
                    missing_count: failure_count,
                }
            },
            consistency: Some(capture.consistency),
            files,
            bytes: statistics.bytes,
        };
        // What was taken over whole was not counted; equal content has equal figures.
        if let (Some(parent), true) = (unchanged, statistics.reused > 0) {
            (record.files, record.bytes) = (parent.record.files, parent.record.bytes);
        } else if let Some(parent) = parent.filter(|_| statistics.reused == 0) {
            let suspicion = anomaly::compare(&record, &parent.record, parent.time, &statistics);
            self.done.findings.extend(suspicion);
        }
        let figures = &mut self.done.figures;
        figures.files_new += statistics.files_new;
        figures.files_changed += statistics.files_changed;
        figures.files_unchanged += record.files - statistics.files_new - statistics.files_changed;
        figures.bytes_total += record.bytes;
        CapturedItem {
            source: self.plan.name.clone(),
            record,
            node: Some(node),
            part: None,
        }
    }
}

impl Captures<'_> {
    fn late_reason(&self) -> String {
        let deadline = self.run.options.deadline.as_ref();
        let length = deadline.map_or_else(String::new, |d| format!(" of {d}"));
        format!("not finished within the run's deadline{length}")
    }
}

fn failed(plan: &SourcePlan, item: &Item, reason: String) -> CapturedItem {
    CapturedItem {
        source: plan.name.clone(),
        record: ItemRecord {
            item: item.clone(),
            outcome: Outcome::Failed { reason },
            consistency: None,
            files: 0,
            bytes: 0,
        },
        node: None,
        part: None,
    }
}

/// Whether a part of an item helps the next capture. Image layouts are taken over whole, by a mark
/// that they are: a part beside such a mark would pass for the whole.
fn has_parts(item: &Item) -> bool {
    item.kind != ItemKind::Image
}

/// What is worth keeping of an item that was broken off: an entry of its name with files in it.
fn part_of(item: &Item, finished: FinishedTree) -> Option<Node> {
    let statistics = finished.statistics;
    let files = statistics.files_new + statistics.files_changed + statistics.files_unmodified;
    let mut nodes = finished.nodes.into_iter();
    let node = nodes.find(|node| Some(node.name()) == item.path.name());
    node.filter(|node| files > 0 && node.subtree.is_some())
}

/// The content of a mutex: no holder of ours leaves it half changed, so a panic spoils nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
