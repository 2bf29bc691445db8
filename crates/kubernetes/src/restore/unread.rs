//! What of a recovery point cannot be read: of that alone, nothing comes back.
//!
//! Invariant: what may have been asked for, or may be needed, and cannot be read is a step that
//! conflicts.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, RestorePlan, Step};
use refloat_model::tree_path::{TreePath, unescape};
use refloat_source::StoredError;

use super::selection::Selection;
use crate::kind::object_name;
use crate::layout::{DOCUMENT_SUFFIX, Folder};

/// One document, or all of a folder.
pub(super) struct Unread {
    pub(super) folder: Folder,
    path: TreePath,
    /// The object's name, `secrets/shop/db`; none for a folder, and where the path does not tell.
    name: Option<String>,
    pub(super) error: StoredError,
}

impl Unread {
    pub(super) const fn folder(folder: Folder, path: TreePath, error: StoredError) -> Self {
        Self {
            folder,
            path,
            name: None,
            error,
        }
    }

    pub(super) fn document(folder: Folder, path: TreePath, error: StoredError) -> Self {
        let file = path.name().and_then(|name| std::str::from_utf8(name).ok());
        let name = file.and_then(unescape).and_then(|file| {
            let name = file.strip_suffix(DOCUMENT_SUFFIX)?;
            Some(object_name(&folder.id(), folder.namespace.as_deref(), name))
        });
        Self {
            name,
            ..Self::folder(folder, path, error)
        }
    }

    /// What it is called in a plan.
    fn title(&self) -> String {
        let all = || object_name(&self.folder.id(), self.folder.namespace.as_deref(), "*");
        self.name.clone().unwrap_or_else(all)
    }

    /// Whether it is the object of this name, or may hold it.
    pub(super) fn may_be(&self, name: &str) -> bool {
        match &self.name {
            Some(own) => own == name,
            None => {
                let space = self.folder.namespace.as_deref();
                name.starts_with(&object_name(&self.folder.id(), space, ""))
            }
        }
    }

    fn why(&self) -> String {
        format!("{}: {}", self.error, self.error.cause)
    }

    fn step(&self) -> Step {
        Step {
            kind: ItemKind::Object,
            name: self.title(),
            path: self.path.clone(),
            workload: self.folder.namespace.clone(),
            action: Action::Conflict { why: self.why() },
            bytes: None,
        }
    }
}

/// What a plan must say of it.
#[derive(Default)]
pub(super) struct Gaps {
    steps: Vec<Step>,
    findings: Vec<Finding>,
}

impl Gaps {
    /// What `selection` (none selects all) asks for, or what was chosen needs, is a conflict;
    /// whatever else is in no namespace might have come along.
    pub(super) fn of(
        unread: &[Unread],
        selection: Option<&Selection>,
        needed: &BTreeSet<String>,
    ) -> Self {
        let mut gaps = Self::default();
        for one in unread {
            let is_asked = selection.is_none_or(|selection| {
                selection.may_ask_for(one) || needed.iter().any(|name| one.may_be(name))
            });
            if is_asked {
                gaps.steps.push(one.step());
            } else if one.folder.namespace.is_none() {
                let message = format!(
                    "it would not come along if it belongs to what is restored: {}",
                    one.why()
                );
                gaps.findings.push(Finding::warning(one.title(), message));
            }
        }
        gaps
    }

    /// What the server had said of the objects of a folder.
    pub(super) fn of_server(&mut self, folder: &Folder, error: &StoredError) {
        let title = object_name(&folder.id(), folder.namespace.as_deref(), "*");
        let message = format!(
            "what the server had said of these objects is missing (ports that were chosen, states): \
             {error}: {}",
            error.cause
        );
        self.findings.push(Finding::warning(title, message));
    }

    /// Says it in a plan.
    pub(super) fn tell(self, plan: &mut RestorePlan) {
        plan.steps.extend(self.steps);
        plan.findings.extend(self.findings);
    }
}
