//! Progress: a bar with rate and remaining time on a terminal, lines elsewhere, or nothing.
//!
//! Invariant: progress goes to standard error and never decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use refloat_model::outcome::Outcome;
use refloat_model::progress::{Counters, Progress};

use crate::output::{Verbosity, say};
use crate::settings::{ProgressStyle, Settings};

/// How often the bar looks at the counters.
const TICK: Duration = Duration::from_millis(100);
const TEMPLATE_UNKNOWN: &str =
    "{elapsed_precise} {msg:40!} {bytes} at {binary_bytes_per_sec}, {prefix}";
const TEMPLATE_KNOWN: &str = "{elapsed_precise} {msg:40!} [{wide_bar}] {bytes} of {total_bytes} at \
                              {binary_bytes_per_sec}, {eta} left, {prefix}";

/// Shows the progress of one command until it is dropped.
pub struct Shown {
    style: ProgressStyle,
    verbosity: Verbosity,
    counters: Arc<Counters>,
    bar: ProgressBar,
    done: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Shown {
    /// Begins to show.
    pub fn start(settings: &Settings) -> Self {
        let counters = Arc::new(Counters::default());
        let done = Arc::new(AtomicBool::new(false));
        let bar = match settings.progress {
            ProgressStyle::Bar => {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
            }
            _ => ProgressBar::hidden(),
        };
        let ticker = (settings.progress == ProgressStyle::Bar).then(|| {
            let (bar, counters, done) = (bar.clone(), Arc::clone(&counters), Arc::clone(&done));
            std::thread::spawn(move || tick(&bar, &counters, &done))
        });
        Self {
            style: settings.progress,
            verbosity: settings.output.verbosity,
            counters,
            bar,
            done,
            ticker,
        }
    }

    fn line(&self, text: &str) {
        match self.style {
            ProgressStyle::Bar => self.bar.println(text),
            ProgressStyle::Lines => say(&format!("{text}\n")),
            ProgressStyle::None => {}
        }
    }
}

fn tick(bar: &ProgressBar, counters: &Counters, done: &AtomicBool) {
    let style = |template| BarStyle::with_template(template).unwrap_or(BarStyle::default_bar());
    bar.set_style(style(TEMPLATE_UNKNOWN));
    while !done.load(Ordering::Relaxed) {
        let expected = Counters::get(&counters.bytes_expected);
        if expected > 0 && bar.length() != Some(expected) {
            bar.set_style(style(TEMPLATE_KNOWN));
            bar.set_length(expected);
        }
        bar.set_position(Counters::get(&counters.bytes_done));
        bar.set_prefix(format!("{} files", Counters::get(&counters.entries_done)));
        std::thread::sleep(TICK);
    }
}

impl Progress for Shown {
    fn phase(&self, what: &str) {
        match self.style {
            ProgressStyle::Bar => self.bar.set_message(what.to_owned()),
            _ => self.line(what),
        }
    }

    fn item(&self, title: &str, outcome: &Outcome) {
        if outcome.is_incomplete() || self.verbosity == Verbosity::Verbose {
            self.line(&format!("{title}: {}", outcome.word()));
        }
    }

    fn warn(&self, message: &str) {
        match self.style {
            ProgressStyle::Bar => self.bar.println(format!("warning: {message}")),
            _ => say(&format!("warning: {message}\n")),
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            // A ticker that panicked showed less; the command's result is not its business.
            let _unshown = ticker.join();
        }
        self.bar.finish_and_clear();
    }
}
