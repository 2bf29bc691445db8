//! One registry as a source.
//!
//! Invariant: what is captured was discovered; a capture without a look at the registry before it
//! begins with one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refloat_model::cancel::Cancel;
use refloat_model::entry::TreeSink;
use refloat_model::item::{Capture, ImageUse, Inventory, Item, ItemKind, Workload};
use refloat_model::tree_path::TreePath;
use refloat_source::{Description, NothingHeld, Quiesced, Source, SourceError};

use crate::address::Address;
use crate::api::Registry;
use crate::capture::{self, Flights};
use crate::discover::{self, Listing, Wanted};
use crate::error::RegistryError;
use crate::layout;
use crate::name::{EngineName, RepositoryName};
use crate::options::RegistryOptions;

/// A registry whose repositories are captured.
pub struct RegistrySource {
    name: String,
    options: RegistryOptions,
    registry: Registry,
    seen: Mutex<HashMap<RepositoryName, Arc<Listing>>>,
    flights: Flights,
}

impl RegistrySource {
    /// Prepares a connection to a registry; nothing is sent before discovery.
    ///
    /// # Errors
    /// The address is not allowed (plain HTTP to another machine), or certificates cannot be read.
    pub fn connect(
        name: &str,
        address: &Address,
        options: RegistryOptions,
    ) -> Result<Self, SourceError> {
        let registry = Registry::new(address, &options.connect)
            .map_err(|error| unavailable("connect to", address.to_string(), error))?;
        Ok(Self {
            name: name.to_owned(),
            options,
            registry,
            seen: Mutex::new(HashMap::new()),
            flights: Flights::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Blobs that captures of this source are fetching.
    pub(crate) const fn flights(&self) -> &Flights {
        &self.flights
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What was found in a repository; looks if nobody has yet.
    pub(crate) fn listing(
        &self,
        repository: &RepositoryName,
        cancel: &Cancel,
    ) -> Result<Arc<Listing>, RegistryError> {
        if let Some(listing) = self.seen().get(repository) {
            return Ok(Arc::clone(listing));
        }
        let wanted = Wanted::of(&self.options.repositories, repository);
        let listing = Listing::read(&self.registry, &self.options, repository, &wanted, cancel)?;
        Ok(self.remember(repository, listing))
    }

    /// What was found in a repository so far.
    pub(crate) fn known(&self, repository: &RepositoryName) -> Option<Arc<Listing>> {
        self.seen().get(repository).map(Arc::clone)
    }

    /// Everything that was found so far, by repository.
    pub(crate) fn all_known(&self) -> Vec<(RepositoryName, Arc<Listing>)> {
        let seen = self.seen();
        let all = seen.iter();
        all.map(|(name, listing)| (name.clone(), Arc::clone(listing)))
            .collect()
    }

    /// The hosts by which image references name this registry.
    pub(crate) fn hosts(&self) -> BTreeSet<String> {
        let own = self.registry.address().authority();
        let others = self.options.also_known_as.iter().map(String::as_str);
        others.chain([own]).map(EngineName::host).collect()
    }

    pub(crate) fn remember(&self, repository: &RepositoryName, listing: Listing) -> Arc<Listing> {
        let listing = Arc::new(listing);
        self.seen().insert(repository.clone(), Arc::clone(&listing));
        listing
    }

    /// Forgets what was found before: discovery looks anew.
    pub(crate) fn forget(&self) {
        self.seen().clear();
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<RepositoryName, Arc<Listing>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for RegistrySource {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "registry",
            address: self.registry.address().to_string(),
        }
    }

    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError> {
        discover::discover(self, cancel)
    }

    fn find_images(
        &self,
        images: &[ImageUse],
        inventory: &mut Inventory,
        cancel: &Cancel,
    ) -> Result<(), SourceError> {
        discover::find_images(self, images, inventory, cancel)
    }

    fn content_folders(&self, item: &Item) -> Vec<TreePath> {
        match item.kind {
            ItemKind::Image => vec![layout::blobs(&item.path)],
            _ => Vec::new(),
        }
    }

    fn quiesce(&self, _: &Workload, _: &Cancel) -> Result<Box<dyn Quiesced>, SourceError> {
        // Manifests and blobs never change; what moves are tags, and those are taken first.
        Ok(Box::new(NothingHeld))
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        capture::capture(self, item, sink, cancel)
    }
}

/// A registry's error as one of the source.
pub(crate) fn unavailable(
    operation: &'static str,
    subject: String,
    error: RegistryError,
) -> SourceError {
    if matches!(error, RegistryError::Cancelled(_)) {
        return SourceError::Cancelled;
    }
    SourceError::Unavailable {
        operation,
        subject,
        hint: error.hint(),
        cause: Box::new(error),
    }
}

/// A registry's error about one item.
pub(crate) fn item_failed(
    operation: &'static str,
    subject: String,
    error: RegistryError,
) -> SourceError {
    if matches!(error, RegistryError::Cancelled(_)) {
        return SourceError::Cancelled;
    }
    SourceError::Item {
        operation,
        subject,
        cause: Box::new(error),
    }
}
