//! A registry that images go back into.
//!
//! Invariant: a tag is moved only after everything it leads to is in the registry, and only as the
//! plan says; what was pushed is read back and compared.

mod engine_images;
mod execute;
mod folder;
mod plan;
mod referrers;
mod rename;
mod selection;
mod stored;
mod unreadable;
mod upload;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Progress;
use refloat_source::{Description, StoredPoint, Target, TargetError};

pub use folder::LayoutTarget;
#[cfg(test)]
pub(crate) use {engine_images::ImageRecord, stored::Index};

use crate::address::Address;
use crate::api::Registry;
use crate::error::RegistryError;
use crate::options::ConnectOptions;

/// Begins the reason of a step that is left out because the point lacks something: the restore is
/// then incomplete.
const MISSING: &str = "missing in the recovery point: ";

/// A registry as a target.
pub struct RegistryTarget {
    name: String,
    registry: Registry,
    options: TargetOptions,
}

/// How a registry is restored into.
#[derive(Clone, Debug, Default)]
pub struct TargetOptions {
    /// How it is reached.
    pub connect: ConnectOptions,
    /// What is read back.
    pub verification: Verification,
}

/// How a restore is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verification {
    /// Everything that was pushed is read back and hashed.
    #[default]
    Everything,
    /// Manifests are read back; of blobs the registry has checked the digest itself.
    Manifests,
}

impl RegistryTarget {
    /// Prepares a connection to a registry; nothing is sent before planning.
    ///
    /// # Errors
    /// The address is not allowed (plain HTTP to another machine), or certificates cannot be read.
    pub fn connect(
        name: &str,
        address: &Address,
        options: TargetOptions,
    ) -> Result<Self, TargetError> {
        let registry = Registry::new(address, &options.connect)
            .map_err(|error| unavailable("connect to", address.to_string(), error))?;
        Ok(Self {
            name: name.to_owned(),
            registry,
            options,
        })
    }
}

impl Target for RegistryTarget {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "registry",
            address: self.registry.address().to_string(),
        }
    }

    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError> {
        let cancel = Cancel::default();
        let address = self.registry.address().to_string();
        let _version = self
            .registry
            .version(&cancel)
            .map_err(|error| unavailable("connect to", address.clone(), error))?;
        let at_once = self.options.connect.requests_at_once;
        plan::plan(
            point,
            request,
            &plan::Ground::Registry(&self.registry, at_once),
            &cancel,
        )
    }

    fn execute(
        &self,
        plan: &RestorePlan,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RestoreReport, TargetError> {
        refuse_conflicts(plan)?;
        let execution = execute::Execution {
            registry: &self.registry,
            at_once: self.options.connect.requests_at_once,
            verification: self.options.verification,
            point,
            request,
            progress,
            cancel,
        };
        execution.run(plan)
    }
}

fn refuse_conflicts(plan: &RestorePlan) -> Result<(), TargetError> {
    let conflicts = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::Conflict { .. }))
        .count();
    let errors = plan
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .count();
    match conflicts + errors {
        0 => Ok(()),
        count => Err(TargetError::NotExecutable(count)),
    }
}

fn unavailable(operation: &'static str, subject: String, error: RegistryError) -> TargetError {
    if matches!(error, RegistryError::Cancelled(_)) {
        return TargetError::Cancelled;
    }
    TargetError::Unavailable {
        operation,
        subject,
        hint: error.hint(),
        cause: Box::new(error),
    }
}
