//! One cluster as a target.
//!
//! Invariant: nothing is written before a plan without conflicts says so.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use refloat_model::cancel::Cancel;
use refloat_model::finding::{Finding, Severity};
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Progress;
use refloat_model::tree_path::TreePath;
use refloat_source::{Description, StoredPoint, Target, TargetError};

use super::change::Changes;
use super::definitions::redefined;
use super::execute::Execution;
use super::prepare::{Prepared, prepare};
use super::unread::Gaps;
use super::{execute, plan, stored, volumes};
use crate::catalogue::Catalogue;
use crate::client::{Access, Client};
use crate::error::ApiError;

/// A Kubernetes cluster that takes objects back.
pub struct KubernetesTarget {
    name: String,
    client: Client,
}

impl KubernetesTarget {
    /// Prepares the connection to a cluster; nothing is asked yet.
    ///
    /// # Errors
    /// The kubeconfig, its context or its certificates cannot be used; with a hint what to do.
    pub fn connect(name: &str, access: &Access) -> Result<Self, TargetError> {
        let client = Client::connect(access)
            .map_err(|error| unavailable("connect to", format!("cluster {name}"), error))?;
        Ok(Self {
            name: name.to_owned(),
            client,
        })
    }

    fn prepared(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
        cancel: &Cancel,
    ) -> Result<(Vec<Prepared>, Gaps), TargetError> {
        let changes = Changes::parse(request)?;
        let mut selected = stored::read(point, request)?;
        let gaps = std::mem::take(&mut selected.gaps);
        let catalogue = self
            .client
            .block_on(cancel, Catalogue::read)
            .map_err(|error| self.failed("discover", error))?;
        Ok((prepare(selected, request, &changes, &catalogue), gaps))
    }

    fn failed(&self, operation: &'static str, error: ApiError) -> TargetError {
        unavailable(operation, self.client.address().to_owned(), error)
    }
}

impl Target for KubernetesTarget {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "kubernetes",
            address: self.client.address().to_owned(),
        }
    }

    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError> {
        let cancel = Cancel::default();
        let (mut prepared, gaps) = self.prepared(point, request, &cancel)?;
        let address = self.client.address();
        let mut plan = self
            .client
            .block_on(&cancel, |api| {
                plan::plan(api, address, &mut prepared, request)
            })
            .map_err(|error| self.failed("plan a restore into", error))?;
        gaps.tell(&mut plan);
        Ok(plan)
    }

    fn execute(
        &self,
        plan: &RestorePlan,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RestoreReport, TargetError> {
        if !plan.is_executable() {
            return Err(TargetError::NotExecutable(obstacles(plan)));
        }
        // What cannot be read is in the plan.
        let (mut prepared, _) = self.prepared(point, request, cancel)?;
        let actions = planned(plan, &prepared);
        let _told_by_the_plan = volumes::release(&mut prepared, &actions);
        // A cancelled run still reports what it did: steps look at the flag themselves.
        let never = Cancel::default();
        self.client
            .block_on(&never, |api| async {
                let mut prepared = prepared;
                let told = plan::drop_lost_owners(api, &mut prepared).await;
                let run = Execution {
                    api,
                    plan,
                    by_path: prepared.iter().map(|p| (&p.path, p)).collect(),
                    redefined: redefined(&prepared, &actions),
                    defined: OnceLock::new(),
                    on_conflict: request.on_conflict,
                    progress,
                    cancel,
                };
                let mut report = execute::execute(&run).await;
                let is_new = |finding: &Finding| !plan.findings.contains(finding);
                report.findings.extend(told.into_iter().filter(is_new));
                Ok(report)
            })
            .map_err(|error: ApiError| self.failed("restore into", error))
    }
}

/// The actions of a plan, one for each object; what the plan does not have is not written.
fn planned(plan: &RestorePlan, prepared: &[Prepared]) -> Vec<Action> {
    let by_path: BTreeMap<&TreePath, &Action> = plan
        .steps
        .iter()
        .map(|step| (&step.path, &step.action))
        .collect();
    let unplanned = || Action::Skip { why: String::new() };
    prepared
        .iter()
        .map(|p| {
            by_path
                .get(&p.path)
                .map_or_else(unplanned, |a| (*a).clone())
        })
        .collect()
}

fn obstacles(plan: &RestorePlan) -> usize {
    let conflicts = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::Conflict { .. }));
    let errors = plan
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error);
    conflicts.count() + errors.count()
}

fn unavailable(operation: &'static str, subject: String, error: ApiError) -> TargetError {
    match error {
        ApiError::Cancelled => TargetError::Cancelled,
        error => TargetError::Unavailable {
            operation,
            subject,
            hint: error.hint(),
            cause: Box::new(error),
        },
    }
}
