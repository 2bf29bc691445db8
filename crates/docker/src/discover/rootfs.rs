//! What a container wrote into its own filesystem.
//!
//! Invariant: what lies below a mount, and what every start makes again (`/tmp`, `/run` …), is no
//! finding; everything else is.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::{Document, MountDefinition};

/// Trees whose content no application may rely on.
const EPHEMERAL: &[&str] = &[
    "/tmp", "/run", "/var/run", "/var/tmp", "/dev", "/proc", "/sys",
];
/// Within them: what Compose copies in when it creates a container, and no start makes again.
const KEPT: &[&str] = &["/run/secrets"];
/// Files the engine itself puts there.
const ENGINE_FILES: &[&str] = &[
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
];
/// How many paths a message names.
const EXAMPLES_MAX: usize = 3;

/// `/docker/<source>/rootfs/<container>/changes.json`; the files lie in `data/` beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// What differs from the image, sorted by path, without mounts and ephemeral places.
    pub changes: Vec<Change>,
}

impl Document for Changes {
    const VERSION: u32 = 1;
    const WORD: &'static str = "changed root filesystem";
}

/// One difference to the image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The absolute path inside the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The kind of a difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is in the image and was changed, or something in it was.
    Modified,
    /// It is not in the image.
    Added,
    /// It is in the image and gone.
    Deleted,
}

impl Changes {
    /// Reads the engine's list (`null` for none) and drops what is no application's data.
    pub(crate) fn from_answer(answer: &Value, mounts: &[MountDefinition]) -> Self {
        let mut changes: Vec<Change> = answer
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|change| {
                let kind = match change.get("Kind").and_then(Value::as_u64)? {
                    0 => ChangeKind::Modified,
                    1 => ChangeKind::Added,
                    _ => ChangeKind::Deleted,
                };
                let path = change.get("Path").and_then(Value::as_str)?.to_owned();
                Some(Change { path, kind })
            })
            .filter(|change| matters(&change.path, mounts))
            .collect();
        // By components: `/a/b` stands directly below `/a`, before `/a-b`.
        changes.sort_by_cached_key(|change| change.path.replace('/', "\0"));
        let mut raw: Vec<String> = paths(answer).map(|path| path.replace('/', "\0")).collect();
        raw.sort();
        // From the end, so that what lies in a directory is decided before the directory.
        let mut kept: Vec<Change> = Vec::new();
        for change in changes.into_iter().rev() {
            let holds_kept = kept
                .last()
                .is_some_and(|next| is_below(&next.path, &change.path));
            let on_the_way = is_parent_of_mount(&change.path, mounts)
                || change.kind == ChangeKind::Modified && has_child(&raw, &change.path);
            if holds_kept || !on_the_way {
                kept.push(change);
            }
        }
        kept.reverse();
        Self { changes: kept }
    }

    /// The differences that are not just directories on the way to others.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .enumerate()
            .filter_map(|(index, change)| {
                let next = self.changes.get(index + 1);
                let on_the_way = change.kind == ChangeKind::Modified
                    && next.is_some_and(|next| is_below(&next.path, &change.path));
                (!on_the_way).then_some(change)
            })
    }

    /// Whether there is anything to report.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaves().next().is_none()
    }

    /// One sentence with examples.
    pub(crate) fn describe(&self) -> String {
        let count = self.leaves().count();
        let examples: Vec<_> = self
            .leaves()
            .take(EXAMPLES_MAX)
            .map(|change| change.path.as_str())
            .collect();
        let more = if count > EXAMPLES_MAX { " …" } else { "" };
        format!(
            "{count} changes in the container's own filesystem: {}{more}",
            examples.join(", ")
        )
    }
}

fn matters(path: &str, mounts: &[MountDefinition]) -> bool {
    let path = plain(path);
    let inside = |tree: &str| path == plain(tree) || is_below(path, plain(tree));
    let is_ephemeral = EPHEMERAL.iter().any(|tree| inside(tree));
    (!is_ephemeral || KEPT.iter().any(|tree| is_below(path, tree)))
        && !ENGINE_FILES.contains(&path)
        && !mounts.iter().any(|mount| inside(&mount.destination))
}

/// `/run` for `/var/run`, which is a link to it in most images: mounts are told as they were asked for.
fn plain(path: &str) -> &str {
    let below_var = path.strip_prefix("/var").filter(|path| is_run(path));
    below_var.unwrap_or(path)
}

fn is_run(path: &str) -> bool {
    path == "/run" || is_below(path, "/run")
}

/// Whether a mount point lies in this directory: the engine makes the way to it.
fn is_parent_of_mount(path: &str, mounts: &[MountDefinition]) -> bool {
    mounts
        .iter()
        .any(|mount| is_below(plain(&mount.destination), plain(path)))
}

fn paths(answer: &Value) -> impl Iterator<Item = &str> {
    answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|change| change.get("Path").and_then(Value::as_str))
}

/// Whether something in this directory changed, whether it matters or not. `raw` is sorted.
fn has_child(raw: &[String], path: &str) -> bool {
    let prefix = format!("{}\0", path.replace('/', "\0"));
    let index = raw.partition_point(|other| *other < prefix);
    raw.get(index)
        .is_some_and(|other| other.starts_with(&prefix))
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| folder == "/" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::definition::MountKind;

    fn changes(list: &[(u64, &str)], mounts: &[&str]) -> Changes {
        let mounts: Vec<_> = mounts
            .iter()
            .map(|destination| MountDefinition {
                kind: MountKind::Volume,
                destination: (*destination).to_owned(),
                read_only: false,
                source: "v".into(),
                anonymous: false,
                data: None,
            })
            .collect();
        let answer = list
            .iter()
            .map(|(kind, path)| json!({"Kind": kind, "Path": path}))
            .collect();
        Changes::from_answer(&answer, &mounts)
    }

    #[test]
    fn files_written_beside_mounts_are_found() {
        let found = changes(
            &[
                (0, "/etc"),
                (0, "/etc/app.conf"),
                (0, "/srv"),
                (1, "/srv/upload"),
                (1, "/srv/upload/a"),
                (2, "/bin/x"),
                (0, "/run"),
                (1, "/run/app.pid"),
                (0, "/data"),
                (1, "/data/in-volume"),
            ],
            &["/data"],
        );
        let leaves: Vec<_> = found.leaves().map(|change| change.path.as_str()).collect();
        assert_eq!(
            leaves,
            ["/bin/x", "/etc/app.conf", "/srv/upload", "/srv/upload/a"]
        );
        assert_eq!(
            found.describe(),
            "4 changes in the container's own filesystem: /bin/x, /etc/app.conf, /srv/upload …"
        );
    }

    #[test]
    fn the_way_to_a_mount_and_ephemeral_places_are_no_finding() {
        let found = changes(
            &[
                (0, "/var"),
                (0, "/var/lib"),
                (1, "/var/lib/data"),
                (0, "/var/run"),
                (1, "/var/run/x.pid"),
                (1, "/tmp/x"),
            ],
            &["/var/lib/data"],
        );
        assert!(found.is_empty(), "{found:?}");
        assert!(Changes::from_answer(&Value::Null, &[]).is_empty());
    }

    #[test]
    fn secrets_that_compose_copied_in_are_data_and_mounted_ones_are_not() {
        let list = [
            (0, "/run"),
            (1, "/run/secrets"),
            (1, "/run/secrets/token"),
            (1, "/run/secrets/kubernetes.io"),
            (1, "/run/app.pid"),
        ];
        // `/var/run` is a link to `/run` in most images.
        let found = changes(&list, &["/var/run/secrets/kubernetes.io/serviceaccount"]);
        let leaves: Vec<_> = found.leaves().map(|change| change.path.as_str()).collect();
        assert_eq!(leaves, ["/run/secrets/token"]);
    }
}
