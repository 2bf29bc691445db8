//! One engine as a source.
//!
//! Invariant: what is captured was discovered; a capture without a look at the engine before it
//! begins with one.

use std::sync::{Arc, Mutex, PoisonError};

use refloat_model::cancel::Cancel;
use refloat_model::entry::TreeSink;
use refloat_model::item::{Capture, ImageUse, Inventory, Item, Workload};
use refloat_source::{Description, NothingHeld, Quiesced, Source, SourceError};

use crate::address::Address;
use crate::capture::capture;
use crate::client::Client;
use crate::consistency::{HoldRequest, Holds, hold};
use crate::discover::{Discovered, Estate, ReadError, find_images, inventory};
use crate::error::EngineError;
use crate::locality::is_local;
use crate::options::Options;

/// A Docker or Podman engine.
pub struct DockerSource {
    name: String,
    options: Options,
    pub(crate) client: Arc<Client>,
    pub(crate) holds: Holds,
    seen: Mutex<Option<Arc<Discovered>>>,
}

impl DockerSource {
    /// Connects to an engine. Nothing but its version is asked for.
    ///
    /// # Errors
    /// Nobody answers at the address, or this user may not ask; with a hint what to do.
    pub fn connect(name: &str, address: &Address, options: Options) -> Result<Self, SourceError> {
        let address = options.connect.address(address);
        let client = Client::connect(&address, &options.connect)
            .map_err(|error| unavailable("connect to", address.to_string(), error))?;
        Ok(Self {
            name: name.to_owned(),
            options,
            client: Arc::new(client),
            holds: Holds::default(),
            seen: Mutex::new(None),
        })
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// What the last look found; looks if there was none.
    pub(crate) fn discovered(&self, cancel: &Cancel) -> Result<Arc<Discovered>, SourceError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(discovered) = seen.as_ref() {
            return Ok(Arc::clone(discovered));
        }
        drop(seen);
        self.look(cancel)
    }

    /// Whether paths of the engine are ours.
    pub(crate) fn is_local(&self, discovered: &Discovered) -> bool {
        is_local(self.client.address(), &discovered.estate.host)
    }

    fn look(&self, cancel: &Cancel) -> Result<Arc<Discovered>, SourceError> {
        let estate = Estate::read(&self.client, &self.options, cancel).map_err(|e| match e {
            ReadError::Cancelled => SourceError::Cancelled,
            ReadError::Engine(operation, error) => {
                unavailable(operation, self.client.address().to_string(), error)
            }
        })?;
        let discovered = Arc::new(inventory(&self.name, &self.options, estate));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&discovered));
        Ok(discovered)
    }
}

impl Source for DockerSource {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "docker",
            address: self.client.address().to_string(),
        }
    }

    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError> {
        Ok(self.look(cancel)?.inventory.clone())
    }

    fn find_images(
        &self,
        images: &[ImageUse],
        inventory: &mut Inventory,
        cancel: &Cancel,
    ) -> Result<(), SourceError> {
        find_images(&*self.discovered(cancel)?, images, inventory);
        Ok(())
    }

    fn quiesce(
        &self,
        workload: &Workload,
        cancel: &Cancel,
    ) -> Result<Box<dyn Quiesced>, SourceError> {
        let discovered = self.discovered(cancel)?;
        let mut members: Vec<_> = discovered
            .members(&workload.name)
            .filter(|member| member.is_running() && !member.consistency.exclude)
            .collect();
        // Whoever depends on others is held before them, and resumed after them.
        members.sort_by_key(|member| std::cmp::Reverse(depth(&discovered, member, 0)));
        let requests: Vec<HoldRequest> = members
            .into_iter()
            .filter(|member| member.consistency.is_needed())
            .map(|member| HoldRequest {
                id: member.id.clone(),
                name: member.definition.name.clone(),
                consistency: member.consistency.clone(),
                mask: Arc::clone(&member.mask),
                stop_seconds: member
                    .definition
                    .config
                    .get("StopTimeout")
                    .and_then(serde_json::Value::as_u64),
            })
            .collect();
        if requests.is_empty() {
            return Ok(Box::new(NothingHeld));
        }
        let timeout = self.options.command_timeout;
        match hold(&self.client, &self.holds, timeout, &requests, cancel) {
            Ok(held) => Ok(Box::new(held)),
            Err(error) if error.is_cancelled() => Err(SourceError::Cancelled),
            Err(error) => Err(SourceError::Item {
                operation: "quiesce",
                subject: workload.name.clone(),
                cause: Box::new(error),
            }),
        }
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        capture(self, item, sink, cancel)
    }
}

/// Longest chain of services this one waits for.
fn depth(
    discovered: &Discovered,
    container: &crate::discover::RunningContainer,
    level: usize,
) -> usize {
    /// Chains longer than this are circles.
    const DEPTH_MAX: usize = 32;
    let Some(member) = container.definition.project.as_ref() else {
        return 0;
    };
    if level >= DEPTH_MAX {
        return 0;
    }
    member
        .depends_on
        .keys()
        .filter_map(|service| {
            discovered.estate.containers.iter().find(|other| {
                other.definition.project.as_ref().is_some_and(|other| {
                    other.project == member.project && other.service == *service
                })
            })
        })
        .map(|other| 1 + depth(discovered, other, level + 1))
        .max()
        .unwrap_or(0)
}

/// An engine's error as one of the source.
pub(crate) fn unavailable(
    operation: &'static str,
    subject: String,
    error: EngineError,
) -> SourceError {
    SourceError::Unavailable {
        operation,
        subject,
        hint: error.hint(),
        cause: Box::new(error),
    }
}
