//! SIGINT and SIGTERM.
//!
//! Invariant: the first signal asks the run to stop in good order (applications are resumed,
//! nothing half is published, what came is kept); the second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

use crate::exit_status::ExitStatus;
use crate::output::say;

/// How long storage may still be written after a signal: the rest of the ten seconds after which
/// container engines kill whom they asked to stop is for applications that are to be resumed.
const LINGER: Duration = Duration::from_secs(4);

/// What the signals of this process ask for.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Raised by the first signal.
    pub cancel: Cancel,
    /// Raised with the first signal, or [`LINGER`] later if the run keeps what it has.
    pub storage: Cancel,
    keeps: Arc<AtomicBool>,
    first: Arc<AtomicI32>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let this = Self::default();
        let mut incoming = Incoming::new([SIGINT, SIGTERM])?;
        let heard = this.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in incoming.forever() {
                    if heard.cancel.is_cancelled() {
                        std::process::exit(128 + signal);
                    }
                    heard.first.store(signal, Ordering::SeqCst);
                    heard.cancel.cancel();
                    // First, since whoever reads what is said may be slow.
                    heard.stop_storage();
                    say("stopping; a second signal ends at once\n");
                }
            })?;
        Ok(this)
    }

    /// Says whether the run of this moment keeps what it has when it is asked to stop, and so needs
    /// storage for a while.
    pub fn set_keeps(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::SeqCst);
    }

    fn stop_storage(&self) {
        if !self.keeps.load(Ordering::SeqCst) {
            return self.storage.cancel();
        }
        let storage = self.storage.clone();
        let later = move || {
            std::thread::sleep(LINGER);
            storage.cancel();
        };
        let started = std::thread::Builder::new().spawn(later);
        if started.is_err() {
            self.storage.cancel();
        }
    }

    /// How an interrupted run ends.
    pub fn status(&self) -> ExitStatus {
        if self.first.load(Ordering::SeqCst) == SIGTERM {
            ExitStatus::Terminated
        } else {
            ExitStatus::Interrupted
        }
    }
}
