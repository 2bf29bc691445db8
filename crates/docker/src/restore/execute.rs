//! Does what a plan says, step by step.
//!
//! Every step looks at what is there before it acts, so that running a plan again after a failure
//! goes on where it stopped. What depends on a failed step is not done.
//!
//! Invariant: no container that mounts a volume exists until the volume's data is verified, and
//! no container is started whose database is not loaded; what a failure leaves half-filled is
//! noted in the journal before the first byte.

mod containers;
mod data;
mod deliver;
mod dumps;
mod health;
mod rootfs;
mod swarm;
mod users;

pub(super) use users::why_not_stopped;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest, Step, StepOutcome};
use refloat_model::progress::{Counters, Progress};
use refloat_source::StoredPoint;

use super::compare::Kin;
use super::failure::Failure;
use super::holding::Holding;
use super::image_stream::Contents;
use super::journal::Journal;
use super::plan::{MISSING, is_made};
use super::present::{Present, inspect_image};
use super::reach::Reach;
use super::{naming::Names, pipe, projects, spec};
use crate::client::{Client, encode};
use crate::error::chain;

/// All an execution works with.
pub(super) struct Tools<'a> {
    pub(super) client: &'a Client,
    pub(super) point: &'a dyn StoredPoint,
    /// With new names in it.
    pub(super) holding: Holding,
    pub(super) names: Names,
    pub(super) present: Present,
    pub(super) kin: Kin,
    pub(super) request: &'a RestoreRequest,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

/// A restore that runs.
pub(super) struct Execution<'a> {
    tools: Tools<'a>,
    plan: &'a RestorePlan,
    reach: Reach,
    journal: Journal<'a>,
    /// What did not come back, by kind and name in the point.
    failed: BTreeSet<(ItemKind, String)>,
    outcomes: BTreeMap<usize, StepOutcome>,
    /// Names of the target's containers by id.
    ids: HashMap<String, String>,
    /// Containers of the target that were stopped for their data and are started after it.
    waiting: BTreeSet<String>,
    /// Those of them whose data did not come back.
    withheld: BTreeSet<String>,
    findings: Vec<Finding>,
}

/// What a step did, for people.
pub(super) type Remarks = Vec<String>;

impl<'a> Execution<'a> {
    /// Prepares the target: its journal, and the proof of where its files are.
    pub(super) fn begin(
        tools: Tools<'a>,
        plan: &'a RestorePlan,
        mut reach: Reach,
    ) -> Result<Self, Failure> {
        let journal = Journal::open(tools.client, &tools.point.record().id)?;
        if let Some(id) = journal.id()? {
            reach.prove(&id);
        }
        let containers = tools.present.containers.values();
        let ids = containers
            .map(|c| (c.id.clone(), c.definition.name.clone()))
            .collect();
        let expected = plan.steps.iter().filter_map(|step| step.bytes).sum();
        Counters::add(&tools.progress.counters().bytes_expected, expected);
        Ok(Self {
            tools,
            plan,
            reach,
            journal,
            failed: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            ids,
            waiting: BTreeSet::new(),
            withheld: BTreeSet::new(),
            findings: Vec::new(),
        })
    }

    /// Runs all steps.
    pub(super) fn run(mut self) -> RestoreReport {
        for (index, step) in self.plan.steps.iter().enumerate() {
            match step.kind {
                ItemKind::Container | ItemKind::RootFilesystem | ItemKind::Dump => {}
                _ => self.timed(index, step, Self::object),
            }
        }
        self.restart_users();
        let containers = || {
            let steps = self.plan.steps.iter().enumerate();
            steps.filter(|(_, step)| step.kind == ItemKind::Container)
        };
        let containers: Vec<(usize, &Step)> = containers().collect();
        for (index, step) in &containers {
            self.timed(*index, step, Self::create_container);
        }
        for (index, step) in self.plan.steps.iter().enumerate() {
            if step.kind == ItemKind::RootFilesystem {
                self.timed(index, step, Self::root_filesystem);
            }
        }
        for (index, step) in self.plan.steps.iter().enumerate() {
            match step.kind {
                ItemKind::Container => self.timed(index, step, Self::start_container),
                ItemKind::Dump => self.timed(index, step, Self::restore_dump),
                _ => {}
            }
        }
        for (index, step) in &containers {
            self.timed(*index, step, Self::prove_container);
        }
        self.report()
    }

    /// Runs one part of a step and adds what came of it to the step's outcome. A step that failed
    /// gets no further parts.
    fn timed(
        &mut self,
        index: usize,
        step: &Step,
        part: fn(&mut Self, &Step) -> Result<Remarks, Failure>,
    ) {
        if self
            .outcomes
            .get(&index)
            .is_some_and(|outcome| outcome.error.is_some())
        {
            return;
        }
        let begin = Instant::now();
        let result = match &step.action {
            Action::Skip { .. } | Action::Conflict { .. } => Ok(Vec::new()),
            _ => self
                .tools
                .cancel
                .check()
                .map_err(Failure::from)
                .and_then(|()| part(self, step)),
        };
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = self.outcomes.entry(index).or_insert_with(|| StepOutcome {
            step: step.clone(),
            error: None,
            remarks: Vec::new(),
            milliseconds: 0,
        });
        outcome.milliseconds += took;
        match result {
            Ok(remarks) => outcome.remarks.extend(remarks),
            Err(failure) => {
                let reason = chain(&failure);
                outcome.error = Some(reason.clone());
                self.failed.insert((step.kind, step.name.clone()));
                let title = format!("{} {}", step.kind.word(), step.name);
                self.tools
                    .progress
                    .item(&title, &Outcome::Failed { reason });
            }
        }
    }

    /// Images, networks, project files, volumes and binds: everything before containers.
    fn object(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let title = format!("{} {}", step.kind.word(), step.name);
        self.tools.progress.phase(&format!("restoring {title}"));
        let remarks = match step.kind {
            ItemKind::Image => self.image(step)?,
            ItemKind::Network => self.network(step)?,
            ItemKind::Project => self.project(step)?,
            ItemKind::Volume => self.volume(step)?,
            ItemKind::Bind => self.bind(step)?,
            ItemKind::Object => self.swarm_object(step)?,
            _ => return Ok(Vec::new()),
        };
        if is_made(&step.action) {
            self.tools.progress.item(&title, &Outcome::Saved);
        }
        Ok(remarks)
    }

    fn image(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let images = self.tools.holding.images.values();
        let Some(held) = images
            .clone()
            .find(|held| held.record.item.path == step.path)
            .cloned()
        else {
            return Err(Failure::Needs(format!(
                "{} is not in the recovery point",
                step.path
            )));
        };
        let image = &held.definition;
        let client = self.tools.client;
        let failed = |operation| Failure::engine(operation, format!("image {}", step.name));
        let moves_names = matches!(step.action, Action::Replace { .. });
        let tags: Vec<String> = image
            .tags
            .iter()
            .filter(|tag| {
                let taken = self.tools.present.image_named(tag);
                moves_names || taken.is_none_or(|other| other.id == image.id)
            })
            .cloned()
            .collect();
        if inspect_image(client, &image.id)
            .map_err(failed("look at"))?
            .is_some()
        {
            self.tag(&image.id, &tags)?;
            return Ok(vec!["it is there, with the same id".to_owned()]);
        }
        let contents = Contents::read(self.tools.point, &step.path)?;
        let (point, cancel) = (self.tools.point, self.tools.cancel);
        let (bytes, answer) = pipe::stream(
            |output| contents.write(point, &tags, output, cancel),
            |body| {
                let target = "/images/load?quiet=true";
                client.upload("POST", target, body).map_err(failed("load"))
            },
        )?;
        Counters::add(&self.tools.progress.counters().bytes_done, bytes);
        let loaded = inspect_image(client, &image.id).map_err(failed("look at"))?;
        match loaded {
            Some(_) => {
                self.tag(&image.id, &tags)?;
                Ok(vec![format!("{bytes} bytes loaded, id verified")])
            }
            None => Err(Failure::NotEqual {
                subject: format!("image {}", step.name),
                difference: format!(
                    "the engine has no image {} after loading {}: {}",
                    image.id,
                    contents.id(),
                    answer.trim()
                ),
            }),
        }
    }

    /// Gives an image the names it lacks.
    fn tag(&self, id: &str, tags: &[String]) -> Result<(), Failure> {
        let failed = || Failure::engine("name", format!("image {id}"));
        let image = inspect_image(self.tools.client, id).map_err(failed())?;
        let has = image.map(|image| image.tags).unwrap_or_default();
        let normal = |tag: &str| crate::discover::named_image(tag, "");
        for tag in tags {
            if !has.iter().any(|known| normal(known) == normal(tag)) {
                let (repository, tag) = crate::layout::split_reference(tag);
                let (id, repository, tag) = (encode(id), encode(repository), encode(tag));
                let target = format!("/images/{id}/tag?repo={repository}&tag={tag}");
                self.tools.client.post(&target, None).map_err(failed())?;
            }
        }
        Ok(())
    }

    fn network(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(Vec::new());
        }
        let Some(held) = self.tools.holding.networks.get(&step.name).cloned() else {
            return Err(Failure::Needs(format!(
                "network {} is not in the point",
                step.name
            )));
        };
        let wanted = &held.definition;
        let client = self.tools.client;
        let failed = |operation| Failure::engine(operation, format!("network {}", wanted.name));
        if let Some(found) = self.tools.present.networks.get(&wanted.name) {
            if super::compare::networks(wanted, found, self.tools.kin).is_empty() {
                return Ok(vec!["it is there".to_owned()]);
            }
            if !matches!(step.action, Action::Replace { .. }) {
                return Err(Failure::Outdated {
                    subject: format!("network {}", wanted.name),
                    why: "it differs now".to_owned(),
                });
            }
            self.release_network(&wanted.name)?;
            let target = format!("/networks/{}", encode(&wanted.name));
            super::journal::gone(client.delete(&target)).map_err(failed("remove"))?;
        }
        client
            .post("/networks/create", Some(&spec::network(wanted)))
            .map_err(failed("create"))?;
        Ok(Vec::new())
    }

    fn project(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let Some(held) = self.tools.holding.projects.get(&step.name).cloned() else {
            return Err(Failure::Needs(format!(
                "project {} is not in the point",
                step.name
            )));
        };
        if step.action == Action::Reuse {
            return Ok(Vec::new());
        }
        let written = match self.reach.is_local() {
            true => projects::write(self.tools.point, &held, &self.reach)?,
            false => self.deliver_project(&held)?,
        };
        Ok(vec![format!("{written} files written")])
    }

    fn has_failed(&self, kind: ItemKind, name: &str) -> bool {
        self.failed.contains(&(kind, name.to_owned()))
    }

    /// The report, in the plan's order. The journal goes if nothing is left to do.
    fn report(mut self) -> RestoreReport {
        let failed = self
            .outcomes
            .values()
            .any(|outcome| outcome.error.is_some());
        self.findings.extend(self.plan.findings.iter().cloned());
        for step in &self.plan.steps {
            if let Action::Skip { why } = &step.action
                && let Some(what) = why.strip_prefix(MISSING)
            {
                let subject = format!("{} {}", step.kind.word(), step.name);
                self.findings
                    .push(Finding::error(subject, format!("not restored: {what}")));
            }
        }
        if failed {
            self.findings.push(Finding::note(
                self.plan.target.clone(),
                "the restore is not finished; the same command goes on where it stopped",
            ));
        } else if (self.tools.request.only.is_empty() || self.journal.is_new)
            && let Err(failure) = self.journal.close()
        {
            let message = chain(&failure);
            self.findings
                .push(Finding::warning(self.plan.target.clone(), message));
        }
        self.findings
            .sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
        self.findings.dedup();
        RestoreReport {
            steps: self.outcomes.into_values().collect(),
            findings: self.findings,
            next_steps: Vec::new(),
        }
    }
}
