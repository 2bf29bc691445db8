//! The contract between the engine and the adapters.
//!
//! An adapter gives the engine a [`Source`] (discover, quiesce, capture) and, where it can bring
//! things back into a running system, a [`Target`] (plan, execute). The engine gives an adapter a
//! [`StoredPoint`] to restore from.
//!
//! Invariant: an adapter never sees the repository, and the engine never sees an adapter's client.

mod stored;
mod target;

use std::error::Error;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{SinkError, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, ImageUse, Inventory, Item, Workload};
use refloat_model::tree_path::TreePath;

pub use stored::{StoredError, StoredPoint, WrittenFolder};
pub use target::{Target, TargetError};

/// What an adapter says of itself, for records and messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// The configured name, `web`.
    pub name: String,
    /// `docker`, `files` …
    pub kind: &'static str,
    /// The address without credentials.
    pub address: String,
}

/// Why a source could not do what it was asked. The text names operation and subject.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system cannot be reached or refuses: nothing of this source can be captured.
    #[error("cannot {operation} {subject}")]
    Unavailable {
        /// `connect to`, `list the containers of` …
        operation: &'static str,
        /// Address or object.
        subject: String,
        /// What it said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
        /// What to do about it, where there is something to do.
        hint: Option<String>,
    },
    /// One item cannot be captured; others can.
    #[error("cannot {operation} {subject}")]
    Item {
        /// `read`, `dump` …
        operation: &'static str,
        /// The item or file.
        subject: String,
        /// What happened.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
    /// The sink cannot go on: the whole run ends.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// A system whose state can be captured.
///
/// Calls may block; they come from the engine's threads, several at once for different items.
pub trait Source: Send + Sync {
    /// Name, kind and address.
    fn description(&self) -> Description;

    /// Finds everything the source holds, changing nothing. Items that a rule leaves out are part
    /// of the answer with `skip` set, so that nothing is passed over in silence.
    ///
    /// # Errors
    /// The system cannot be reached. What single objects hide is a finding.
    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError>;

    /// Looks for images that workloads, also of other sources, are made from, once all sources
    /// were discovered, and adds to `inventory` what it holds of them: the item that has such an
    /// image provides the image's subject, also if a rule leaves the item out. Changes nothing.
    ///
    /// For stores of images; others hold none.
    ///
    /// # Errors
    /// The system cannot be reached. What single images hide is a finding.
    fn find_images(
        &self,
        _images: &[ImageUse],
        _inventory: &mut Inventory,
        _cancel: &Cancel,
    ) -> Result<(), SourceError> {
        Ok(())
    }

    /// Directories of an item whose files are named by the SHA-256 digests of their bytes, in
    /// hexadecimal, each verified when it was captured: other items may take them over.
    fn content_folders(&self, _item: &Item) -> Vec<TreePath> {
        Vec::new()
    }

    /// Makes a workload consistent before its items are captured. The engine resumes it always,
    /// also when capture failed or the run was cancelled.
    ///
    /// # Errors
    /// It could not be made consistent; whatever was already done has been undone.
    fn quiesce(
        &self,
        workload: &Workload,
        cancel: &Cancel,
    ) -> Result<Box<dyn Quiesced>, SourceError>;

    /// Pushes exactly one entry into `sink`: the file or directory that `item.path` names, under
    /// its last component. What cannot be read inside it is reported to the sink and the rest
    /// goes on.
    ///
    /// # Errors
    /// The item as a whole cannot be captured, the run was cancelled, or the sink gave up.
    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError>;
}

/// A workload that is held consistent until it is resumed.
///
/// Dropping it without resuming must resume as well: a panic may not leave an application down.
pub trait Quiesced: Send {
    /// Undoes everything that quiescing did, in reverse order, whatever fails on the way.
    /// What could not be undone, and failed commands, are findings.
    fn resume(self: Box<Self>) -> Vec<Finding>;
}

/// A workload that needs nothing held.
#[derive(Debug)]
pub struct NothingHeld;

impl Quiesced for NothingHeld {
    fn resume(self: Box<Self>) -> Vec<Finding> {
        Vec::new()
    }
}
