//! A Docker or Podman engine as a target: what a recovery point holds of a host comes back on it.
//!
//! [`DockerTarget`] reads the point ([`holding`]) and the target ([`present`]), decides every
//! step ([`plan`], [`checks`]) and does them ([`execute`]). What an unfinished restore did is kept
//! on the target itself ([`journal`]), so that the same command goes on where it stopped.
//!
//! Invariant: planning sends `GET` requests only. Executing touches what its plan names, the
//! journal, and carriers of data that are removed again; nothing else.

mod archive;
mod checks;
mod compare;
mod execute;
mod failure;
mod holding;
mod image_stream;
mod journal;
mod kept_images;
mod likeness;
mod naming;
mod pipe;
mod plan;
mod portable;
mod present;
mod projects;
mod reach;
mod readback;
mod registry_images;
mod selection;
mod single_file;
mod spec;
mod strangers;
mod swarm;

use compare::Kin;
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Progress;
use refloat_source::{Description, StoredPoint, Target, TargetError};

use crate::address::Address;
use crate::client::{Client, ConnectOptions};
use crate::error::EngineError;
use crate::options::VolumeAccess;
use execute::{Execution, Tools};
use failure::Failure;
use holding::Holding;
use journal::Notes;
use kept_images::use_configurations;
use naming::Names;
use plan::Ground;
use present::Present;
use reach::Reach;

pub(crate) use journal::LABEL_JOURNAL;

/// Stands for a source where a point has images of registries only.
const REGISTRY_IMAGES: &str = "registry-images";

/// An engine that things are restored into.
pub struct DockerTarget {
    client: Client,
    name: String,
    access: VolumeAccess,
}

impl DockerTarget {
    /// Connects and asks the engine whether it is one.
    ///
    /// # Errors
    /// Nobody answers, the user may not, or something else listens there.
    pub fn connect(
        name: &str,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Self, TargetError> {
        let client = Client::connect(address, options)
            .map_err(|error| unavailable("connect to", address.to_string(), error))?;
        Ok(Self {
            client,
            name: name.to_owned(),
            access: VolumeAccess::default(),
        })
    }

    /// The same target with another way to write data: everything through the engine's API, as
    /// it is done for engines on other machines.
    #[must_use]
    pub fn with_volume_access(self, access: VolumeAccess) -> Self {
        Self { access, ..self }
    }

    fn reach(&self, present: &Present) -> Reach {
        match self.access {
            VolumeAccess::Auto => Reach::of(&self.client, &present.host),
            VolumeAccess::Engine => Reach::none(&present.host),
        }
    }

    fn present(&self) -> Result<Present, TargetError> {
        Present::read(&self.client).map_err(|failure| self.not_known(failure))
    }

    fn not_known(&self, failure: Failure) -> TargetError {
        match failure {
            Failure::Engine {
                operation,
                subject,
                source,
            } => unavailable(operation, subject, *source),
            Failure::Stored(error) => TargetError::Stored(error),
            Failure::Cancelled(_) => TargetError::Cancelled,
            other => TargetError::Unavailable {
                operation: "look at",
                subject: self.client.address().to_string(),
                cause: Box::new(other),
                hint: None,
            },
        }
    }
}

fn unavailable(operation: &'static str, subject: String, error: EngineError) -> TargetError {
    TargetError::Unavailable {
        operation,
        subject,
        hint: error.hint(),
        cause: Box::new(error),
    }
}

/// What the point holds for this target: of its Docker source, and images of registries.
fn holding(
    point: &dyn StoredPoint,
    request: &RestoreRequest,
    present: &Present,
) -> Result<Holding, TargetError> {
    let mut holding = match source_of(point, request)? {
        Some(source) => Holding::read(point, &source)?,
        None => Holding::empty(REGISTRY_IMAGES),
    };
    use_configurations(point, &mut holding, &present.images);
    let architecture = &present.host.architecture;
    registry_images::add(point, &mut holding, &request.only, architecture)?;
    Ok(holding)
}

/// The Docker source whose things are restored: the only one, or the one `only` names. None if the
/// point has images of registries only.
fn source_of(
    point: &dyn StoredPoint,
    request: &RestoreRequest,
) -> Result<Option<String>, TargetError> {
    let sources = &point.record().sources;
    let docker: Vec<&String> = sources
        .iter()
        .filter(|(_, source)| source.kind == "docker")
        .map(|(name, _)| name)
        .collect();
    let asked = request
        .only
        .iter()
        .find_map(|word| word.strip_prefix("source:"));
    let candidates = || docker.iter().map(|name| format!("source:{name}")).collect();
    match (asked, docker.as_slice()) {
        (None, [one]) => Ok(Some((*one).clone())),
        (Some(name), all) if all.iter().any(|known| *known == name) => Ok(Some(name.to_owned())),
        (Some(name), _) => Err(TargetError::NotInPoint {
            what: format!("Docker source {name:?}"),
            candidates: candidates(),
        }),
        (None, []) if sources.values().any(|source| source.kind == "registry") => Ok(None),
        (None, []) => Err(TargetError::NotInPoint {
            what: "source of kind docker".to_owned(),
            candidates: sources.keys().cloned().collect(),
        }),
        (None, _) => Err(TargetError::NotInPoint {
            what: "single Docker source; name one of them".to_owned(),
            candidates: candidates(),
        }),
    }
}

impl Target for DockerTarget {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "docker",
            address: self.client.address().to_string(),
        }
    }

    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError> {
        let present = self.present()?;
        let mut holding = holding(point, request, &present)?;
        let kin = kin(&holding, &present);
        let lost = portable::adapt(&mut holding, present.host.engine);
        let notes = Notes::read(&self.client, &point.record().id).map_err(|error| {
            unavailable("read the journal of", self.description().address, error)
        })?;
        let reach = self.reach(&present);
        let ground = Ground {
            present: &present,
            notes: &notes,
            reach: &reach,
            address: self.client.address().to_string(),
            kin,
        };
        let mut plan = plan::plan(point, &holding, request, &ground)?;
        if !lost.is_empty() {
            let lost: Vec<String> = lost.into_iter().collect();
            plan.findings.push(Finding::warning(
                ground.address,
                format!(
                    "settings that it does not know are left out: {}",
                    lost.join(", ")
                ),
            ));
        }
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
        cancel.check().map_err(|_| TargetError::Cancelled)?;
        let present = self.present()?;
        let mut holding = holding(point, request, &present)?;
        let kin = kin(&holding, &present);
        portable::adapt(&mut holding, present.host.engine);
        let mut names = plan::requested_names(&holding, request)?;
        names.extend(Names::of_steps(&plan.steps));
        names.apply(&mut holding);
        let reach = self.reach(&present);
        let tools = Tools {
            client: &self.client,
            point,
            holding,
            names,
            present,
            kin,
            request,
            progress,
            cancel,
        };
        let execution =
            Execution::begin(tools, plan, reach).map_err(|failure| self.not_known(failure))?;
        Ok(execution.run())
    }
}

/// Whether the point is of the same kind of engine as the target.
fn kin(holding: &Holding, present: &Present) -> Kin {
    match portable::is_foreign(holding, present.host.engine) {
        true => Kin::Foreign,
        false => Kin::Same,
    }
}

/// Conflicts and failed checks of a plan.
fn obstacles(plan: &RestorePlan) -> usize {
    let conflicts = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Conflict { .. }));
    let errors = plan
        .findings
        .iter()
        .filter(|finding| finding.severity == refloat_model::finding::Severity::Error);
    conflicts.count() + errors.count()
}
