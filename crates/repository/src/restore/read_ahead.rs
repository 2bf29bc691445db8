//! Reading stretches of packs ahead of the workers that take blobs from them.
//!
//! Storage and processors are then busy at the same time, and where storage takes more calls at
//! once than there are processors, their latencies overlap.
//!
//! Memory goes round between those who read and those who work.
//!
//! Invariant: every run that is needed is handed to a worker exactly once, unless the job stops;
//! memory is bounded by readers, workers and the few runs in between.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Job;
use super::batch::Run;
use crate::pack_reading::{pack_file, read_stretch, stretch_of};
use crate::parallel::threads;

/// Runs that have been read and wait for a worker.
const RUNS_READ_MAX: usize = 1;
/// Threads that read for one batch. Two batches share what storage takes at once.
const READERS_MAX: usize = 8;

/// A run and memory that holds its stretch of a pack; none if that could not be read.
type ReadRun<'r> = (&'r Run, Option<Vec<u8>>);

/// Calls `work` with the bytes of each run, on the job's workers; each keeps memory of its own.
pub fn for_each<Memory: Default>(
    job: &Job<'_>,
    runs: &[Run],
    is_needed: impl Fn(&Run) -> bool + Sync,
    work: impl Fn(&Run, Option<&mut [u8]>, &mut Memory) + Sync,
) {
    let readers = threads(job.repository.storage()) / 2;
    let readers = readers.clamp(1, READERS_MAX).min(runs.len());
    let next = AtomicUsize::new(0);
    let (reads, ready) = bounded::<ReadRun<'_>>(RUNS_READ_MAX);
    // Room for all that can be in use.
    let spare = bounded(readers + RUNS_READ_MAX + job.options.workers.max(1));
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let (reads, next, is_needed) = (reads.clone(), &next, &is_needed);
            let spare = spare.1.clone();
            scope.spawn(move || {
                read_all(job, runs, (next, is_needed), (&spare, &reads));
            });
        }
        drop(reads);
        for _ in 0..job.options.workers.max(1) {
            let (ready, work, spare) = (ready.clone(), &work, spare.0.clone());
            scope.spawn(move || {
                let mut memory = Memory::default();
                for (run, mut bytes) in ready {
                    if job.is_stopped() {
                        break;
                    }
                    let length = run.length().unwrap_or(0);
                    let stretch = bytes.as_mut().and_then(|bytes| stretch_of(bytes, length));
                    work(run, stretch, &mut memory);
                    drop(bytes.map(|bytes| spare.try_send(bytes)));
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
    (spare, reads): (&Receiver<Vec<u8>>, &Sender<ReadRun<'r>>),
) {
    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        if job.is_stopped() {
            return;
        }
        if !is_needed(run) {
            continue;
        }
        let memory = spare.try_recv().unwrap_or_default();
        if reads.send((run, read(job, run, memory))).is_err() {
            return;
        }
    }
}

/// Into `memory`.
fn read(job: &Job<'_>, run: &Run, mut memory: Vec<u8>) -> Option<Vec<u8>> {
    let storage = job.repository.storage();
    let pack = pack_file(run.pack);
    let start = run.range.start;
    let _read = read_stretch(storage, &pack, start, run.length()?, &mut memory).ok()?;
    Some(memory)
}
