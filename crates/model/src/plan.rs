//! Restore plans: what would happen on the real target, as data.
//!
//! Invariant: a plan leaves no choice to its execution; what cannot be decided is a conflict.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::glob::Glob;
use crate::item::ItemKind;
use crate::tree_path::TreePath;

/// What will be done with one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// It is not there and will be made.
    Create,
    /// It is there and equal; nothing to do.
    Reuse,
    /// It stays out.
    Skip {
        /// Why.
        why: String,
    },
    /// It is there, differs, and will be replaced.
    Replace {
        /// How it differs.
        why: String,
    },
    /// It will be made under another name.
    Rename {
        /// The new name.
        to: String,
    },
    /// It cannot be restored as things are; execution refuses to start, or goes on without it.
    Conflict {
        /// What stands in the way and what to do.
        why: String,
    },
}

impl Action {
    /// One word for tables.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Reuse => "reuse",
            Self::Skip { .. } => "skip",
            Self::Replace { .. } => "replace",
            Self::Rename { .. } => "rename",
            Self::Conflict { .. } => "conflict",
        }
    }
}

/// What to do when the target already has an object of the same name that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// Refuse the whole restore.
    #[default]
    Fail,
    /// Keep what is there.
    Skip,
    /// Replace what is there.
    Replace,
    /// Restore under a new name.
    Rename,
}

/// One object of a restore plan. Steps are executed in the plan's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What kind of object.
    pub kind: ItemKind,
    /// Its name in the recovery point.
    pub name: String,
    /// Where it lies in the recovery point.
    pub path: TreePath,
    /// The workload it belongs to.
    pub workload: Option<String>,
    /// What will be done.
    #[serde(flatten)]
    pub action: Action,
    /// Bytes to be written, where known.
    pub bytes: Option<u64>,
}

/// A computed, printable restore.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Where to: the target's address without credentials.
    pub target: String,
    /// What will be done, in order.
    pub steps: Vec<Step>,
    /// Checks of the target: ports, space, architecture, drivers. Errors make it refuse.
    pub findings: Vec<Finding>,
    /// A fingerprint of what the plan was made against, so that a plan that is executed later is
    /// not executed against something else; empty where the steps alone tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Whether what conflicts is left out, as a failed step each, and the rest restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

impl RestorePlan {
    /// Whether execution may start: no finding that is an error, and no conflict unless it goes on.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        (self.goes_on || !self.has_conflicts())
            && !self
                .findings
                .iter()
                .any(|f| f.severity == crate::finding::Severity::Error)
    }

    /// Whether something cannot be restored as things are.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        let mut actions = self.steps.iter().map(|step| &step.action);
        actions.any(|action| matches!(action, Action::Conflict { .. }))
    }
}

/// What to do about a GitOps controller that would undo or delete what a restore brings back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitKeepers {
    /// Refuse the whole restore.
    #[default]
    Refuse,
    /// Suspend it, restore, and resume it.
    Suspend,
    /// Restore, and say that it may be undone.
    Ignore,
}

/// What the user asked to restore.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Workloads, or `kind:name` of single objects (`volume:db-data`); empty means everything.
    pub only: Vec<String>,
    /// New names: `volume:db-data` → `db-copy`.
    pub rename: Vec<(String, String)>,
    /// What to do about differing objects of the same name.
    pub on_conflict: OnConflict,
    /// Whether restored containers are left stopped.
    pub leave_stopped: bool,
    /// What gives rights or changes the system itself and is restored all the same, each named
    /// with its kind: `roles.rbac.authorization.k8s.io/shop/*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileged: Vec<Glob>,
    /// Changes to objects on their way back: the texts of documents that the adapter reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<String>,
    /// What to do about whoever keeps objects as Git says.
    #[serde(default)]
    pub git_keepers: GitKeepers,
    /// What is refused unless somebody allows it.
    #[serde(default)]
    pub allow: BTreeSet<Permission>,
    /// Files with the values of secrets that no system gives out, by the secret's name.
    #[serde(default)]
    pub secrets: BTreeMap<String, PathBuf>,
}

/// What a restore does only if it is allowed by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Host files are written although what lies in their place cannot be looked at.
    UnseenFiles,
    /// Host files are written below `/etc`, `/root`, `/usr` and other places of the system.
    SystemPlaces,
    /// What conflicts in a cluster is left out, and the rest restored.
    Incomplete,
}

impl Permission {
    /// The word used in messages and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnseenFiles => "unseen-files",
            Self::SystemPlaces => "system-places",
            Self::Incomplete => "incomplete",
        }
    }
}

/// What became of one step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepOutcome {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Whether it succeeded; if not, why.
    pub error: Option<String>,
    /// Proofs and remarks: "14 files verified", "healthy after 3.2 s".
    pub remarks: Vec<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// The end of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Every step of the plan with its outcome.
    pub steps: Vec<StepOutcome>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// What a person has to do now, in order, where a restore cannot do all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_steps: Vec<String>,
}

impl RestoreReport {
    /// Whether every step succeeded and nothing will be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.steps.iter().all(|s| s.error.is_none())
            && !self
                .findings
                .iter()
                .any(|f| f.severity == crate::finding::Severity::Error)
    }
}
