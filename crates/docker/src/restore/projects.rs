//! The files of compose projects, back at their places on the host.
//!
//! Invariant: a file is written beside its place and renamed into it, so that no reader sees half
//! of one; nothing is written where a rule says that no project's file lies.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use refloat_model::entry::Entry;
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;

use super::failure::Failure;
use super::holding::Held;
use super::reach::Reach;
use super::single_file;
use crate::definition::ProjectDefinition;
use crate::layout::PROJECT_FILES;

/// The largest project file that is compared by content, in bytes; these files are written by
/// hand.
const COMPARED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How a project file's place looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileState {
    Absent,
    Equal,
    Differs,
    /// It cannot be looked at from here.
    Unseen,
    /// No project's file lies there.
    Refused,
}

/// One file of a project.
#[derive(Clone, Debug)]
pub(super) struct PlacedFile {
    /// Where it is stored.
    pub(super) stored: TreePath,
    /// Its absolute path on the host.
    pub(super) target: String,
    /// Its entry in the point; none if it is not there.
    pub(super) entry: Option<Entry>,
    pub(super) state: FileState,
}

/// The files of a project with their places and how these look now.
pub(super) fn files(
    point: &dyn StoredPoint,
    held: &Held<ProjectDefinition>,
    reach: &Reach,
) -> Vec<PlacedFile> {
    let folder = held.record.item.path.child(PROJECT_FILES);
    let files = held.definition.files.iter();
    files
        .filter_map(|file| {
            // A stored name with `..` is no path of the point: there is no such file.
            let below = TreePath::parse(file.stored.as_bytes()).ok()?;
            let stored = below
                .components()
                .iter()
                .try_fold(folder.clone(), |path, name| path.join(name).ok())?;
            // What cannot be looked at counts as not there.
            let entry = point.stat(&stored).ok().flatten();
            let state = match reach.refusal(&file.path) {
                Some(_) => FileState::Refused,
                None if !reach.is_local() => FileState::Unseen,
                None => state(point, &stored, Path::new(&file.path)),
            };
            Some(PlacedFile {
                stored,
                target: file.path.clone(),
                entry,
                state,
            })
        })
        .collect()
}

fn state(point: &dyn StoredPoint, stored: &TreePath, target: &Path) -> FileState {
    match target.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Absent,
        Ok(found) if found.is_file() && is_equal(point, stored, target) => FileState::Equal,
        _ => FileState::Differs,
    }
}

fn is_equal(point: &dyn StoredPoint, stored: &TreePath, target: &Path) -> bool {
    let read = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader
            .take(COMPARED_BYTES_MAX)
            .read_to_end(&mut bytes)
            .ok()
            .map(|_| bytes)
    };
    let stored = point
        .open(stored)
        .ok()
        .and_then(|mut reader| read(&mut reader));
    let found = File::open(target).ok().and_then(|mut file| read(&mut file));
    stored.is_some() && stored == found
}

/// Writes the files that are not there or differ; gives their number.
pub(super) fn write(
    point: &dyn StoredPoint,
    held: &Held<ProjectDefinition>,
    reach: &Reach,
) -> Result<usize, Failure> {
    let mut written = 0;
    for file in files(point, held, reach) {
        match (&file.entry, file.state) {
            (_, FileState::Equal) => {}
            (Some(entry), FileState::Absent | FileState::Differs) => {
                write_file(point, &file, entry)?;
                written += 1;
            }
            _ => {
                return Err(Failure::Needs(format!("{} cannot be written", file.target)));
            }
        }
    }
    Ok(written)
}

fn write_file(point: &dyn StoredPoint, file: &PlacedFile, entry: &Entry) -> Result<(), Failure> {
    let target = Path::new(&file.target);
    let folder = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(Failure::local("make", folder))?;
    let staging = tempfile::Builder::new()
        .prefix(".refloat-")
        .tempdir_in(folder)
        .map_err(Failure::local("write into", folder))?;
    single_file::write(point, &file.stored, entry, staging.path())?;
    let name = OsStr::from_bytes(&entry.name);
    fs::rename(staging.path().join(name), target)
        .map_err(Failure::local("put into its place", target))
}
