//! One folder of objects, from the API into a tree.
//!
//! Objects are written page by page as the list is read: memory holds one page, whatever the
//! folder's size.
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
use crate::kind::{Kind, name};
use crate::layout::{
    DOCUMENT_SUFFIX, FOLDER_ENTRIES_MAX, Folder, SERVER_FILE, part_begins, part_name,
};
use crate::look::Look;
use crate::options::Options;
use crate::references::subject;
use crate::rules::object_rule;
use crate::{noise, yaml};

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
            if is_wanted(options, look, kind, &object) {
                expected.came(&kind.id(), folder.namespace.as_deref(), name(&object));
                writer.object(object)?;
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
    findings.extend(expected.gone(item));
    Ok(Capture {
        consistency: Consistency::Definition,
        findings,
    })
}

/// How many names a finding gives.
const NAMES_SHOWN: usize = 10;

/// The objects that the look saw and that have not come yet.
#[derive(Default)]
struct Expected(BTreeSet<String>);

impl Expected {
    fn of(item: &Item) -> Self {
        Self(item.provides.iter().map(|s| s.name.clone()).collect())
    }

    fn came(&mut self, id: &str, namespace: Option<&str>, name: &str) {
        self.0.remove(&subject("", id, namespace, name).name);
    }

    /// What was deleted in the meantime: the closure was computed with it.
    fn gone(self, item: &Item) -> Option<Finding> {
        if self.0.is_empty() {
            return None;
        }
        let mut shown: Vec<&str> = self
            .0
            .iter()
            .take(NAMES_SHOWN)
            .map(String::as_str)
            .collect();
        if self.0.len() > NAMES_SHOWN {
            shown.push("…");
        }
        let message = format!(
            "deleted while the backup ran, and not in it: {} ({})",
            self.0.len(),
            shown.join(", ")
        );
        Some(Finding::warning(item.title.clone(), message))
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

    fn object(&mut self, mut object: Value) -> Result<(), SinkError> {
        name(&object).clone_into(&mut self.last);
        if self.is_cut && part_begins(&self.last, self.entries) {
            self.close_part()?;
            let part = escape(&part_name(&self.last));
            self.sink.enter(Entry::synthetic_directory(part))?;
        }
        let server = noise::split(&mut object);
        self.server.extend_from_slice(server.to_string().as_bytes());
        self.server.push(b'\n');
        let file = escape(&format!("{}{DOCUMENT_SUFFIX}", self.last));
        self.file(&file, yaml::write(&object).into_bytes())?;
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
