//! SIGINT, SIGTERM, and SIGHUP of a terminal that goes away.
//!
//! Invariant: the first signal asks the run to stop in good order (applications are resumed,
//! nothing half is published, what came is kept); the second one ends the process at once. SIGHUP
//! stops too and never ends at once: terminals, shells and service managers send it beside others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
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
        let mut signals = vec![SIGINT, SIGTERM];
        if hang_up_counts() {
            signals.push(SIGHUP);
        }
        let mut incoming = Incoming::new(signals)?;
        let heard = this.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut asked = false;
                for signal in incoming.forever() {
                    if signal != SIGHUP {
                        if asked {
                            std::process::exit(128 + signal);
                        }
                        asked = true;
                    }
                    if heard.cancel.is_cancelled() {
                        continue;
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
        match self.first.load(Ordering::SeqCst) {
            SIGTERM => ExitStatus::Terminated,
            SIGHUP => ExitStatus::HungUp,
            _ => ExitStatus::Interrupted,
        }
    }
}

/// Whether SIGHUP would end this process, as whoever started it with `nohup` does not want. Where
/// that cannot be told it is left as it is.
fn hang_up_counts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) == 0)
}
