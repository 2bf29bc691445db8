//! One cluster as a source.
//!
//! Invariant: what is captured was looked at; a capture without a look before it begins with one.

use std::sync::{Arc, Mutex, PoisonError};

use refloat_model::cancel::Cancel;
use refloat_model::entry::TreeSink;
use refloat_model::item::{Capture, Inventory, Item, Workload};
use refloat_source::{Description, NothingHeld, Quiesced, Source, SourceError};

use crate::capture::capture;
use crate::client::Client;
use crate::error::ApiError;
use crate::look::{Look, look};
use crate::options::Options;

/// A Kubernetes cluster.
pub struct KubernetesSource {
    name: String,
    options: Options,
    client: Client,
    seen: Mutex<Option<Arc<Look>>>,
}

impl KubernetesSource {
    /// Prepares the connection to a cluster; nothing is asked yet.
    ///
    /// # Errors
    /// The kubeconfig, its context or its certificates cannot be used; with a hint what to do.
    pub fn connect(name: &str, options: Options) -> Result<Self, SourceError> {
        let client = Client::connect(&options.access)
            .map_err(|error| unavailable("connect to", format!("cluster {name}"), error))?;
        Ok(Self {
            name: name.to_owned(),
            options,
            client,
            seen: Mutex::new(None),
        })
    }

    fn look(&self, cancel: &Cancel) -> Result<Arc<Look>, SourceError> {
        let seen = self
            .client
            .block_on(cancel, |api| look(api, &self.name, &self.options))
            .map_err(|error| unavailable("discover", self.client.address().to_owned(), error))?;
        let seen = Arc::new(seen);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seen));
        Ok(seen)
    }

    /// What the last look saw; looks if there was none.
    fn seen(&self, cancel: &Cancel) -> Result<Arc<Look>, SourceError> {
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        seen.map_or_else(|| self.look(cancel), Ok)
    }
}

impl Source for KubernetesSource {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "kubernetes",
            address: self.client.address().to_owned(),
        }
    }

    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError> {
        Ok(self.look(cancel)?.inventory.clone())
    }

    fn quiesce(&self, _: &Workload, _: &Cancel) -> Result<Box<dyn Quiesced>, SourceError> {
        // Objects are read as of one version each; nothing has to stand still for that.
        Ok(Box::new(NothingHeld))
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        let seen = self.seen(cancel)?;
        capture(&self.client, &self.options, &seen, item, sink, cancel)
    }
}

fn unavailable(operation: &'static str, subject: String, error: ApiError) -> SourceError {
    match error {
        ApiError::Cancelled => SourceError::Cancelled,
        error => SourceError::Unavailable {
            operation,
            subject,
            hint: error.hint(),
            cause: Box::new(error),
        },
    }
}
