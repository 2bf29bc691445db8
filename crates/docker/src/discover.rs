//! What a Docker host holds, and what a policy makes of it.
//!
//! [`Estate::read`] asks the engine; [`inventory`] decides, without asking anybody: what is an
//! item, what a rule leaves out, what needs what, what is at risk.
//!
//! Invariant: everything the engine told appears in the inventory as an item, captured or skipped
//! by a named rule, unless the policy selects other names only. What an unfinished restore made for
//! itself is none of the engine's own.

mod binds;
mod estate;
mod in_use;
mod inventory;
mod items;
mod podman;
mod project_files;
mod references;
mod rootfs;
mod swarm;
mod swarm_items;

pub(crate) use binds::BindRule;
pub(crate) use estate::{Estate, ReadError, RunningContainer, StoredVolume};
pub(crate) use in_use::find_images;
pub(crate) use inventory::{Discovered, inventory};
pub(crate) use project_files::project_definition;
pub use rootfs::{Change, ChangeKind, Changes};
pub(crate) use swarm::{ListedObject, is_manager, objects as swarm_objects};

use crate::definition::{ContainerDefinition, ImageDefinition};

/// What is captured for one item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// `host.json`
    Host,
    /// One container's definition, by id.
    Container(String),
    /// One network's definition, by name.
    Network(String),
    /// One volume with its data, by name.
    Volume(String),
    /// One bind mount: the container's id and the place in it.
    Bind {
        /// Container id.
        container: String,
        /// Place inside the container.
        destination: String,
        /// Path on the host.
        source: String,
    },
    /// One compose project, by name.
    Project(String),
    /// One image, by id.
    Image(String),
    /// The databases of one container, by id.
    Dumps(String),
    /// The changed files of one container, by id.
    Rootfs(String),
    /// One swarm object: kind folder and name.
    Swarm(String, String),
}

/// The name under which workloads refer to an image: `repository:tag@sha256:<id>`.
pub(crate) fn image_subject(container: &ContainerDefinition) -> String {
    named_image(&container.image.name, &container.image.id)
}

/// All names under which workloads may refer to an image.
pub(crate) fn image_names(image: &ImageDefinition) -> impl Iterator<Item = String> {
    image.tags.iter().map(|tag| named_image(tag, &image.id))
}

/// One name of an image together with its id. `docker.io/library/` and `latest` are what engines
/// add to a name, each in its own way.
pub(crate) fn named_image(name: &str, id: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_id = |name: &str| {
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        digits.len() >= 12 && hex.starts_with(digits)
    };
    if name.is_empty() || is_id(name) {
        return format!("<untagged>@{id}");
    }
    let short = name
        .strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name);
    let (repository, tag) = crate::layout::split_reference(short);
    format!("{repository}:{tag}@{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_one_name_however_it_is_written() {
        let id = "sha256:0123456789abcdef";
        for (written, name) in [
            ("postgres", "postgres:latest@sha256:0123456789abcdef"),
            (
                "docker.io/library/postgres:15",
                "postgres:15@sha256:0123456789abcdef",
            ),
            (
                "host:5000/app:1@sha256:ffff",
                "host:5000/app:1@sha256:0123456789abcdef",
            ),
            (id, "<untagged>@sha256:0123456789abcdef"),
            ("0123456789ab", "<untagged>@sha256:0123456789abcdef"),
        ] {
            assert_eq!(named_image(written, id), name);
        }
    }
}
