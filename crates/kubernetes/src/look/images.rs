//! The images that pods run, with every name by which image stores and registries hold them.
//!
//! Invariant: a digest of which the cluster does not say that it is a manifest's is never looked
//! for in a registry as one.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::item::ImageUse;
use refloat_model::subject::Subject;
use serde_json::Value;

use super::Digests;
use crate::kind::text;
use crate::references::Reference;

const ALGORITHM: &str = "sha256:";

/// What runs of an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Running {
    /// `sha256:…` of its manifest, or of its configuration if it was not pulled.
    pub(super) digest: String,
    /// The repository it was pulled from; none if it came to the node in another way.
    repository: Option<String>,
    /// Where it runs.
    node: String,
}

impl Running {
    /// Reads what a container's status calls `imageID`: `host/team/app@sha256:…`, the same behind
    /// `docker-pullable://`, or a digest alone, which is then the configuration's.
    pub(super) fn parse(image_id: &str, node: &str) -> Option<Self> {
        let (before, digest) = image_id.split_at_checked(image_id.rfind(ALGORITHM)?)?;
        let repository = before.strip_suffix('@').map(|name| {
            let name = name.split_once("://").map_or(name, |(_, name)| name);
            name.to_owned()
        });
        Some(Self {
            digest: digest.to_owned(),
            repository,
            node: node.to_owned(),
        })
    }

    /// What workloads require that are made from it, `image` being as they write it.
    pub(super) fn subject(&self, image: &str, source: &str) -> Subject {
        let pinned = match image.contains('@') {
            true => image.to_owned(),
            false => format!("{image}@{}", self.digest),
        };
        Reference::Image(pinned).subject(source)
    }

    /// Names by which registries have it: where it was pulled from, and where it was asked for,
    /// which a mirror of the node's may have answered.
    fn names(&self, image: &str) -> Vec<String> {
        let Some(pulled) = &self.repository else {
            return Vec::new();
        };
        let asked = repository(image);
        let mut names = vec![format!("{pulled}@{}", self.digest)];
        if asked != pulled {
            names.push(format!("{asked}@{}", self.digest));
        }
        names
    }
}

/// The image without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before the last slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The platforms of nodes, `linux/arm64`, by their names.
pub(super) type Platforms = BTreeMap<String, String>;

/// The platform of a node.
pub(super) fn platform(node: &Value) -> Option<String> {
    let field = |name| text(node, &format!("/status/nodeInfo/{name}"));
    Some(format!(
        "{}/{}",
        field("operatingSystem")?,
        field("architecture")?
    ))
}

/// Everything that runs, each image once.
pub(super) fn in_use(source: &str, digests: &Digests, platforms: &Platforms) -> Vec<ImageUse> {
    let mut images: BTreeMap<Subject, ImageUse> = BTreeMap::new();
    let mut on_unknown: BTreeSet<Subject> = BTreeSet::new();
    for ((_, image), running) in digests {
        for running in running {
            let subject = running.subject(image, source);
            let used = images.entry(subject.clone()).or_insert_with(|| ImageUse {
                subject,
                reference: image.clone(),
                digests: Vec::new(),
                id: String::new(),
                platforms: Vec::new(),
            });
            match platforms.get(&running.node) {
                Some(platform) if used.platforms.contains(platform) => {}
                Some(platform) => used.platforms.push(platform.clone()),
                None => drop(on_unknown.insert(used.subject.clone())),
            }
            used.digests.extend(running.names(image));
            used.digests.sort();
            used.digests.dedup();
            if running.repository.is_none() {
                used.id.clone_from(&running.digest);
            }
        }
    }
    for unknown in on_unknown {
        if let Some(used) = images.get_mut(&unknown) {
            used.platforms = Vec::new();
        }
    }
    images.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_runs_is_named_as_registries_and_image_stores_have_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, image_id, digests, id) in [
            (
                "host:5000/app:1",
                format!("host:5000/app@{digest}"),
                vec![format!("host:5000/app@{digest}")],
                "",
            ),
            (
                "nginx",
                format!("docker-pullable://mirror.local/hub/nginx@{digest}"),
                vec![
                    format!("mirror.local/hub/nginx@{digest}"),
                    format!("nginx@{digest}"),
                ],
                "",
            ),
            ("app:1", digest.clone(), Vec::new(), digest.as_str()),
            (
                "app:1",
                format!("docker://{digest}"),
                Vec::new(),
                digest.as_str(),
            ),
        ] {
            let running = Running::parse(&image_id, "n1").unwrap();
            let key = ("shop".to_owned(), image.to_owned());
            let node = json!({"status": {"nodeInfo": {"operatingSystem": "linux", "architecture": "arm64"}}});
            let platforms = BTreeMap::from([("n1".to_owned(), platform(&node).unwrap())]);
            let of = |running: &[&Running]| {
                let all = running.iter().map(|running| (*running).clone()).collect();
                in_use("prod", &BTreeMap::from([(key.clone(), all)]), &platforms)
            };
            let used = of(&[&running]);
            // Of one that runs elsewhere too nobody knows where.
            let elsewhere = Running::parse(&image_id, "n2").unwrap();
            assert_eq!(of(&[&running, &elsewhere])[0].platforms, [""; 0]);
            let expected = ImageUse {
                subject: Reference::Image(format!("{image}@{digest}")).subject("prod"),
                reference: image.to_owned(),
                digests,
                id: id.to_owned(),
                platforms: vec!["linux/arm64".to_owned()],
            };
            assert_eq!(used, [expected], "{image_id}");
        }
        assert_eq!(Running::parse("docker.io/library/nginx:1", ""), None);
        assert_eq!(Running::parse("", ""), None);
    }
}
