//! Comparing two manifests, for people to read.
//!
//! Invariant: what is not named as ignored is compared.

use std::path::{Path, PathBuf};

use super::Manifest;
use super::record::{Content, Record};

/// What a comparison may pass over, because a tool or a user without rights cannot keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aspect {
    /// Everything about the folder itself that was examined.
    Root,
    /// Users and groups.
    Owners,
    /// Permission bits.
    Modes,
    /// Times of everything.
    Times,
    /// Times of symbolic links only.
    TimesOfLinks,
    /// Extended attributes and access lists of everything.
    Attributes,
    /// Extended attributes of all but folders and ordinary files.
    AttributesOfLinks,
    /// Which files are the same.
    HardLinks,
    /// How much files take on disk.
    Sparseness,
    /// Sockets, which some tools leave out.
    Sockets,
}

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Where.
    pub path: PathBuf,
    /// What, as text: `mode 0644 became 0600`.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Debug escapes what would break the line.
        write!(f, "{:?}: {}", self.path, self.what)
    }
}

/// More than this on disk than the original means that holes were written out.
const SPARSE_SLACK_BYTES: u64 = 64 * 1024;

pub(super) fn between(old: &Manifest, new: &Manifest, ignored: &[Aspect]) -> Vec<Difference> {
    let is_compared = |path: &Path, record: &Record| {
        let is_root = path == Path::new(".") && ignored.contains(&Aspect::Root);
        let is_socket = record.content == Content::Socket && ignored.contains(&Aspect::Sockets);
        !is_root && !is_socket
    };
    let mut found = Comparison {
        path: Path::new(""),
        ignored,
        differences: Vec::new(),
    };
    for (path, record) in &old.nodes {
        found.path = path;
        match new.nodes.get(path) {
            _ if !is_compared(path, record) => {}
            Some(other) => found.records(record, other),
            None => found.add(format!("{} is missing", name(&record.content))),
        }
    }
    for (path, record) in &new.nodes {
        if !old.nodes.contains_key(path) && is_compared(path, record) {
            found.path = path;
            found.add(format!("{} was not in the original", name(&record.content)));
        }
    }
    found.differences
}

struct Comparison<'a> {
    path: &'a Path,
    ignored: &'a [Aspect],
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn add(&mut self, what: String) {
        let path = self.path.to_owned();
        self.differences.push(Difference { path, what });
    }

    fn ignores(&self, aspect: Aspect) -> bool {
        self.ignored.contains(&aspect)
    }

    fn records(&mut self, old: &Record, new: &Record) {
        self.contents(&old.content, &new.content);
        let is_link = matches!(old.content, Content::SymbolicLink(_));
        // Linux gives every symbolic link the mode 0777.
        if old.mode != new.mode && !is_link && !self.ignores(Aspect::Modes) {
            self.add(format!("mode {:04o} became {:04o}", old.mode, new.mode));
        }
        if (old.user, old.group) != (new.user, new.group) && !self.ignores(Aspect::Owners) {
            let (user, group) = (new.user, new.group);
            self.add(format!(
                "owner {}:{} became {user}:{group}",
                old.user, old.group
            ));
        }
        let is_time_ignored =
            self.ignores(Aspect::Times) || is_link && self.ignores(Aspect::TimesOfLinks);
        if old.modified != new.modified && !is_time_ignored {
            self.add(format!("time {} became {}", old.modified, new.modified));
        }
        if old.linked_with != new.linked_with && !self.ignores(Aspect::HardLinks) {
            let (old, new) = (&old.linked_with, &new.linked_with);
            self.add(format!("hard link to {old:?} became {new:?}"));
        }
        let is_plain = matches!(old.content, Content::Folder | Content::File { .. });
        if !self.ignores(Aspect::Attributes)
            && (is_plain || !self.ignores(Aspect::AttributesOfLinks))
        {
            self.attributes(old, new);
        }
    }

    fn attributes(&mut self, old: &Record, new: &Record) {
        for (name, value) in &old.attributes {
            match new.attributes.get(name) {
                None => self.add(format!("attribute {name:?} is missing")),
                Some(other) if other != value => self.add(format!("attribute {name:?} changed")),
                Some(_) => {}
            }
        }
        for name in new.attributes.keys() {
            if !old.attributes.contains_key(name) {
                self.add(format!("attribute {name:?} was not in the original"));
            }
        }
    }

    fn contents(&mut self, old: &Content, new: &Content) {
        let (
            Content::File {
                bytes: old_bytes,
                allocated_bytes: old_allocated,
                sha256: old_hash,
            },
            Content::File {
                bytes,
                allocated_bytes,
                sha256,
            },
        ) = (old, new)
        else {
            if old != new {
                self.add(format!("{old:?} became {new:?}"));
            }
            return;
        };
        if bytes != old_bytes {
            self.add(format!("{old_bytes} bytes became {bytes}"));
        } else if sha256 != old_hash {
            self.add(format!("{bytes} bytes have another SHA-256"));
        }
        let is_sparse = *old_allocated < old_bytes.saturating_sub(SPARSE_SLACK_BYTES);
        let is_filled = *allocated_bytes > old_allocated + SPARSE_SLACK_BYTES;
        if is_sparse && is_filled && !self.ignores(Aspect::Sparseness) {
            self.add(format!(
                "{old_allocated} bytes on disk became {allocated_bytes}"
            ));
        }
    }
}

const fn name(content: &Content) -> &'static str {
    match content {
        Content::Folder => "folder",
        Content::File { .. } => "file",
        Content::SymbolicLink(_) => "symbolic link",
        Content::Pipe => "pipe",
        Content::Socket => "socket",
        Content::CharacterDevice(_) => "character device",
        Content::BlockDevice(_) => "block device",
    }
}
