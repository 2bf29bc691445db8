//! Executes a plan: blobs, then manifests, then tags.
//!
//! Running it again after a failure converges: what is there is not pushed again, and what is
//! missing beneath a tag that is already right is put there.
//!
//! Invariant: a tag that changed since the plan was made is not touched.

use std::collections::BTreeMap;
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{
    Action, OnConflict, RestorePlan, RestoreReport, RestoreRequest, Step, StepOutcome,
};
use refloat_model::progress::Progress;
use refloat_source::{StoredPoint, TargetError};

use super::referrers::{Unlisted, descriptor};
use super::stored::{Parts, StoredLayout, StoredRoot};
use super::upload::{Arrival, Arrivals, Located};
use super::{MISSING, Verification};
use crate::api::Registry;
use crate::digest::Digest;
use crate::error::{RegistryError, advised, chain};
use crate::name::{ImageName, Reference, RepositoryName};

/// What executing needs.
pub(super) struct Execution<'a> {
    pub(super) registry: &'a Registry,
    pub(super) at_once: usize,
    pub(super) verification: Verification,
    pub(super) point: &'a dyn StoredPoint,
    pub(super) request: &'a RestoreRequest,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

/// One image on its way.
struct Job<'a> {
    step: &'a Step,
    root: &'a StoredRoot,
    target: ImageName,
    parts: Parts,
}

/// Why an image did not arrive.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Stored(#[from] refloat_source::StoredError),
    #[error("{0}: {1}")]
    Blob(Digest, String),
    #[error("it is {0} there, which it was not when the restore was planned")]
    Changed(Digest),
    #[error("it reads back as {0}")]
    ReadBack(Digest),
}

impl Execution<'_> {
    pub(super) fn run(&self, plan: &RestorePlan) -> Result<RestoreReport, TargetError> {
        let layouts = StoredLayout::all(self.point)?.readable;
        let located = Located::default();
        let mut report = RestoreReport::default();
        let mut steps = plan.steps.as_slice();
        // Steps of one layout follow each other; each run of them shares its blobs.
        while let Some(first) = steps.first() {
            let count = steps
                .iter()
                .take_while(|step| step.path == first.path && step.workload == first.workload)
                .count();
            let (group, rest) = steps.split_at(count);
            steps = rest;
            let layout = layouts.iter().find(|layout| layout.is_of(first));
            let Some(layout) = layout else {
                for step in group {
                    let outcome = match &step.action {
                        Action::Skip { why } => skipped(step, why, &mut report.findings),
                        _ => failed(step, "it is not in the point"),
                    };
                    report.steps.push(outcome);
                }
                continue;
            };
            self.layout(layout, group, &located, &mut report)?;
        }
        Ok(report)
    }

    fn layout(
        &self,
        layout: &StoredLayout,
        steps: &[Step],
        located: &Located,
        report: &mut RestoreReport,
    ) -> Result<(), TargetError> {
        self.progress
            .phase(&format!("restoring {}", layout.repository));
        let mut jobs = Vec::new();
        for step in steps {
            let root = layout
                .roots
                .iter()
                .find(|root| layout.name(root).to_string() == step.name);
            let target = match &step.action {
                Action::Rename { to } => to.parse(),
                _ => step.name.parse(),
            };
            jobs.push(match (&step.action, root, target) {
                (Action::Skip { why }, ..) => Err(skipped(step, why, &mut report.findings)),
                (_, Some(root), Ok(target)) => Ok(Job {
                    step,
                    root,
                    target,
                    parts: layout.parts(self.point, root),
                }),
                _ => Err(failed(step, "it is not in the point")),
            });
        }
        let mut blobs: BTreeMap<RepositoryName, BTreeMap<Digest, u64>> = BTreeMap::new();
        for job in jobs.iter().flatten() {
            blobs
                .entry(job.target.repository.clone())
                .or_default()
                .extend(&job.parts.blobs);
        }
        let arrivals: BTreeMap<RepositoryName, Arrivals> = blobs
            .into_iter()
            .map(|(to, blobs)| {
                let arrivals = self.upload(layout, &to, &blobs, located);
                (to, arrivals)
            })
            .collect();
        let mut unlisted: BTreeMap<RepositoryName, Unlisted> = BTreeMap::new();
        for job in jobs {
            self.cancel.check().map_err(|_| TargetError::Cancelled)?;
            let outcome = match job {
                Err(outcome) => outcome,
                Ok(job) => {
                    let to = &job.target.repository;
                    let none = Arrivals::new();
                    let arrivals = arrivals.get(to).unwrap_or(&none);
                    let unlisted = unlisted.entry(to.clone()).or_default();
                    self.job(layout, &job, arrivals, unlisted)
                }
            };
            report.steps.push(outcome);
        }
        for (to, unlisted) in unlisted {
            if let Err(error) = self.list_referrers(layout, &to, &unlisted) {
                let message = format!("its referrers cannot be listed: {}", chain(&error));
                report
                    .findings
                    .push(Finding::error(to.to_string(), message));
            }
        }
        Ok(())
    }

    fn job(
        &self,
        layout: &StoredLayout,
        job: &Job<'_>,
        arrivals: &Arrivals,
        unlisted: &mut Unlisted,
    ) -> StepOutcome {
        let began = Instant::now();
        let result = self.image(layout, job, arrivals, unlisted);
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (error, remarks) = match result {
            Ok(remark) => (None, vec![remark]),
            Err(Failure::Registry(error)) => (Some(advised(&error)), Vec::new()),
            Err(error) => (Some(chain(&error)), Vec::new()),
        };
        let outcome = error
            .as_ref()
            .map_or(Outcome::Saved, |reason| Outcome::Failed {
                reason: reason.clone(),
            });
        self.progress.item(&job.step.name, &outcome);
        StepOutcome {
            step: job.step.clone(),
            error,
            remarks,
            milliseconds,
        }
    }

    fn image(
        &self,
        layout: &StoredLayout,
        job: &Job<'_>,
        arrivals: &Arrivals,
        unlisted: &mut Unlisted,
    ) -> Result<String, Failure> {
        let ImageName {
            repository,
            reference,
        } = &job.target;
        let (mut uploaded, mut bytes, mut mounted) = (0, 0, 0);
        for digest in job.parts.blobs.keys() {
            match arrivals.get(digest) {
                Some(Ok(Arrival::Present)) | None => {}
                Some(Ok(Arrival::Mounted)) => mounted += 1,
                Some(Ok(Arrival::Uploaded(size))) => {
                    uploaded += 1;
                    bytes += size;
                }
                Some(Err(reason)) => return Err(Failure::Blob(*digest, reason.clone())),
            }
        }
        let there = self.registry.resolve(repository, reference, self.cancel)?;
        if let Some(there) = &there
            && there.digest != job.root.digest
            && !self.may_replace(job.step)
        {
            return Err(Failure::Changed(there.digest));
        }
        for (digest, manifest) in &job.parts.manifests {
            let by_digest = Reference::Digest(*digest);
            let is_root = *digest == job.root.digest;
            let is_there = if is_root {
                there.as_ref().is_some_and(|there| there.digest == *digest)
            } else {
                self.registry
                    .resolve(repository, &by_digest, self.cancel)?
                    .is_some()
            };
            let bytes = layout.manifest_bytes(self.point, digest)?;
            let mut listed = false;
            if !is_there {
                let reference = if is_root { reference } else { &by_digest };
                let content = (manifest.media_type.as_str(), bytes.as_slice());
                listed =
                    self.registry
                        .push_manifest(repository, reference, content, self.cancel)?;
            }
            if let Some(subject) = manifest.subject.as_ref().filter(|_| !listed) {
                let referrer = descriptor(*digest, bytes.len() as u64, manifest);
                unlisted.entry(subject.digest).or_default().push(referrer);
            }
        }
        let back = self.registry.manifest(repository, reference, self.cancel)?;
        if back.digest != job.root.digest {
            return Err(Failure::ReadBack(back.digest));
        }
        let manifests = job.parts.manifests.len();
        Ok(format!(
            "reads back as {}; {manifests} manifests, {uploaded} blobs uploaded ({bytes} bytes), \
             {mounted} taken over",
            job.root.digest
        ))
    }

    fn may_replace(&self, step: &Step) -> bool {
        match step.action {
            Action::Replace { .. } => true,
            Action::Rename { .. } => self.request.on_conflict == OnConflict::Replace,
            _ => false,
        }
    }
}

pub(super) fn failed(step: &Step, why: &str) -> StepOutcome {
    StepOutcome {
        step: step.clone(),
        error: Some(why.to_owned()),
        remarks: Vec::new(),
        milliseconds: 0,
    }
}

/// A step that is left out; what the point lacks makes the restore incomplete.
pub(super) fn skipped(step: &Step, why: &str, findings: &mut Vec<Finding>) -> StepOutcome {
    if why.starts_with(MISSING) {
        findings.push(Finding::error(step.name.clone(), why.to_owned()));
    }
    StepOutcome {
        step: step.clone(),
        error: None,
        remarks: vec![why.to_owned()],
        milliseconds: 0,
    }
}
