//! Blobs that are being fetched, so that repositories captured at the same time do not fetch the
//! same one twice.
//!
//! Invariant: a flight ends when its ticket is dropped, whatever happened; nobody waits for a
//! flight while he holds a ticket.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_model::cancel::{Cancel, Cancelled};

use crate::digest::Digest;

/// How often a flight is looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Default)]
pub(crate) struct Flights(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: HashSet<Digest>,
    /// Came whole: the sink has them, or will in a moment.
    landed: HashSet<Digest>,
}

/// The right to fetch a blob.
pub(super) struct Ticket<'a> {
    flights: &'a Flights,
    digest: Digest,
}

impl Flights {
    /// None if somebody is fetching it or has.
    pub(super) fn begin(&self, digest: &Digest) -> Option<Ticket<'_>> {
        let mut state = self.lock();
        let is_ours = !state.landed.contains(digest) && state.under_way.insert(*digest);
        is_ours.then(|| Ticket {
            flights: self,
            digest: *digest,
        })
    }

    /// Waits until nobody is fetching it; whether it came.
    pub(super) fn wait(&self, digest: &Digest, cancel: &Cancel) -> Result<bool, Cancelled> {
        loop {
            cancel.check()?;
            let state = self.lock();
            if !state.under_way.contains(digest) {
                return Ok(state.landed.contains(digest));
            }
            drop(state);
            std::thread::sleep(TICK);
        }
    }

    /// What landed could not be taken over: whoever asks next fetches it.
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().landed.remove(digest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The blob came whole, and others can take it over.
    pub(super) fn landed(&self) {
        self.flights.lock().landed.insert(self.digest);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.flights.lock().under_way.remove(&self.digest);
    }
}
