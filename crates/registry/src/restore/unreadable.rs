//! Layouts of a point that cannot be read.
//!
//! Invariant: such a layout is a step that says why, and keeps no other from being restored.

use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::StoredError;

use super::MISSING;
use crate::error::chain;
use crate::name::{EngineName, ImageName};

/// One of them.
pub(super) struct Unreadable {
    pub(super) is_of_registry: bool,
    path: TreePath,
    /// A repository of a registry, or an engine's name for an image.
    title: String,
    reason: String,
}

impl Unreadable {
    pub(super) fn new(is_of_registry: bool, record: &ItemRecord, error: &StoredError) -> Self {
        Self {
            is_of_registry,
            path: record.item.path.clone(),
            title: record.item.title.clone(),
            reason: chain(error),
        }
    }

    /// Whether a request means it, as far as its name is known.
    pub(super) fn is_wanted(&self, wanted: &str) -> bool {
        let name = wanted.strip_prefix("image:");
        let name = name.or_else(|| wanted.strip_prefix("repository:"));
        let name = name.unwrap_or(wanted);
        if name == self.title {
            return true;
        }
        let image: Option<ImageName> = name.parse().ok();
        if self.is_of_registry {
            return image.is_some_and(|image| image.repository.as_str() == self.title);
        }
        let Ok(own) = self.title.parse::<EngineName>() else {
            return false;
        };
        let bare = self.title.strip_prefix(&own.host);
        own.repository.as_str() == name
            || bare.is_some_and(|bare| bare.trim_start_matches('/') == name)
    }

    pub(super) fn step(&self) -> Step {
        Step {
            kind: ItemKind::Image,
            name: self.title.clone(),
            path: self.path.clone(),
            workload: Some(self.title.clone()),
            bytes: None,
            action: Action::Skip {
                why: format!("{MISSING}{}", self.reason),
            },
        }
    }
}
