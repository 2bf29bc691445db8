//! Reading stretches of packs ahead of the workers that take blobs from them.
//!
//! Storage and processors are then busy at the same time, and where storage takes more calls at
//! once than there are processors, their latencies overlap.
//!
//! Invariant: every run that is needed is handed to a worker exactly once, unless the job stops;
//! memory is bounded by readers, workers and the few runs in between.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Sender, bounded};

use super::Job;
use super::batch::Run;
use crate::pack_reading::pack_file;
use crate::parallel::threads;

/// Runs that have been read and wait for a worker.
const RUNS_READ_MAX: usize = 1;
/// Threads that read for one batch. Two batches share what storage takes at once.
const READERS_MAX: usize = 8;

/// A run with its stretch of a pack; none if that could not be read.
type ReadRun<'r> = (&'r Run, Option<Vec<u8>>);

/// Calls `work` with the bytes of each run, on the job's workers; each keeps memory of its own.
pub fn for_each<Memory: Default>(
    job: &Job<'_>,
    runs: &[Run],
    is_needed: impl Fn(&Run) -> bool + Sync,
    work: impl Fn(&Run, Option<Vec<u8>>, &mut Memory) + Sync,
) {
    let readers = threads(job.repository.storage()) / 2;
    let readers = readers.clamp(1, READERS_MAX).min(runs.len());
    let next = AtomicUsize::new(0);
    let (reads, ready) = bounded::<ReadRun<'_>>(RUNS_READ_MAX);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let (reads, next, is_needed) = (reads.clone(), &next, &is_needed);
            scope.spawn(move || read_all(job, runs, (next, is_needed), &reads));
        }
        drop(reads);
        for _ in 0..job.options.workers.max(1) {
            let (ready, work) = (ready.clone(), &work);
            scope.spawn(move || {
                let mut memory = Memory::default();
                for (run, bytes) in ready {
                    if job.is_stopped() {
                        break;
                    }
                    work(run, bytes, &mut memory);
                }
            });
        }
        // Readers end with the last worker.
        drop(ready);
    });
}

fn read_all<'r>(
    job: &Job<'_>,
    runs: &'r [Run],
    (next, is_needed): (&AtomicUsize, &impl Fn(&Run) -> bool),
    reads: &Sender<ReadRun<'r>>,
) {
    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        if job.is_stopped() {
            return;
        }
        if is_needed(run) && reads.send((run, read(job, run))).is_err() {
            return;
        }
    }
}

fn read(job: &Job<'_>, run: &Run) -> Option<Vec<u8>> {
    let length = usize::try_from(run.range.end - run.range.start).ok()?;
    let storage = job.repository.storage();
    let pack = pack_file(run.pack);
    storage.read_range(&pack, run.range.start, length).ok()
}
