//! What an unfinished restore has done to the target, kept on the target.
//!
//! The journal is a container that never runs, of an empty image, with one empty file for each
//! thing begun and each thing done. So it is found again from any machine, also through a remote
//! socket, and no mark is left in volume data, labels or settings. It goes away with the end of
//! a complete restore.
//!
//! Invariant: "begun" is on the target before the first byte of a volume or database, and "done"
//! only after the last was verified. What is begun and not done is half-filled.

use std::collections::BTreeSet;
use std::io::Read;

use refloat_model::cancel::Cancel;
use refloat_model::id::PointId;
use refloat_model::item::ItemKind;
use refloat_model::tree_path::{escape, unescape};
use serde_json::{Value, json};

use super::failure::Failure;
use super::present::text;
use crate::client::{Client, EXPORT_TIMEOUT, encode};
use crate::error::EngineError;

/// Label of everything that a restore makes for itself; its value is the point's id.
pub(crate) const LABEL_JOURNAL: &str = "refloat.restore.point";
/// The empty image of journals and of containers that only carry data in.
/// `latest`, because Podman 4 takes no other tag for an import.
const EMPTY_IMAGE: &str = "refloat-restore:latest";
const FOLDER: &str = "journal";

/// How far a thing came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing is known of it.
    Untouched,
    /// It was begun and not finished.
    Begun,
    /// It was finished and verified.
    Done,
}

/// What earlier runs of a restore of one point noted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Notes {
    begun: BTreeSet<(String, String)>,
    done: BTreeSet<(String, String)>,
    /// Points whose restore was never finished on this target, this one excepted.
    pub(super) other_points: Vec<String>,
}

impl Notes {
    /// Reads what is noted for `point`.
    pub(super) fn read(client: &Client, point: &PointId) -> Result<Self, EngineError> {
        let mut notes = Self::default();
        let filters = encode(&json!({"label": [LABEL_JOURNAL]}).to_string());
        let listed = client.get(&format!("/containers/json?all=true&filters={filters}"))?;
        for container in super::present::objects(&listed) {
            let name = super::present::first_name(&container);
            let label = container.get("Labels").and_then(|l| l.get(LABEL_JOURNAL));
            let label = text(label);
            if name == journal_name(point) {
                notes.read_files(client, &name)?;
            } else if label != point.to_string() {
                notes.other_points.push(label);
            }
        }
        notes.other_points.sort();
        notes.other_points.dedup();
        Ok(notes)
    }

    fn read_files(&mut self, client: &Client, container: &str) -> Result<(), EngineError> {
        let target = format!("/containers/{}/archive?path=/{FOLDER}", encode(container));
        let stream = match client.download(&target, EXPORT_TIMEOUT, &Cancel::default()) {
            Ok(stream) => stream,
            // Made, and nothing noted yet.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let local = |source| EngineError::Local {
            operation: "read the restore's journal",
            source,
        };
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries().map_err(local)? {
            let entry = entry.map_err(local)?;
            // What is begun once more is done no more: see `begin`.
            let is_void = entry.size() > 0;
            let path = entry.path_bytes().into_owned();
            let path = String::from_utf8_lossy(&path).into_owned();
            let mut parts = path.rsplit('/');
            let (name, kind, state) = (parts.next(), parts.next(), parts.next());
            if let (Some(name), Some(kind), Some(state)) = (name.and_then(unescape), kind, state) {
                let key = (kind.to_owned(), name);
                match state {
                    "begun" => drop(self.begun.insert(key)),
                    "done" if !is_void => drop(self.done.insert(key)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// How far a thing came in earlier runs.
    pub(super) fn progress(&self, kind: ItemKind, name: &str) -> Progress {
        let key = (kind.word().to_owned(), name.to_owned());
        match (self.begun.contains(&key), self.done.contains(&key)) {
            (_, true) => Progress::Done,
            (true, false) => Progress::Begun,
            (false, false) => Progress::Untouched,
        }
    }
}

/// The journal of a restore that runs.
pub(super) struct Journal<'c> {
    client: &'c Client,
    name: String,
    point: String,
    /// Whether no earlier run left one.
    pub(super) is_new: bool,
    /// What earlier runs noted.
    notes: Notes,
}

impl<'c> Journal<'c> {
    /// Continues the journal of this point's restore, or begins one.
    pub(super) fn open(client: &'c Client, point: &PointId) -> Result<Self, Failure> {
        let failed = || Failure::engine("begin the journal of", client.address().to_string());
        let notes = Notes::read(client, point).map_err(failed())?;
        let (name, point) = (journal_name(point), point.to_string());
        let mut journal = Self {
            client,
            name,
            point,
            is_new: false,
            notes,
        };
        if journal.id()?.is_none() {
            journal.is_new = true;
            journal
                .carrier(&journal.name, json!({}))
                .map_err(failed())?;
        }
        Ok(journal)
    }

    /// The id of the journal's container, if it is there.
    pub(super) fn id(&self) -> Result<Option<String>, Failure> {
        match self
            .client
            .get(&format!("/containers/{}/json", encode(&self.name)))
        {
            Ok(found) => Ok(Some(text(found.get("Id")))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Failure::engine("look at", self.name.clone())(error)),
        }
    }

    /// How far a thing came in earlier runs.
    pub(super) fn progress(&self, kind: ItemKind, name: &str) -> Progress {
        self.notes.progress(kind, name)
    }

    /// Makes a container that never runs, with mounts as a host configuration; gives its id.
    pub(super) fn carrier(&self, name: &str, mut host: Value) -> Result<String, EngineError> {
        let image = empty_image(self.client)?;
        if let Some(host) = host.as_object_mut() {
            host.insert("NetworkMode".to_owned(), "none".into());
        }
        let body = json!({
            "Image": image,
            "Cmd": ["none"],
            "Labels": {LABEL_JOURNAL: self.point},
            "HostConfig": host,
        });
        let target = format!("/containers/create?name={}", encode(name));
        let created = self.client.post(&target, Some(&body))?;
        Ok(text(created.get("Id")))
    }

    /// Notes that a thing is being filled. One that an earlier run finished, and that was lost
    /// since, counts as half-filled again: its note of being done gets content.
    pub(super) fn begin(&self, kind: ItemKind, name: &str) -> Result<(), Failure> {
        self.note("begun", kind, name, b"")?;
        match self.progress(kind, name) {
            Progress::Done => self.note("done", kind, name, b"void"),
            Progress::Begun | Progress::Untouched => Ok(()),
        }
    }

    /// Notes that a thing is whole.
    pub(super) fn done(&self, kind: ItemKind, name: &str) -> Result<(), Failure> {
        self.note("done", kind, name, b"")
    }

    fn note(&self, state: &str, kind: ItemKind, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = format!("{FOLDER}/{state}/{}/{}", kind.word(), escape(name));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        let bytes = builder
            .append_data(&mut header, path, content)
            .and_then(|()| builder.into_inner())?;
        let target = format!("/containers/{}/archive?path=/", encode(&self.name));
        let content: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(bytes));
        self.client
            .upload("PUT", &target, content)
            .map_err(Failure::engine(
                "note the progress of",
                format!("{} {name}", kind.word()),
            ))?;
        Ok(())
    }

    /// Ends a complete restore: nothing of it stays but what was restored.
    pub(super) fn close(self) -> Result<(), Failure> {
        let subject = self.client.address().to_string();
        let failed = || Failure::engine("end the journal of", subject.clone());
        let target = format!("/containers/{}?force=true&v=false", encode(&self.name));
        gone(self.client.delete(&target)).map_err(failed())?;
        let target = format!("/images/{}", encode(EMPTY_IMAGE));
        match self.client.delete(&target) {
            // Another point's journal still uses it.
            Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            answer => gone(answer).map_err(failed()),
        }
    }
}

/// What was to be removed and is not there is removed.
pub(super) fn gone(answer: Result<Value, EngineError>) -> Result<(), EngineError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn journal_name(point: &PointId) -> String {
    format!("refloat-restore-{}", point.short())
}

/// The id of the empty image, which is made if it is not there.
fn empty_image(client: &Client) -> Result<String, EngineError> {
    if let Some(image) = super::present::inspect_image(client, EMPTY_IMAGE)? {
        return Ok(image.id);
    }
    let empty = tar::Builder::new(Vec::new())
        .into_inner()
        .unwrap_or_default();
    let target = "/images/create?fromSrc=-&repo=refloat-restore&tag=latest";
    client.upload("POST", target, Box::new(std::io::Cursor::new(empty)))?;
    super::present::inspect_image(client, EMPTY_IMAGE)?
        .map(|image| image.id)
        .ok_or(EngineError::Incomplete("empty image"))
}
