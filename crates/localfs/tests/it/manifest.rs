//! An independent look at a tree: by path strings and the standard library, not by our walk.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// All that is known of one entry, in comparable form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: (i64, i64),
    pub links: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub content: Vec<u8>,
    /// Path of the first entry with the same inode.
    pub same_as: String,
}

pub type Manifest = BTreeMap<String, Line>;

/// Describes `root` (as ".") and everything below it.
pub fn of(root: &Path) -> Manifest {
    let mut manifest = Manifest::new();
    let mut inodes = BTreeMap::new();
    let mut pending = vec![(".".to_owned(), root.to_owned())];
    while let Some((name, path)) = pending.pop() {
        let line = line(&path, &name, &mut inodes);
        if line.kind == "directory" {
            let mut below: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let child = entry.file_name();
                    let child = child.as_bytes().escape_ascii();
                    (format!("{name}/{child}"), entry.path())
                })
                .collect();
            below.sort_by(|a, b| b.0.cmp(&a.0));
            pending.extend(below);
        }
        manifest.insert(name, line);
    }
    manifest
}

fn line(path: &Path, name: &str, inodes: &mut BTreeMap<u64, String>) -> Line {
    let stat = fs::symlink_metadata(path).unwrap();
    let file_type = stat.file_type();
    let mut content = Vec::new();
    let kind = if file_type.is_dir() {
        "directory".to_owned()
    } else if file_type.is_symlink() {
        content = fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec();
        "symlink".to_owned()
    } else if file_type.is_file() {
        // A file that its owner may not read is compared by what else is known of it.
        content = fs::read(path).unwrap_or_default();
        format!("file of {} bytes", stat.size())
    } else if file_type.is_fifo() {
        "fifo".to_owned()
    } else if file_type.is_socket() {
        "socket".to_owned()
    } else {
        format!("device {} {:x}", file_type.is_block_device(), stat.rdev())
    };
    let same_as = inodes
        .entry(stat.ino())
        .or_insert_with(|| name.to_owned())
        .clone();
    // How many links a directory has depends on the file system and its subdirectories.
    let links = if file_type.is_dir() { 0 } else { stat.nlink() };
    Line {
        kind,
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        modified: (stat.mtime(), stat.mtime_nsec()),
        links,
        xattrs: xattrs(path),
        content,
        same_as,
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut xattrs = BTreeMap::new();
    for name in list[..length].split_inclusive(|b| *b == 0) {
        let name = CStr::from_bytes_with_nul(name).unwrap();
        let mut value = vec![0; 65536];
        if let Ok(length) = rustix::fs::lgetxattr(path, name, &mut value[..]) {
            value.truncate(length);
            xattrs.insert(name.to_bytes().to_vec(), value);
        }
    }
    xattrs
}

/// Fails with the differing lines only: manifests are long.
pub fn assert_equal(found: &Manifest, expected: &Manifest) {
    for (path, line) in expected {
        let other = found
            .get(path)
            .unwrap_or_else(|| panic!("{path} is missing"));
        assert!(other == line, "{path}:\n found {other:?}\n  want {line:?}");
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{path} should not be there");
    }
}

/// A tree outside the folder that is restored into, which nothing may touch.
pub struct Canary {
    pub directory: std::path::PathBuf,
    before: Manifest,
    changed: Vec<(i64, i64)>,
}

impl Canary {
    /// Makes it as `directory`.
    pub fn plant(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let secret = directory.join("shadow");
        fs::write(&secret, b"root:secret").unwrap();
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        set_xattr(&secret, "user.canary", b"alive");
        fs::create_dir(directory.join("sub")).unwrap();
        fs::write(directory.join("sub/file"), b"inner").unwrap();
        std::os::unix::fs::symlink("shadow", directory.join("link")).unwrap();
        Self {
            directory: directory.to_owned(),
            before: Manifest::new(),
            changed: Vec::new(),
        }
    }

    /// Remembers how it is; to be called when all links to it are planted.
    pub fn remember(&mut self) {
        self.before = of(&self.directory);
        self.changed = self.change_times();
    }

    /// Content, mode, owner, times, attributes and link counts are as they were.
    pub fn assert_untouched(&self) {
        assert!(!self.before.is_empty(), "the canary was never remembered");
        assert_equal(&of(&self.directory), &self.before);
        assert_eq!(
            self.change_times(),
            self.changed,
            "an inode of the canary was changed"
        );
    }

    fn change_times(&self) -> Vec<(i64, i64)> {
        ["", "shadow", "sub", "sub/file", "link"]
            .map(|name| fs::symlink_metadata(self.directory.join(name)).unwrap())
            .map(|stat| (stat.ctime(), stat.ctime_nsec()))
            .into()
    }
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|errno| panic!("{name} of {}: {errno}", path.display()));
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
