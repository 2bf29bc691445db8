//! SIGINT and SIGTERM.
//!
//! Invariant: the first signal asks the run to stop in good order (applications are resumed,
//! nothing half is published); the second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use refloat_model::cancel::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

use crate::exit_status::ExitStatus;
use crate::output::say;

/// What the signals of this process ask for.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Raised by the first signal.
    pub cancel: Cancel,
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
                    say("stopping; a second signal ends at once\n");
                }
            })?;
        Ok(this)
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
