//! `refloat ls`.
//!
//! Invariant: names are printed so that they cannot drive the terminal; JSON has their bytes. What
//! cannot be read below the directory that is listed is named, and all else is listed.

use std::fmt::Write as _;

use refloat_engine::stored::StoredTree;
use refloat_etcd::Depth;
use refloat_model::entry::EntryKind;
use refloat_model::finding::Finding;
use refloat_model::tree_path::TreePath;
use refloat_repository::{Node, RepositoryError, TreesAhead};
use serde::Serialize;

use crate::command_error::{CommandError, one_line};
use crate::etcd_path::{self, Inside};
use crate::exit_status::ExitStatus;
use crate::output;
use crate::point;
use crate::settings::Settings;
use crate::table;

/// Text is printed whenever this much has come together, in bytes.
const TEXT_BYTES_FLUSH: usize = 1 << 16;
/// Directories that cannot be read and are named; all are counted.
const LOST_KEPT_MAX: usize = 1000;

/// List what a recovery point holds
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The point and a path in it: latest, latest:/docker/web; of an etcd snapshot, its keys:
    /// latest:/etcd/prod/snapshot.db/registry/pods
    #[arg(value_name = "POINT[:PATH]")]
    point: String,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Mode, owner, size and time
    #[arg(short, long)]
    long: bool,
}

/// One entry, as JSON.
#[derive(Serialize)]
pub struct EntryView {
    /// The path in the point; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// The path's bytes in hexadecimal, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// `file`, `directory`, `symlink` …
    kind: &'static str,
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits in octal.
    mode: String,
    uid: u32,
    gid: u32,
    /// RFC 3339.
    pub modified: String,
    /// Where a symbolic link points.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Serialize)]
struct Report {
    entries: Vec<EntryView>,
    /// Directories whose entries cannot be read; the first 1,000.
    findings: Vec<Finding>,
}

/// Lists.
pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let locator = point::locator(&args.point)?;
    let open = point::open(settings, &locator.point)?;
    let mut listing = Listing {
        args,
        json: settings.output.json,
        entries: Vec::new(),
        text: String::new(),
        lost: Vec::new(),
        lost_count: 0,
    };
    if let Some(inside) = Inside::at(&open, &locator.path)? {
        return keys(args, &inside, settings);
    }
    match open.tree.node(&locator.path)? {
        Some(node) if node.subtree.is_none() => {
            // Only a directory can be the root, so there is a parent.
            let above = locator.path.parent().unwrap_or_default();
            listing.node(&Directory::new(above), &node)?;
        }
        _ => listing.directory(&open.tree, &locator.path)?,
    }
    output::print(listing.text.as_bytes())?;
    let findings = listing.findings();
    settings.output.findings(&findings);
    let status = match listing.lost_count {
        0 => ExitStatus::Success,
        _ => ExitStatus::Incomplete,
    };
    if !settings.output.json {
        return Ok(status);
    }
    let report = Report {
        entries: listing.entries,
        findings,
    };
    settings.output.result("ls", status, &report, String::new)
}

/// A key of an etcd snapshot, as JSON.
#[derive(Serialize)]
struct KeyView {
    path: String,
    /// `key`, or `directory` for what several keys begin with.
    kind: &'static str,
    /// Bytes of its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// `json v1 ConfigMap`, `protobuf apps/v1 Deployment`, `encrypted aescbc:v1:key1`, `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<String>,
    /// The revision of its last change: a Kubernetes object's resourceVersion.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Serialize)]
struct KeysReport {
    /// The snapshot's newest revision.
    revision: u64,
    keys: Vec<KeyView>,
}

/// Lists keys of an etcd snapshot.
fn keys(args: &Args, inside: &Inside, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let depth = if args.recursive {
        Depth::All
    } else {
        Depth::One
    };
    let keys = inside.list(depth)?.into_iter().map(|key| KeyView {
        path: key.path.to_string(),
        kind: if key.object.is_some() {
            "key"
        } else {
            "directory"
        },
        size: key.object.as_ref().map(|object| object.value.len() as u64),
        holds: key.object.as_ref().map(etcd_path::holds),
        revision: key.object.as_ref().map(|object| object.mod_revision),
    });
    let report = KeysReport {
        revision: inside.view.newest(),
        keys: keys.collect(),
    };
    settings
        .output
        .result("ls", ExitStatus::Success, &report, || {
            keys_text(args, &report)
        })
}

fn keys_text(args: &Args, report: &KeysReport) -> String {
    let mut text = String::new();
    for key in &report.keys {
        let name = table::printable(&key.path);
        // Writing to a String cannot fail.
        let _infallible = match (key.size, &key.holds, key.revision) {
            (Some(size), Some(holds), Some(revision)) if args.long => writeln!(
                text,
                "{:>10} {revision:>10} {name}  {}",
                table::bytes(size),
                table::printable(holds)
            ),
            (Some(_), ..) => writeln!(text, "{name}"),
            _ if args.long => writeln!(text, "{:>10} {:>10} {name}/", "-", "-"),
            _ => writeln!(text, "{name}/"),
        };
    }
    text
}

/// A directory whose entries are told.
struct Directory {
    path: TreePath,
    /// What the path of each of its entries begins with, as it is shown.
    shown: String,
}

impl Directory {
    fn new(path: TreePath) -> Self {
        let mut shown = table::printable(&path.to_string());
        if !path.components().is_empty() {
            shown.push('/');
        }
        Self { path, shown }
    }

    fn join(&self, node: &Node) -> Result<TreePath, CommandError> {
        Ok(self.path.clone().join(node.name())?)
    }
}

struct Listing<'a> {
    args: &'a Args,
    json: bool,
    entries: Vec<EntryView>,
    text: String,
    /// Directories whose entries cannot be read; the first [`LOST_KEPT_MAX`].
    lost: Vec<Finding>,
    lost_count: usize,
}

impl Listing<'_> {
    fn directory(&mut self, tree: &StoredTree, path: &TreePath) -> Result<(), CommandError> {
        let mut waiting = vec![(path.clone(), tree.directory(path)?)];
        let trees = TreesAhead::new(tree.repository());
        let mut is_root = true;
        while let Some((path, tree)) = waiting.pop() {
            let is_asked_for = std::mem::take(&mut is_root);
            let nodes = match trees.read_tree(tree) {
                Err(error) if error.is_of_one_thing() && !is_asked_for => {
                    self.lose(&path, &error);
                    continue;
                }
                read => read?,
            };
            let directory = Directory::new(path);
            let mut below = Vec::new();
            for node in nodes {
                self.node(&directory, &node)?;
                if let Some(tree) = node.subtree.filter(|_| self.args.recursive) {
                    below.push((directory.join(&node)?, tree));
                }
            }
            // Depth first, in order of names.
            trees.expect(below.iter().map(|(_, tree)| *tree));
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn lose(&mut self, path: &TreePath, error: &RepositoryError) {
        self.lost_count += 1;
        if self.lost.len() < LOST_KEPT_MAX {
            let message = format!("what it holds cannot be read: {}", one_line(error));
            self.lost.push(Finding::error(path.to_string(), message));
        }
    }

    /// Takes what is to be told of what was lost.
    fn findings(&mut self) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut self.lost);
        let more = self.lost_count - findings.len();
        if more > 0 {
            let message = format!("{more} more directories that cannot be read");
            findings.push(Finding::error("the listing", message));
        }
        findings
    }

    fn node(&mut self, directory: &Directory, node: &Node) -> Result<(), CommandError> {
        if self.json {
            let path = directory.join(node)?;
            self.entries.push(EntryView::of(&path, node));
            return Ok(());
        }
        self.line(directory, node);
        if self.text.len() >= TEXT_BYTES_FLUSH {
            output::print(self.text.as_bytes())?;
            self.text.clear();
        }
        Ok(())
    }

    fn line(&mut self, directory: &Directory, node: &Node) {
        let text = &mut self.text;
        if self.args.long {
            let metadata = &node.entry.metadata;
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "{}{:04o} {:>5} {:>5} {:>10} {} ",
                letter(&node.entry.kind),
                metadata.mode,
                metadata.uid,
                metadata.gid,
                table::bytes(node.size()),
                table::time(metadata.modified),
            );
        }
        text.push_str(&directory.shown);
        table::push_printable(text, &String::from_utf8_lossy(node.name()));
        if node.is_directory() {
            text.push('/');
        }
        if let (true, EntryKind::Symlink { target }) = (self.args.long, &node.entry.kind) {
            text.push_str(" -> ");
            table::push_printable(text, &String::from_utf8_lossy(target));
        }
        text.push('\n');
    }
}

impl EntryView {
    /// What is told of an entry.
    pub fn of(path: &TreePath, node: &Node) -> Self {
        let bytes: Vec<u8> = path
            .components()
            .iter()
            .flat_map(|c| [b"/", c.as_slice()].concat())
            .collect();
        let metadata = &node.entry.metadata;
        Self {
            path: path.to_string(),
            path_hex: std::str::from_utf8(&bytes)
                .is_err()
                .then(|| bytes.iter().map(|b| format!("{b:02x}")).collect()),
            kind: word(&node.entry.kind),
            size: node.size(),
            mode: format!("{:04o}", metadata.mode),
            uid: metadata.uid,
            gid: metadata.gid,
            modified: metadata.modified.to_string(),
            target: match &node.entry.kind {
                EntryKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
                _ => None,
            },
        }
    }
}

const fn word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::BlockDevice { .. } => "block-device",
        EntryKind::CharacterDevice { .. } => "character-device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

const fn letter(kind: &EntryKind) -> char {
    match kind {
        EntryKind::File { .. } => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::BlockDevice { .. } => 'b',
        EntryKind::CharacterDevice { .. } => 'c',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use refloat_model::entry::Entry;

    use super::*;

    fn shown(long: bool, path: TreePath, entry: Entry) -> String {
        let args = Args {
            point: "latest".to_owned(),
            recursive: false,
            long,
        };
        let mut listing = Listing {
            args: &args,
            json: false,
            entries: Vec::new(),
            text: String::new(),
            lost: Vec::new(),
            lost_count: 0,
        };
        let is_directory = entry.kind == EntryKind::Directory;
        let node = Node {
            entry,
            content: Arc::default(),
            subtree: is_directory.then_some(refloat_repository::BlobId([0; 32])),
            foreign: None,
        };
        listing.line(&Directory::new(path), &node);
        listing.text
    }

    #[test]
    fn a_line_is_one_line_and_drives_no_terminal() {
        let file = |name: &[u8]| Entry::synthetic_file(name, 7);
        let odd = TreePath::root().join(b"a\xffb\n").unwrap();
        for (path, entry, expected) in [
            (TreePath::root(), file(b"plain"), "/plain\n"),
            (TreePath::root(), Entry::synthetic_directory("d"), "/d/\n"),
            (
                odd.clone(),
                file("Grüße 1".as_bytes()),
                "/a\u{fffd}b\\x0a/Grüße 1\n",
            ),
            (
                odd,
                file(b"\x1b[2J\xfe"),
                "/a\u{fffd}b\\x0a/\\x1b[2J\u{fffd}\n",
            ),
            (
                TreePath::parse("x/y").unwrap(),
                file("\u{202e}fdp\x7f".as_bytes()),
                "/x/y/\\x202efdp\\x7f\n",
            ),
        ] {
            assert_eq!(shown(false, path, entry), expected);
        }
    }

    #[test]
    fn a_long_line_says_where_a_link_points() {
        let kind = EntryKind::Symlink {
            target: b"../to\r".to_vec(),
        };
        let link = Entry {
            kind,
            ..Entry::synthetic_file("link", 0)
        };
        let line = shown(true, TreePath::parse("at").unwrap(), link);
        assert!(line.starts_with("l0"), "{line}");
        assert!(line.ends_with(" /at/link -> ../to\\x0d\n"), "{line}");
        let file = shown(true, TreePath::root(), Entry::synthetic_file("f", 2048));
        assert!(
            file.contains(" 2.0 KiB ") && file.ends_with(" /f\n"),
            "{file}"
        );
    }
}
