//! Reading one repository into a sink, as an OCI image layout.
//!
//! Two ways. Where referrers show as tags, the tags and their digests say everything: if they are
//! as in the parent point, its layout is taken over and nothing else is asked. Otherwise manifests
//! are read again, they are small, and every blob that the parent has is taken over by its name.
//!
//! Invariants: exactly one entry is pushed; the marker `complete-<fingerprint>` is written only
//! beside a layout that is whole; what is not what its digest says is not kept.

mod download;
mod entries;
mod fetch;
mod flights;
mod walk;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Item};
use refloat_model::outcome::Consistency;
use refloat_source::SourceError;

pub(crate) use self::entries::{IndexEntry, IndexText};
pub(crate) use self::flights::Flights;
use self::walk::{Walk, Walked};
use crate::api::ReferrersApi;
use crate::discover::Listing;
use crate::layout::{self, RepositoryRecord};
use crate::name::RepositoryName;
use crate::source::{RegistrySource, item_failed};

/// The largest configuration of a registry that is taken, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// See the module.
pub(crate) fn capture(
    source: &RegistrySource,
    item: &Item,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<Capture, SourceError> {
    if layout::is_config(&item.path) {
        return config(source, item, sink);
    }
    let failed = |error| item_failed("read", item.title.clone(), error);
    let repository: RepositoryName = item
        .title
        .parse()
        .map_err(|error| failed(crate::RegistryError::Name(error)))?;
    let listing = source.listing(&repository, cancel).map_err(failed)?;
    let name = item.path.name().unwrap_or_default();
    sink.enter(Entry::synthetic_directory(name))?;
    let mut session = Session {
        source,
        repository: &repository,
        listing: &listing,
        cancel,
    };
    let findings = session.layout(sink)?;
    sink.leave()?;
    Ok(Capture {
        consistency: Consistency::Definition,
        findings,
    })
}

/// The capture of one repository.
pub(crate) struct Session<'a> {
    source: &'a RegistrySource,
    repository: &'a RepositoryName,
    listing: &'a Listing,
    cancel: &'a Cancel,
}

impl Session<'_> {
    fn layout(&mut self, sink: &mut dyn TreeSink) -> Result<Vec<Finding>, SourceError> {
        let marker = format!(
            "complete-{}",
            self.listing.fingerprint(self.source.options())
        );
        let by_tags = self.referrers_are_tags()?;
        let marked = by_tags && sink.reuse(marker.as_bytes())?;
        if marked && sink.reuse(layout::BLOBS.as_bytes())? {
            self.fail_listed(sink);
            for name in [layout::INDEX, layout::LAYOUT, layout::RECORD] {
                if !sink.reuse(name.as_bytes())? {
                    let why = "the parent point has blobs and a marker, but not this file";
                    sink.fail(name.as_bytes(), why.to_owned());
                }
            }
            return Ok(Vec::new());
        }
        sink.enter(Entry::synthetic_directory(layout::BLOBS))?;
        sink.enter(Entry::synthetic_directory(layout::SHA256))?;
        let walked = Walk::run(self, sink)?;
        sink.leave()?;
        sink.leave()?;
        self.fail_listed(sink);
        for (name, reason) in &walked.failures {
            sink.fail(name.as_bytes(), reason.clone());
        }
        self.write_documents(&walked, sink)?;
        let is_whole = walked.is_whole && self.listing.failures.is_empty();
        if is_whole && by_tags && !marked {
            bytes(sink, &marker, b"")?;
        } else if !is_whole && marked {
            // The marker came from the parent and would now stand beside a layout with holes.
            let error = crate::RegistryError::Invalid {
                what: format!("the capture of {}", self.repository),
                why: "the parent point is damaged, and the registry does not have all of it",
            };
            return Err(item_failed("read", self.repository.to_string(), error));
        }
        let subject = self.repository.to_string();
        Ok(walked
            .notes
            .into_iter()
            .map(|note| Finding::warning(&subject, note))
            .collect())
    }

    /// Tags that could not even be resolved.
    fn fail_listed(&self, sink: &mut dyn TreeSink) {
        for (name, reason) in &self.listing.failures {
            sink.fail(format!("{name} (tag)").as_bytes(), reason.clone());
        }
    }

    fn write_documents(&self, walked: &Walked, sink: &mut dyn TreeSink) -> Result<(), SourceError> {
        bytes(sink, layout::LAYOUT, layout::LAYOUT_TEXT)?;
        let record = RepositoryRecord {
            version: 1,
            registry: self.source.registry().address().authority().to_owned(),
            repository: self.repository.to_string(),
            absent: walked.absent.iter().cloned().collect(),
        };
        // A struct of texts always becomes JSON.
        let record = serde_json::to_vec(&record).unwrap_or_default();
        bytes(sink, layout::RECORD, &record)?;
        let mut index = IndexText::new(&walked.roots);
        sink.stream(Entry::synthetic_file(layout::INDEX, 0), &mut index)?;
        Ok(())
    }

    /// Whether every referrer shows as a tag: the registry has no API for them.
    fn referrers_are_tags(&self) -> Result<bool, SourceError> {
        let registry = self.source.registry();
        if registry.referrers_api() == ReferrersApi::Unknown
            && let Some(root) = self.listing.roots.first()
        {
            let asked = registry.referrers(self.repository, &root.digest, self.cancel);
            let failed = |error| item_failed("read", self.repository.to_string(), error);
            let _learnt = asked.map_err(failed)?;
        }
        Ok(registry.referrers_api() == ReferrersApi::Absent)
    }
}

pub(crate) fn bytes(
    sink: &mut dyn TreeSink,
    name: &str,
    mut content: &[u8],
) -> Result<(), SourceError> {
    sink.stream(
        Entry::synthetic_file(name, content.len() as u64),
        &mut content,
    )?;
    Ok(())
}

/// The registry's own configuration, as one file.
fn config(
    source: &RegistrySource,
    item: &Item,
    sink: &mut dyn TreeSink,
) -> Result<Capture, SourceError> {
    use std::io::Read as _;
    let failed = |cause: std::io::Error| SourceError::Item {
        operation: "read",
        subject: item.title.clone(),
        cause: cause.into(),
    };
    let path = source.options().config_file.as_deref();
    let path = path.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(CONFIG_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(failed)?;
    let name = item.path.name().unwrap_or_default();
    let entry = Entry::synthetic_file(name, content.len() as u64);
    sink.stream(entry, &mut content.as_slice())?;
    Ok(Capture {
        consistency: Consistency::Definition,
        findings: Vec::new(),
    })
}
