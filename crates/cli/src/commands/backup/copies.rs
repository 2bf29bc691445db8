//! Copies into other repositories that follow a backup, as policies name them.
//!
//! Invariant: a copy that fails does not hide the point that was made, and the run does not end as
//! if all were done.

use refloat_engine::point_list;
use refloat_model::finding::Finding;
use serde::Serialize;

use crate::command_error::CommandError;
use crate::commands::copy::{self, Copied};
use crate::other::{Other, OtherArgs};
use crate::output::Output;
use crate::repository;
use crate::settings::Settings;
use crate::signals::Signals;

/// What became of the copies of a run.
#[derive(Default, Serialize)]
pub(super) struct Copies {
    /// Those that were brought up to date.
    copies: Vec<Copied>,
    copies_failed: Vec<FailedCopy>,
}

#[derive(Serialize)]
struct FailedCopy {
    policy: String,
    to: String,
    error: CommandError,
}

impl Copies {
    /// Brings the copies of a policy up to date: all its points, so that what an earlier run could
    /// not copy is made good.
    ///
    /// # Errors
    /// The run was stopped.
    pub(super) fn update(
        &mut self,
        policy: &String,
        targets: &[String],
        settings: &Settings,
        signals: &Signals,
    ) -> Result<(), CommandError> {
        if targets.is_empty() {
            return Ok(());
        }
        match self.copy(policy, targets, settings, signals) {
            Err(error) if !signals.cancel.is_cancelled() => {
                // The point is made: that its repository cannot be read again ends no other policy.
                self.copies_failed.push(FailedCopy {
                    policy: policy.clone(),
                    to: targets.join(", "),
                    error,
                });
                Ok(())
            }
            ended => ended,
        }
    }

    fn copy(
        &mut self,
        policy: &String,
        targets: &[String],
        settings: &Settings,
        signals: &Signals,
    ) -> Result<(), CommandError> {
        let from = repository::open(settings)?;
        let _lock = repository::lock_for_reading(&from, settings)?;
        // In this order: writers do the opposite, and a point that was listed is in the index.
        let list = from.snapshots()?;
        let from = from.into_indexed()?;
        let mut points = point_list::summaries(&list.snapshots);
        points.retain(|point| point.policy.as_ref() == Some(policy));
        for name in targets {
            let copied = Other::resolve(name, &OtherArgs::default(), settings).and_then(|other| {
                let to = other.open_for_writing(settings)?;
                copy::copy_points(&from, &other, to, points.clone(), settings, signals)
            });
            match copied {
                Ok(mut copied) => {
                    copied.add_unreadable(&list.unreadable);
                    self.copies.push(copied);
                }
                Err(error) if signals.cancel.is_cancelled() => return Err(error),
                Err(error) => self.copies_failed.push(FailedCopy {
                    policy: policy.clone(),
                    to: name.clone(),
                    error,
                }),
            }
        }
        Ok(())
    }

    pub(super) fn are_complete(&self) -> bool {
        self.copies_failed.is_empty() && self.copies.iter().all(Copied::is_complete)
    }

    pub(super) fn text(&self) -> String {
        self.copies.iter().map(copy::text).collect()
    }

    /// What a person must know even when asking for quiet.
    pub(super) fn tell(&self, output: Output) {
        let advice: Vec<Finding> = self.copies.iter().filter_map(Copied::advice).collect();
        output.findings(&advice);
        for copied in &self.copies {
            output.findings(copied.findings());
        }
        for failed in &self.copies_failed {
            let subject = format!("copy of policy {} to {}", failed.policy, failed.to);
            output.findings(&[Finding::error(subject, "failed; the point itself is saved")]);
            output.error_text(&failed.error);
        }
    }
}
