//! One folder of objects, from the API into a tree.
//!
//! Objects come from what the look kept, or page by page as the list is read: memory holds one page,
//! whatever the folder's size.
//!
//! Invariant: what is written is what one list said; a list that breaks leaves a named gap.

use std::collections::BTreeSet;
use std::io::Cursor;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, SinkError, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Item};
use refloat_model::outcome::Consistency;
use refloat_model::tree_path::escape;
use refloat_source::SourceError;
use serde_json::Value;

use crate::client::{Client, List, Page};
use crate::error::ApiError;
use crate::kept::KeptFolder;
use crate::kind::{Kind, name};
use crate::layout::{
    DOCUMENT_SUFFIX, FOLDER_ENTRIES_MAX, Folder, SERVER_FILE, part_begins, part_name,
};
use crate::look::Look;
use crate::options::Options;
use crate::references::subject;
use crate::rules::object_rule;
use crate::saved::SavedObject;

/// Reads the objects of `item`'s folder into `sink`.
pub(crate) fn capture(
    client: &Client,
    options: &Options,
    look: &Look,
    item: &Item,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<Capture, SourceError> {
    let failed = |cause: ApiError| item_error(item, cause);
    let kind_and_folder = Folder::of_path(&item.path).and_then(|folder| {
        let kind = look
            .catalogue
            .find(&folder.group, &folder.version, &folder.resource)?;
        Some((kind, folder))
    });
    let Some((kind, folder)) = kind_and_folder else {
        return Err(failed(ApiError::Incomplete("resource of this name")));
    };
    if let Some(kept) = look.take_kept(&folder) {
        return write_kept(kept, look.objects(&folder), item, sink, cancel);
    }
    let labels = options
        .labels
        .as_deref()
        .filter(|_| kind.id() != "namespaces");
    let mut list = List::new(client.api(), kind, folder.namespace.as_deref()).labels(labels);
    let mut expected = Expected::of(item);
    let first = client.block_on(cancel, |_| list.next()).map_err(failed)?;
    let is_cut = is_long(first.as_ref(), look.objects(&folder));
    let mut writer = Writer::begin(sink, item, is_cut)?;
    let mut next = first;
    while let Some(page) = next {
        for object in page.objects {
            let name = subject("", &kind.id(), folder.namespace.as_deref(), name(&object)).name;
            if is_wanted(options, look, kind, &object) {
                expected.gone.remove(&name);
                writer.object(SavedObject::of(object))?;
            } else if expected.gone.remove(&name) {
                expected.unselected.insert(name);
            }
        }
        next = match client.block_on(cancel, |_| list.next()) {
            Ok(page) => page,
            Err(ApiError::Cancelled) => return Err(SourceError::Cancelled),
            Err(error) => {
                writer.gap(&error);
                expected = Expected::default();
                break;
            }
        };
    }
    writer.end()?;
    let mut findings = Vec::new();
    if list.is_torn {
        findings.push(Finding::warning(
            item.title.clone(),
            "the list took longer than the server keeps versions: its end is younger than its start",
        ));
    }
    findings.extend(expected.findings(item));
    Ok(Capture {
        consistency: Consistency::Definition,
        findings,
    })
}

/// Writes what the look kept of a folder: what the closure was computed with, of one list.
fn write_kept(
    kept: KeptFolder,
    objects: usize,
    item: &Item,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<Capture, SourceError> {
    let mut writer = Writer::begin(sink, item, objects > FOLDER_ENTRIES_MAX)?;
    for piece in kept {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        for object in piece.map_err(|error| item_error(item, ApiError::Kept(error)))? {
            writer.object(object)?;
        }
    }
    writer.end()?;
    Ok(Capture {
        consistency: Consistency::Definition,
        findings: Vec::new(),
    })
}

/// How many names a finding gives.
const NAMES_SHOWN: usize = 10;

/// The objects that the look saw and that are not in the folder: the closure was computed with them.
#[derive(Default)]
struct Expected {
    /// Those that did not come.
    gone: BTreeSet<String>,
    /// Those that came and are not selected any more: a condition may ask for what changes.
    unselected: BTreeSet<String>,
}

impl Expected {
    fn of(item: &Item) -> Self {
        Self {
            gone: item.provides.iter().map(|s| s.name.clone()).collect(),
            unselected: BTreeSet::new(),
        }
    }

    fn findings(self, item: &Item) -> impl Iterator<Item = Finding> {
        let both = [
            (self.gone, "deleted while the backup ran"),
            (
                self.unselected,
                "changed while the backup ran, no longer selected",
            ),
        ];
        let told = both.into_iter().filter(|(names, _)| !names.is_empty());
        told.map(|(names, what)| {
            let mut shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
            if names.len() > NAMES_SHOWN {
                shown.push("…");
            }
            let shown = shown.join(", ");
            let message = format!("{what}, and not in it: {} ({shown})", names.len());
            Finding::warning(item.title.clone(), message)
        })
    }
}

fn is_wanted(options: &Options, look: &Look, kind: &Kind, object: &Value) -> bool {
    look.selects(options, kind, object) && object_rule(kind, object, &look.around).is_none()
}

/// Whether a folder will be too long. The first page tells, unless the list is by label.
fn is_long(first: Option<&Page>, discovered: usize) -> bool {
    let listed = first.map_or(0, |page| {
        let remaining = page.remaining.and_then(|count| usize::try_from(count).ok());
        page.objects.len() + remaining.unwrap_or(0)
    });
    listed.max(discovered) > FOLDER_ENTRIES_MAX
}

fn item_error(item: &Item, cause: ApiError) -> SourceError {
    match cause {
        ApiError::Cancelled => SourceError::Cancelled,
        cause => SourceError::Item {
            operation: "list",
            subject: item.title.clone(),
            cause: Box::new(cause),
        },
    }
}

/// Writes objects into a folder, or into its parts.
struct Writer<'a> {
    sink: &'a mut dyn TreeSink,
    is_cut: bool,
    /// Objects in the folder or part that is open.
    entries: usize,
    /// The last object written, to say where a gap begins.
    last: String,
    /// What the server says of the objects in the folder or part that is open, a line each.
    server: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn begin(sink: &'a mut dyn TreeSink, item: &Item, is_cut: bool) -> Result<Self, SinkError> {
        let name = item.path.name().unwrap_or_default().to_vec();
        sink.enter(Entry::synthetic_directory(name))?;
        Ok(Self {
            sink,
            is_cut,
            entries: 0,
            last: String::new(),
            server: Vec::new(),
        })
    }

    fn object(&mut self, object: SavedObject) -> Result<(), SinkError> {
        self.last = object.name;
        if self.is_cut && part_begins(&self.last, self.entries) {
            self.close_part()?;
            let part = escape(&part_name(&self.last));
            self.sink.enter(Entry::synthetic_directory(part))?;
        }
        self.server.extend_from_slice(&object.server);
        let file = escape(&format!("{}{DOCUMENT_SUFFIX}", self.last));
        self.file(&file, object.document)?;
        self.entries += 1;
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), SinkError> {
        let size = bytes.len() as u64;
        let content = move || Ok(Cursor::new(bytes));
        self.sink
            .file(Entry::synthetic_file(name, size), Box::new(content))
    }

    fn server_file(&mut self) -> Result<(), SinkError> {
        if self.server.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.server);
        self.file(SERVER_FILE, lines)
    }

    fn close_part(&mut self) -> Result<(), SinkError> {
        if self.entries > 0 {
            self.server_file()?;
            self.sink.leave()?;
            self.entries = 0;
        }
        Ok(())
    }

    fn gap(&mut self, error: &ApiError) {
        let from = if self.last.is_empty() {
            "all objects".to_owned()
        } else {
            format!("objects after {}", self.last)
        };
        self.sink.fail(
            escape(&from).as_bytes(),
            format!("cannot go on listing: {error}"),
        );
    }

    fn end(mut self) -> Result<(), SinkError> {
        if self.is_cut {
            self.close_part()?;
        } else {
            self.server_file()?;
        }
        self.sink.leave()
    }
}
