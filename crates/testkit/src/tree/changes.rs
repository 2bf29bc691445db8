//! Changes between two backups.
//!
//! Invariant: each change alters the tree's manifest.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::metadata::nodes_below;
use crate::random::Random;

/// Changes files below a folder in `count` ways; says what was done.
///
/// Touches ordinary files with ordinary rights only, so a tree of [`super::build`] keeps one of
/// each nasty thing.
///
/// # Panics
/// There are fewer than `count` ordinary files.
pub fn change(root: &Path, seed: u64, count: usize) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut files: Vec<_> = nodes_below(root)
        .into_iter()
        .filter(|path| is_ordinary(path))
        .collect();
    random.shuffle(&mut files);
    assert!(files.len() >= count, "only {} files to change", files.len());
    files.truncate(count);
    files
        .into_iter()
        .map(|file| {
            let what = change_one(&file, &mut random);
            format!("{what} {}", file.display())
        })
        .collect()
}

fn is_ordinary(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    const SIZE_MAX: u64 = 64 << 20;
    let about = fs::symlink_metadata(path).unwrap();
    let parent = fs::symlink_metadata(path.parent().unwrap()).unwrap();
    let is_writable = about.mode() & 0o200 != 0 && parent.mode() & 0o200 != 0;
    about.is_file() && about.nlink() == 1 && is_writable && about.size() < SIZE_MAX
}

fn change_one(file: &Path, random: &mut Random) -> &'static str {
    match random.below(9) {
        0 => {
            fs::remove_file(file).unwrap();
            "removed"
        }
        1 => {
            fs::rename(file, beside(file, random)).unwrap();
            "renamed"
        }
        2 => {
            let mut file = OpenOptions::new().append(true).open(file).unwrap();
            let length = 1 + random.index(100_000);
            file.write_all(&random.bytes(length)).unwrap();
            "appended to"
        }
        3 => {
            fs::write(beside(file, random), random.bytes(1_000)).unwrap();
            "created beside"
        }
        4 => {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
            fs::write(file.join("inside"), random.bytes(10)).unwrap();
            "turned into a folder"
        }
        5 => {
            fs::remove_file(file).unwrap();
            symlink("somewhere", file).unwrap();
            "turned into a link"
        }
        6 => {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            fs::set_permissions(file, fs::Permissions::from_mode(mode ^ 0o055)).unwrap();
            "changed the mode of"
        }
        7 => {
            let length = fs::metadata(file).unwrap().len();
            File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(length + 1)
                .unwrap();
            "lengthened"
        }
        _ => {
            let length = fs::metadata(file).unwrap().len();
            let file = File::options().write(true).open(file).unwrap();
            let at = if length == 0 { 0 } else { random.below(length) };
            file.write_all_at(&random.bytes(9), at).unwrap();
            "overwrote a part of"
        }
    }
}

fn beside(file: &Path, random: &mut Random) -> PathBuf {
    file.with_file_name(format!("new-{:016x}", random.bits()))
}
