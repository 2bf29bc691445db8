//! Executing one batch: compare what is there, write what differs, link, set metadata.
//!
//! Invariant: a file is finished exactly once, by whoever writes its last blob.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use refloat_localfs::{FileHandle, Landing, Restored, WriteError};
use refloat_model::progress::Counters;

use super::batch::{Batch, BlobUses, FileTask, Run, RunPlanner, Unavailable, Use};
use super::turns::Turn;
use super::{Job, ReadBack, compare, holes, read_ahead, walk};
use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::format::pack::BlobKind;
use crate::parallel::{for_each, lock};

/// From this size a file is written in place, so that a repeated restore need not begin again.
const IN_PLACE_BYTES_MIN: u64 = 64 << 20;
/// From this size a file's bytes go to the disk while the restore is at work, and not all at its
/// end. For small files the call would cost more than it gives.
const WRITE_OUT_BYTES_MIN: u64 = 8 << 20;
/// Files of a batch that are open at once. Each may hold its directory open as well, two batches
/// are at work, and the usual limit is 1,024 descriptors.
const FILES_OPEN_MAX: usize = 128;

/// Files whose other names may come in later batches, by their first path.
pub type Links = Mutex<HashMap<Vec<u8>, Restored>>;

/// What was under a file's name before.
enum Found {
    /// The whole file as stored; it stays.
    Kept,
    /// Which of its blobs were in their places; none if there was nothing to compare.
    Blobs(Vec<bool>),
}

impl Default for Found {
    fn default() -> Self {
        Self::Blobs(Vec::new())
    }
}

/// A file while its blobs arrive.
struct FileState {
    task: FileTask,
    found: Mutex<Found>,
    /// Zeros, which are written when it is opened.
    holes: Mutex<Vec<Range<u64>>>,
    /// Blobs still to be written.
    remaining: AtomicUsize,
    failed: AtomicBool,
    /// Set aside because too many files were open.
    deferred: AtomicBool,
    handle: Mutex<Option<Arc<FileHandle>>>,
    restored: Mutex<Option<Restored>>,
}

struct Execution<'b, 'r> {
    job: &'b Job<'r>,
    files: Vec<FileState>,
    open: AtomicUsize,
}

/// See the module. Links and directories come when all batches before have ended.
pub fn run(job: &Job<'_>, batch: Batch, turn: &Turn<'_>, links: &Links) {
    let files = batch.files.into_iter().map(FileState::new).collect();
    let execution = Execution {
        job,
        files,
        open: AtomicUsize::new(0),
    };
    let runs = execution.plan();
    let is_needed = |run: &Run| execution.is_needed(run);
    read_ahead::for_each(job, &runs, is_needed, |run, bytes, buffers| {
        execution.run(run, bytes, buffers);
    });
    execution.finish_deferred();
    turn.wait();
    let mut links = lock(links);
    for file in &execution.files {
        if let (true, Some(restored)) = (file.task.first_name, *lock(&file.restored)) {
            links.insert(file.task.path.as_bytes().to_vec(), restored);
        }
    }
    for link in batch.links {
        let linked = match links.get(link.first.as_bytes()) {
            Some(restored) => {
                let first = (*restored, &link.first);
                walk::link(job, first, &link.path, link.existing)
            }
            None => {
                let reason = format!("its other name {} was not restored", link.first);
                job.failures
                    .record(|| link.path.as_bytes().to_vec(), reason);
                continue;
            }
        };
        match linked {
            Ok(()) => job.entry_done(),
            Err(error) => write_failed(job, link.path.as_bytes(), error),
        }
    }
    for (path, metadata) in batch.directories {
        if let Err(error) = job.writer.set_directory_metadata(&path, &metadata) {
            write_failed(job, path.as_bytes(), error);
        }
    }
}

fn write_failed(job: &Job<'_>, path: &[u8], error: WriteError) {
    if error.is_out_of_space() {
        job.fail(RepositoryError::from(error));
    } else {
        job.failures.record(|| path.to_vec(), chain(&error));
    }
}

/// Memory of one worker, reused.
#[derive(Default)]
struct Buffers {
    plain: [Vec<u8>; 2],
    read_back: Vec<u8>,
}

/// What is left of a stretch of a pack while its blobs are taken from it.
struct Stretch<'s> {
    bytes: &'s mut [u8],
    /// Where in the pack it begins.
    position: u64,
}

impl<'s> Stretch<'s> {
    /// The sealed bytes of a blob, and what lies before them is dropped; none if they are not
    /// within.
    fn take(&mut self, blob: &BlobUses) -> Option<&'s mut [u8]> {
        let start = u64::from(blob.location.blob.offset);
        let skipped = usize::try_from(start.checked_sub(self.position)?).ok()?;
        let length = blob.location.blob.length as usize;
        let bytes = std::mem::take(&mut self.bytes);
        let (_, rest) = bytes.split_at_mut_checked(skipped)?;
        let (sealed, rest) = rest.split_at_mut_checked(length)?;
        self.bytes = rest;
        self.position = start + length as u64;
        Some(sealed)
    }
}

impl FileState {
    fn new(task: FileTask) -> Self {
        Self {
            task,
            found: Mutex::default(),
            holes: Mutex::default(),
            remaining: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            handle: Mutex::new(None),
            restored: Mutex::new(None),
        }
    }

    fn is_out(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.deferred.load(Ordering::Relaxed)
    }
}

impl Execution<'_, '_> {
    /// Whether any file that wants something of a run can still be restored.
    fn is_needed(&self, run: &Run) -> bool {
        let mut uses = run.blobs.iter().flat_map(|blob| &blob.uses);
        uses.any(|place| self.file(*place).is_some_and(|file| !file.is_out()))
    }

    /// Finishes files that need no blob, and plans the reads for the others.
    fn plan(&self) -> Vec<Run> {
        let mut planner = RunPlanner::new(self.job.repository.index());
        self.compare_existing(&planner);
        for (number, file) in self.files.iter().enumerate() {
            if self.job.is_stopped() {
                break;
            }
            match planner.offsets(&file.task) {
                Ok(offsets) => self.plan_file(&mut planner, number, &offsets),
                Err(Unavailable::Missing(blob)) => {
                    let kind = BlobKind::Data.word();
                    self.fail(file, &RepositoryError::MissingBlob { kind, blob });
                }
                Err(Unavailable::Length(found)) => {
                    let stated = file.task.size;
                    let reason = format!("its blobs hold {found} bytes instead of {stated}");
                    self.fail_because(file, reason);
                }
            }
        }
        planner.into_runs()
    }

    fn plan_file(&self, planner: &mut RunPlanner<'_>, number: usize, offsets: &[u64]) {
        let Some(file) = self.files.get(number) else {
            return;
        };
        let equal = std::mem::take(&mut *lock(&file.found));
        // It is there as stored.
        let Found::Blobs(equal) = equal else { return };
        let kept = match self.keep_in_place(file, &equal) {
            Ok(kept) => kept,
            Err(error) => return self.fail_write(file, error),
        };
        let is_kept = |blob: usize| kept.is_some() && equal.get(blob).copied().unwrap_or(false);
        let content = &file.task.content;
        let wanted = (0..content.len()).filter(|blob| !is_kept(*blob));
        let (wanted, holes) = holes::split(content, offsets, wanted);
        *lock(&file.holes) = holes;
        if kept.is_some() {
            let bytes = compare::equal_bytes(&equal, offsets);
            Counters::add(&self.job.bytes_kept, bytes);
            Counters::add(&self.job.bytes_verified, bytes);
        }
        file.remaining.store(wanted.len(), Ordering::SeqCst);
        let begun = match kept {
            Some(handle) => self.make_holes(file, &handle).map(|()| Some(handle)),
            // No blob will come that would open it.
            None if wanted.is_empty() => self.prepare_with_holes(file).map(Some),
            None => Ok(None),
        };
        let handle = match begun {
            Ok(handle) => handle,
            Err(error) => return self.fail_write(file, error),
        };
        match handle {
            Some(handle) if wanted.is_empty() => {
                let finished = self.finish(file, handle);
                return finished.unwrap_or_else(|error| self.fail_write(file, error));
            }
            Some(handle) => {
                self.open.fetch_add(1, Ordering::SeqCst);
                *lock(&file.handle) = Some(Arc::new(handle));
            }
            None => {}
        }
        for blob in wanted {
            if let (Some(id), Some(offset)) = (content.get(blob), offsets.get(blob).copied()) {
                let file = number;
                planner.want(*id, Use { file, offset });
            }
        }
    }

    fn prepare_with_holes(&self, file: &FileState) -> Result<FileHandle, WriteError> {
        let handle = self.prepare(file)?;
        self.make_holes(file, &handle)?;
        Ok(handle)
    }

    fn make_holes(&self, file: &FileState, handle: &FileHandle) -> Result<(), WriteError> {
        holes::make(self.job, handle, &lock(&file.holes))
    }

    /// Opens a file whose equal blobs may stay. None if they may not: the writer fell back to a
    /// new, empty file, so every blob has to be written.
    fn keep_in_place(
        &self,
        file: &FileState,
        equal: &[bool],
    ) -> Result<Option<FileHandle>, WriteError> {
        let worthwhile = Self::landing(file) == Landing::InPlace && equal.iter().any(|e| *e);
        if !worthwhile {
            return Ok(None);
        }
        let handle = self.prepare(file)?;
        Ok(handle.holds_old_content().then_some(handle))
    }

    /// Compares what is there with what is wanted, several files at once: their bytes are hashed.
    fn compare_existing(&self, planner: &RunPlanner<'_>) {
        let existing: Vec<_> = self.files.iter().filter(|f| f.task.existing).collect();
        let workers = self.job.options.workers.max(1);
        let compared = for_each(&existing, workers, |file| {
            if self.job.is_stopped() {
                return Ok(());
            }
            // What is lost in the repository is told later.
            if let Ok(offsets) = planner.offsets(&file.task) {
                *lock(&file.found) = self.compare(file, &offsets);
            }
            Ok(())
        });
        if let Err(error) = compared {
            self.job.fail(error);
        }
    }

    fn compare(&self, file: &FileState, offsets: &[u64]) -> Found {
        // A file that cannot be opened to compare is replaced.
        let Ok(Some(existing)) = self.job.writer.open_existing(&file.task.path) else {
            return Found::default();
        };
        let equal = compare::equal_blobs(&existing, &file.task, offsets);
        if existing.size() != file.task.size || !equal.iter().all(|equal| *equal) {
            return Found::Blobs(equal);
        }
        match self.job.writer.keep_file(&existing, &file.task.metadata) {
            Ok(restored) => {
                *lock(&file.restored) = Some(restored);
                for counter in [
                    &self.job.bytes_kept,
                    &self.job.bytes_verified,
                    &self.job.counters.bytes_done,
                ] {
                    Counters::add(counter, file.task.size);
                }
                self.job.entry_done();
                Found::Kept
            }
            // It shares its inode with others, or was swapped: it is written anew.
            Err(_replace_it) => Found::default(),
        }
    }

    /// In a directory that this restore made nobody else looks, so a file may grow under its own
    /// name: that spares the file system an orphan and a link for each, a third of its work. If that is
    /// taken all the same, by an entry whose name the file system takes for the same, neither may go
    /// over the other.
    fn landing(file: &FileState) -> Landing {
        match (file.task.existing, file.task.size) {
            (false, _) => Landing::New,
            (true, IN_PLACE_BYTES_MIN..) => Landing::InPlace,
            (true, _) => Landing::Atomic,
        }
    }

    fn prepare(&self, file: &FileState) -> Result<FileHandle, WriteError> {
        self.job
            .writer
            .prepare_file(&file.task.path, file.task.size, Self::landing(file))
    }

    fn finish(&self, file: &FileState, handle: FileHandle) -> Result<(), WriteError> {
        // Its holes may be missing then.
        if self.job.is_stopped() {
            return Ok(());
        }
        let restored = self.job.writer.finish_file(handle, &file.task.metadata)?;
        *lock(&file.restored) = Some(restored);
        self.job.entry_done();
        Ok(())
    }

    /// Hands the blobs of a stretch of a pack out.
    fn run(&self, run: &Run, bytes: Option<&mut [u8]>, buffers: &mut Buffers) {
        let mut stretch = bytes.map(|bytes| Stretch {
            bytes,
            position: run.range.start,
        });
        for blobs in run.blobs.chunks(2) {
            let mut sealed = blobs
                .iter()
                .map(|blob| stretch.as_mut().and_then(|stretch| stretch.take(blob)));
            match (blobs, sealed.next().flatten(), sealed.next().flatten()) {
                ([first, second], Some(one), Some(two)) => {
                    self.run_two([first, second], [one, two], buffers);
                }
                (_, first, second) => {
                    for (blob, sealed) in blobs.iter().zip([first, second]) {
                        self.run_one(blob, sealed, buffers);
                    }
                }
            }
        }
    }

    fn run_two(&self, blobs: [&BlobUses; 2], sealed: [&mut [u8]; 2], buffers: &mut Buffers) {
        let Buffers { plain, read_back } = buffers;
        let locations = blobs.map(|blob| &blob.location);
        let opened = self
            .job
            .repository
            .open_two_located(locations, sealed, plain);
        for (blob, opened) in blobs.into_iter().zip(opened) {
            self.hand_out(blob, opened, read_back);
        }
    }

    /// One blob; without its bytes the stretch as a whole could not be read: perhaps it alone can.
    fn run_one(&self, blob: &BlobUses, sealed: Option<&mut [u8]>, buffers: &mut Buffers) {
        let Buffers { plain, read_back } = buffers;
        let plain = &mut plain[0];
        plain.clear();
        let repository = self.job.repository;
        let opened = match sealed {
            Some(sealed) => repository.open_located(&blob.location, sealed, plain),
            None => repository
                .read_blob(BlobKind::Data, blob.location.blob.id)
                .map(|read| *plain = read),
        };
        self.hand_out(blob, opened.map(|()| plain.as_slice()), read_back);
    }

    /// Writes an opened blob to all of its places.
    fn hand_out(
        &self,
        blob: &BlobUses,
        opened: Result<&[u8], RepositoryError>,
        read_back: &mut Vec<u8>,
    ) {
        let id = blob.location.blob.id;
        let elsewhere = |failure| {
            let repository = self.job.repository;
            repository.read_elsewhere(BlobKind::Data, id, failure)
        };
        let opened = match opened {
            Ok(plain) => Ok(Cow::Borrowed(plain)),
            Err(failure) => elsewhere(failure).map(Cow::Owned),
        };
        match opened {
            Ok(plain) => blob
                .uses
                .iter()
                .for_each(|place| self.write(*place, &plain, read_back)),
            Err(error) => {
                let files = blob.uses.iter().filter_map(|place| self.file(*place));
                files.for_each(|file| self.fail(file, &error));
            }
        }
    }

    fn file(&self, place: Use) -> Option<&FileState> {
        self.files.get(place.file)
    }

    /// Writes an opened blob to one of its places.
    fn write(&self, place: Use, plain: &[u8], read_back: &mut Vec<u8>) {
        let Some(file) = self.file(place).filter(|file| !file.is_out()) else {
            return;
        };
        let written = self.write_into(file, place.offset, plain, read_back);
        written.unwrap_or_else(|error| self.fail_write(file, error));
    }

    fn write_into(
        &self,
        file: &FileState,
        offset: u64,
        plain: &[u8],
        read_back: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if file.task.content.len() == 1 {
            let handle = self.prepare(file)?;
            self.put(file, &handle, (offset, plain), read_back)?;
            return self.finish(file, handle);
        }
        let Some(handle) = self.shared_handle(file)? else {
            return Ok(());
        };
        self.put(file, &handle, (offset, plain), read_back)?;
        drop(handle);
        if file.remaining.fetch_sub(1, Ordering::SeqCst) > 1 {
            return Ok(());
        }
        // All others have dropped their share before they counted down.
        let handle = lock(&file.handle).take().and_then(Arc::into_inner);
        self.open.fetch_sub(1, Ordering::SeqCst);
        handle.map_or(Ok(()), |handle| self.finish(file, handle))
    }

    /// The open file; none if too many are open, and the file was set aside.
    fn shared_handle(&self, file: &FileState) -> Result<Option<Arc<FileHandle>>, WriteError> {
        let mut slot = lock(&file.handle);
        if let Some(handle) = &*slot {
            return Ok(Some(Arc::clone(handle)));
        }
        // Another worker may have set it aside while this one waited.
        if file.is_out() {
            return Ok(None);
        }
        if self.open.fetch_add(1, Ordering::SeqCst) >= FILES_OPEN_MAX {
            self.open.fetch_sub(1, Ordering::SeqCst);
            file.deferred.store(true, Ordering::SeqCst);
            return Ok(None);
        }
        let prepared = self.prepare_with_holes(file);
        if prepared.is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        let handle = Arc::new(prepared?);
        *slot = Some(Arc::clone(&handle));
        Ok(Some(handle))
    }

    /// Writes one blob and reads it back.
    fn put(
        &self,
        file: &FileState,
        handle: &FileHandle,
        (offset, plain): (u64, &[u8]),
        read_back: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        handle.write_at(offset, plain)?;
        let length = plain.len() as u64;
        Counters::add(&self.job.bytes_written, length);
        Counters::add(&self.job.counters.bytes_done, length);
        if self.job.options.read_back == ReadBack::Everything {
            handle.verify(offset, plain, read_back)?;
            Counters::add(&self.job.bytes_verified, length);
        }
        if file.task.size >= WRITE_OUT_BYTES_MIN {
            handle.begin_write_out(offset, length);
        }
        Ok(())
    }

    /// Restores files that were set aside, one after the other.
    fn finish_deferred(&self) {
        let mut read_back = Vec::new();
        let deferred = self
            .files
            .iter()
            .filter(|file| file.deferred.load(Ordering::SeqCst));
        for file in deferred.filter(|file| !file.failed.load(Ordering::SeqCst)) {
            if self.job.is_stopped() {
                return;
            }
            match self.write_alone(file, &mut read_back) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(file, &error),
                Err(error) => self.fail_write(file, error),
            }
        }
    }

    fn write_alone(
        &self,
        file: &FileState,
        read_back: &mut Vec<u8>,
    ) -> Result<Result<(), RepositoryError>, WriteError> {
        let handle = self.prepare_with_holes(file)?;
        let holes = lock(&file.holes);
        let mut offset = 0;
        for blob in &*file.task.content {
            if let Some(length) = holes::at(&holes, offset, blob) {
                offset += length;
                continue;
            }
            let plain = match self.job.repository.read_blob(BlobKind::Data, *blob) {
                Ok(plain) => plain,
                Err(error) => return Ok(Err(error)),
            };
            self.put(file, &handle, (offset, &plain), read_back)?;
            offset += plain.len() as u64;
        }
        self.finish(file, handle).map(Ok)
    }

    fn fail(&self, file: &FileState, error: &RepositoryError) {
        self.fail_because(file, chain(error));
    }

    /// Records a file as failed, once, and lets go of what was written.
    fn fail_because(&self, file: &FileState, reason: String) {
        if !file.failed.swap(true, Ordering::SeqCst) {
            self.job
                .failures
                .record(|| file.task.path.as_bytes().to_vec(), reason);
            if lock(&file.handle).take().is_some() {
                self.open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn fail_write(&self, file: &FileState, error: WriteError) {
        if error.is_out_of_space() {
            self.job.fail(error.into());
        } else {
            self.fail_because(file, chain(&error));
        }
    }
}
