//! Reading one item into a sink.
//!
//! Invariant: exactly one entry is pushed, under the last component of the item's path. What is
//! gone meanwhile is a named failure of its item.

mod consistency;
mod documents;
mod dumps;
mod folder;
mod images;
mod kept;
mod layers;
mod project;
mod rootfs;

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, SinkError, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Item};
use refloat_model::outcome::Consistency;
use refloat_source::SourceError;

use crate::archive::ArchiveError;
use crate::client::Client;
use crate::definition::{Document, to_bytes};
use crate::discover::{Discovered, Subject};
use crate::error::EngineError;
use crate::source::DockerSource;

/// Captures one item.
pub(crate) fn capture(
    source: &DockerSource,
    item: &Item,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<Capture, SourceError> {
    let discovered = source.discovered(cancel)?;
    let subject = discovered.subjects.get(&item.path).cloned();
    let (Some(subject), Some(name)) = (subject, item.path.name()) else {
        return Err(failed("find", item, Unknown));
    };
    let mut session = Session {
        source,
        discovered: &discovered,
        item,
        name,
        sink,
        cancel,
        findings: Vec::new(),
    };
    let consistency = match &subject {
        Subject::Host => session.host()?,
        Subject::Container(id) => session.container(id)?,
        Subject::Network(name) => session.network(name)?,
        Subject::Volume(name) => session.volume(name)?,
        Subject::Bind { source, .. } => session.bind(source)?,
        Subject::Project(project) => session.project(project)?,
        Subject::Image(id) => session.image(id)?,
        Subject::Dumps(id) => session.dumps(id)?,
        Subject::Rootfs(id) => session.rootfs(id)?,
        Subject::Swarm(folder, name) => session.swarm(folder, name)?,
    };
    Ok(Capture {
        consistency,
        findings: session.findings,
    })
}

/// One capture.
struct Session<'a> {
    source: &'a DockerSource,
    discovered: &'a Discovered,
    item: &'a Item,
    /// What the entry is called.
    name: &'a [u8],
    sink: &'a mut dyn TreeSink,
    cancel: &'a Cancel,
    findings: Vec<Finding>,
}

/// The item is none that was discovered.
#[derive(Debug, thiserror::Error)]
#[error("it is not on this engine")]
struct Unknown;

impl<'a> Session<'a> {
    const fn client(&self) -> &'a Arc<Client> {
        &self.source.client
    }

    fn fail(&self, operation: &'static str, error: EngineError) -> SourceError {
        if self.cancel.is_cancelled() {
            return SourceError::Cancelled;
        }
        failed(operation, self.item, error)
    }

    fn fail_archive(&self, error: ArchiveError) -> SourceError {
        match error {
            ArchiveError::Sink(error) => SourceError::Sink(error),
            _ if self.cancel.is_cancelled() => SourceError::Cancelled,
            other => failed("read", self.item, other),
        }
    }

    /// Writes a document as the file `name` of the current directory.
    fn document<D: Document>(&mut self, name: &[u8], document: &D) -> Result<(), SourceError> {
        let bytes = to_bytes(document).map_err(|error| self.fail("write", error.into()))?;
        self.bytes(name, &bytes)?;
        Ok(())
    }

    fn bytes(&mut self, name: &[u8], bytes: &[u8]) -> Result<(), SinkError> {
        let entry = Entry::synthetic_file(name, bytes.len() as u64);
        self.sink.stream(entry, &mut &*bytes)
    }

    fn enter(&mut self, name: &[u8]) -> Result<(), SinkError> {
        self.sink.enter(Entry::synthetic_directory(name))
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.sink.leave()
    }

    fn note(&mut self, message: impl Into<String>) {
        self.findings
            .push(Finding::note(self.item.title.clone(), message));
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.findings
            .push(Finding::warning(self.item.title.clone(), message));
    }

    /// For what does not change while it is read.
    const fn definition() -> Consistency {
        Consistency::Definition
    }
}

fn failed(
    operation: &'static str,
    item: &Item,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> SourceError {
    SourceError::Item {
        operation,
        subject: format!("{} {}", item.kind.word(), item.title),
        cause: Box::new(cause),
    }
}
