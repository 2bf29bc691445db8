//! A running system that things are restored into.
//!
//! Invariant: planning changes nothing; executing does what the plan says and nothing else.

use std::error::Error;

use refloat_model::cancel::Cancel;
use refloat_model::plan::{RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Progress;

use crate::Description;
use crate::stored::{StoredError, StoredPoint};

/// Why a restore could not be planned or begun.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The system cannot be reached or refuses.
    #[error("cannot {operation} {subject}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// Address or object.
        subject: String,
        /// What it said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The request names something that the point does not hold.
    #[error("the recovery point holds no {what}")]
    NotInPoint {
        /// `workload "shop"`, `source of kind docker` …
        what: String,
        /// Names that it does hold.
        candidates: Vec<String>,
    },
    /// The request contradicts itself or cannot be understood.
    #[error("the request is wrong: {what}")]
    Request {
        /// What is wrong with what.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The plan has conflicts or failed checks.
    #[error("the plan cannot be executed: {0} conflicts or failed checks")]
    NotExecutable(usize),
    /// The point cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
}

/// A running system that can take things back.
pub trait Target: Send + Sync {
    /// Name, kind and address.
    fn description(&self) -> Description;

    /// Compares the point with the real target and decides every step, changing nothing.
    ///
    /// # Errors
    /// The target cannot be reached, or the request names what is not there. What stands in the
    /// way of single objects is part of the plan.
    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError>;

    /// Executes a plan. Running it again after a failure converges: what is already right is left
    /// alone. A failed step leaves no half-filled volume attached to an application.
    ///
    /// # Errors
    /// Nothing was begun. Failed steps are in the report.
    fn execute(
        &self,
        plan: &RestorePlan,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RestoreReport, TargetError>;
}
