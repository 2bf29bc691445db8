//! Where everything of a Docker host lies in a recovery point.
//!
//! Invariant: a path depends only on names, never on ids or times, so that the same thing is found
//! under the same path in every point. Names from outside are one escaped component each.

use refloat_model::tree_path::TreePath;

use crate::definition::ObjectKind;

/// Name of the definition inside a volume's directory.
pub const VOLUME_FILE: &str = "volume.json";
/// Name of the data directory inside a volume's directory.
pub const VOLUME_DATA: &str = "data";
/// Name of the definition inside a project's directory.
pub const PROJECT_FILE: &str = "project.json";
/// Name of the directory of files inside a project's directory.
pub const PROJECT_FILES: &str = "files";
/// Name of the definition inside an image's directory.
pub const IMAGE_FILE: &str = "image.json";
/// Name of the index of an image's OCI layout.
pub const IMAGE_INDEX: &str = "index.json";
/// Name of the marker of an OCI layout.
pub const IMAGE_LAYOUT: &str = "oci-layout";
/// Name of the directory of blobs, each below `sha256/<hex>`.
pub const IMAGE_BLOBS: &str = "blobs";
/// Repository component of images without any tag; no repository name starts with `_`.
pub const UNTAGGED: &str = "_untagged";
/// Name of the directory of changed files inside a captured root filesystem.
pub const ROOTFS_DATA: &str = "data";
/// Name of the list of changes inside a captured root filesystem.
pub const ROOTFS_FILE: &str = "changes.json";

/// The paths of one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    docker: TreePath,
    images: TreePath,
}

impl Layout {
    /// The paths of the source with this configured name.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            docker: TreePath::root().child("docker").child(source),
            images: TreePath::root().child("images").child(source),
        }
    }

    /// `/docker/<source>`
    #[must_use]
    pub const fn root(&self) -> &TreePath {
        &self.docker
    }

    /// `/images/<source>`
    #[must_use]
    pub const fn images(&self) -> &TreePath {
        &self.images
    }

    /// `/docker/<source>/host.json`
    #[must_use]
    pub fn host(&self) -> TreePath {
        self.docker.child("host.json")
    }

    /// `/docker/<source>/containers/<name>.json`
    #[must_use]
    pub fn container(&self, name: &str) -> TreePath {
        self.folder("containers").child(&format!("{name}.json"))
    }

    /// `/docker/<source>/networks/<name>.json`
    #[must_use]
    pub fn network(&self, name: &str) -> TreePath {
        self.folder("networks").child(&format!("{name}.json"))
    }

    /// `/docker/<source>/volumes/<name>`: [`VOLUME_FILE`] and [`VOLUME_DATA`].
    #[must_use]
    pub fn volume(&self, name: &str) -> TreePath {
        self.folder("volumes").child(name)
    }

    /// `/docker/<source>/projects/<name>`: [`PROJECT_FILE`] and [`PROJECT_FILES`].
    #[must_use]
    pub fn project(&self, name: &str) -> TreePath {
        self.folder("projects").child(name)
    }

    /// `/docker/<source>/binds/<container>/<index>`: what was bound, a directory or a file.
    #[must_use]
    pub fn bind(&self, container: &str, index: usize) -> TreePath {
        self.folder("binds")
            .child(container)
            .child(&index.to_string())
    }

    /// `/docker/<source>/dumps/<container>`: a directory with one file for each dump, named as the
    /// recipe names it.
    #[must_use]
    pub fn dumps(&self, container: &str) -> TreePath {
        self.folder("dumps").child(container)
    }

    /// `/docker/<source>/rootfs/<container>`: [`ROOTFS_FILE`] and [`ROOTFS_DATA`].
    #[must_use]
    pub fn rootfs(&self, container: &str) -> TreePath {
        self.folder("rootfs").child(container)
    }

    /// `/docker/<source>/swarm/<kind>s/<name>.json`
    #[must_use]
    pub fn swarm(&self, kind: ObjectKind, name: &str) -> TreePath {
        self.folder("swarm")
            .child(kind.folder())
            .child(&format!("{name}.json"))
    }

    /// `/docker/<source>/swarm/secret-values/<name>`: where a value would be if an engine gave it
    /// out.
    #[must_use]
    pub fn secret_value(&self, name: &str) -> TreePath {
        self.folder("swarm").child("secret-values").child(name)
    }

    /// `/docker/<source>/secrets/<name>`: where a secret of Podman would be.
    #[must_use]
    pub fn secret(&self, name: &str) -> TreePath {
        self.folder("secrets").child(name)
    }

    /// `/docker/<source>/pods/<name>`: where a pod of Podman would be.
    #[must_use]
    pub fn pod(&self, name: &str) -> TreePath {
        self.folder("pods").child(name)
    }

    /// `/images/<source>/<repository>/<tag>`: [`IMAGE_FILE`] and an OCI layout.
    ///
    /// `reference` is `repository:tag`; an image without any is found by its id below
    /// [`UNTAGGED`].
    #[must_use]
    pub fn image(&self, reference: Option<&str>, id: &str) -> TreePath {
        match reference.map(split_reference) {
            Some((repository, tag)) => self.images.child(repository).child(tag),
            None => self
                .images
                .child(UNTAGGED)
                .child(id.strip_prefix("sha256:").unwrap_or(id)),
        }
    }

    fn folder(&self, name: &str) -> TreePath {
        self.docker.child(name)
    }
}

/// Splits `host:5000/repository:tag`; `latest` if there is no tag.
#[must_use]
pub fn split_reference(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_names_and_hostile_names_stay_one_component() {
        let layout = Layout::new("web");
        let text = |path: TreePath| path.to_string();
        assert_eq!(
            text(layout.container("db")),
            "/docker/web/containers/db.json"
        );
        assert_eq!(text(layout.volume("../x")), "/docker/web/volumes/..%2Fx");
        assert_eq!(
            text(layout.image(Some("host:5000/team/app:1.2"), "sha256:ab")),
            "/images/web/host:5000%2Fteam%2Fapp/1.2"
        );
        assert_eq!(
            text(layout.image(None, "sha256:ab")),
            "/images/web/_untagged/ab"
        );
        assert_eq!(
            split_reference("host:5000/app"),
            ("host:5000/app", "latest")
        );
    }
}
