//! Asking all sources what they hold.
//!
//! Invariant: a source that cannot be reached is a finding and does not hide the others.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_source::{Source, SourceError};

use super::images;
use super::plan::{Discovered, Selection};
use crate::chain;

/// What discovery came to.
#[derive(Debug, Default)]
pub struct Discovery {
    /// Sources that answered.
    pub found: Vec<Discovered>,
    /// Sources that did not, by name.
    pub unreachable: Vec<(String, SourceError)>,
}

/// Discovers several sources at the same time, then has those that store images look for what the
/// selected workloads are made from; without selections these are all workloads.
#[must_use]
pub fn discover(sources: &[Arc<dyn Source>], select: &[Selection], cancel: &Cancel) -> Discovery {
    let mut discovery = look(sources, cancel);
    let used = images::used(&discovery.found, select);
    if used.is_empty() {
        return discovery;
    }
    for source in sources {
        let name = source.description().name;
        let found = discovery.found.iter_mut().find(|found| found.name == name);
        let Some(Discovered { inventory, .. }) = found else {
            continue;
        };
        if let Err(error) = source.find_images(&used, inventory, cancel) {
            let message = format!("images in use cannot be looked for: {}", chain(&error));
            inventory.findings.push(Finding::warning(name, message));
        }
    }
    discovery
}

fn look(sources: &[Arc<dyn Source>], cancel: &Cancel) -> Discovery {
    let mut discovery = Discovery::default();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = sources
            .iter()
            .map(|source| scope.spawn(|| (source.description(), source.discover(cancel))))
            .collect();
        asked
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    for (answer, source) in answers.into_iter().zip(sources) {
        match answer {
            Ok((description, Ok(inventory))) => discovery.found.push(Discovered {
                name: description.name,
                kind: description.kind.to_owned(),
                address: description.address,
                inventory,
            }),
            Ok((description, Err(error))) => discovery.unreachable.push((description.name, error)),
            Err(_panic) => {
                let name = source.description().name;
                let error = SourceError::Item {
                    operation: "discover",
                    subject: name.clone(),
                    cause: "the adapter panicked".into(),
                };
                discovery.unreachable.push((name, error));
            }
        }
    }
    discovery
}
