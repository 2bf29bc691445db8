//! Images that a point holds of registries, as far as an engine can take them.
//!
//! A container's image need not be captured from the engine's own store: where a registry of the
//! same point has it, it is loaded from there, so that workloads start without any registry.
//!
//! Invariant: an image found for a container has the configuration whose digest is the container's
//! image id; nothing else would be the same image.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredPoint, TargetError};
use serde_json::Value;

use super::checks::{canonical, same_architecture};
use super::failure::Failure;
use super::holding::{Held, Holding};
use super::image_stream::{Contents, digest, json_file};
use super::kept_images::find_manifest;
use crate::definition::{ImageDefinition, ImageReference};
use crate::layout::{IMAGE_BLOBS, IMAGE_INDEX};

/// The annotation with which an index names a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// A registry's record of a repository, beside its layout.
const RECORD: &str = "repository.json";

/// One repository of a registry in the point.
struct StoredRepository<'a> {
    point: &'a dyn StoredPoint,
    record: ItemRecord,
}

/// Adds to `holding` the images its containers need and do not have, and those that `only` asks
/// for by name; with `architecture` chosen from images for several.
pub(super) fn add(
    point: &dyn StoredPoint,
    holding: &mut Holding,
    only: &[String],
    architecture: &str,
) -> Result<(), TargetError> {
    let repositories = StoredRepository::all(point)?;
    if repositories.is_empty() {
        return Ok(());
    }
    let needed: Vec<ImageReference> = holding
        .containers
        .values()
        .map(|held| held.definition.image.clone())
        .collect();
    for image in needed {
        if holding.images.contains_key(&image.id) {
            continue;
        }
        let found = repositories.iter().find_map(|r| r.needed(&image));
        if let Some(held) = found {
            holding.images.insert(image.id.clone(), held);
        }
    }
    for word in only.iter().filter_map(|word| word.strip_prefix("image:")) {
        if holding.image_named(word).is_some() {
            continue;
        }
        for repository in &repositories {
            repository.add_named(holding, |name| name_fits(name, word), architecture)?;
        }
    }
    if holding.host.is_none() && holding.containers.is_empty() && only.is_empty() {
        for repository in &repositories {
            repository.add_named(holding, |_| true, architecture)?;
        }
    }
    Ok(())
}

/// Whether `word` means the image `host/repository:tag`: with or without its registry.
pub(super) fn name_fits(name: &str, word: &str) -> bool {
    name == word
        || name
            .strip_suffix(word)
            .is_some_and(|host| host.ends_with('/'))
}

impl<'a> StoredRepository<'a> {
    fn all(point: &'a dyn StoredPoint) -> Result<Vec<Self>, TargetError> {
        let mut all = Vec::new();
        for (source, record) in &point.record().sources {
            if record.kind != "registry" {
                continue;
            }
            for record in point.items(source)? {
                if record.item.kind == ItemKind::Image
                    && record.item.skip.is_none()
                    && point.stat(&record.item.path)?.is_some()
                {
                    all.push(Self { point, record });
                }
            }
        }
        Ok(all)
    }

    fn blobs(&self) -> TreePath {
        self.record.item.path.child(IMAGE_BLOBS).child("sha256")
    }

    /// The image of a container, if this repository has it.
    fn needed(&self, image: &ImageReference) -> Option<Held<ImageDefinition>> {
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        // Under whatever name it lies here: a mirror's copy is the same image.
        let digests = image.digests.iter();
        let known = digests.filter_map(|text| Some(text.split_once("@sha256:")?.1.to_owned()));
        let manifest = self.first(known, id).or_else(|| {
            // The engine did not get it from a registry, and knows no more than the name.
            let named = self.names().ok()?.into_iter();
            let named = named.filter(|(name, _)| *name == image.name);
            self.first(named.map(|(_, hex)| hex), id)
        })?;
        let name = image
            .name
            .split_once('@')
            .map_or(image.name.as_str(), |(name, _)| name);
        let is_id = id.starts_with(name.strip_prefix("sha256:").unwrap_or(name));
        let tags = if is_id {
            Vec::new()
        } else {
            vec![name.to_owned()]
        };
        self.held(manifest, tags, &image.digests).ok()
    }

    /// The first manifest beneath any of `roots` whose image has this id.
    fn first(
        &self,
        mut roots: impl Iterator<Item = String>,
        id: &str,
    ) -> Option<(TreePath, Contents)> {
        let id = format!("sha256:{id}");
        roots.find_map(|hex| self.manifest(&hex, &|contents| contents.id() == id))
    }

    /// The first manifest beneath `hex` whose image is the wanted one.
    fn manifest(
        &self,
        hex: &str,
        is_wanted: &dyn Fn(&Contents) -> bool,
    ) -> Option<(TreePath, Contents)> {
        find_manifest(self.point, &self.blobs(), hex, is_wanted)
    }

    /// Adds the tagged images whose name fits, for the target's architecture.
    fn add_named(
        &self,
        holding: &mut Holding,
        fits: impl Fn(&str) -> bool,
        architecture: &str,
    ) -> Result<(), TargetError> {
        let named = self.names().map_err(|failure| match failure {
            Failure::Stored(error) => TargetError::Stored(error),
            other => TargetError::NotInPoint {
                what: format!("readable image {}: {other}", self.record.item.title),
                candidates: Vec::new(),
            },
        })?;
        for (name, hex) in named.into_iter().filter(|(name, _)| fits(name)) {
            let find = |fits: &dyn Fn(&str) -> bool| {
                self.manifest(&hex, &|contents| self.is_for(contents, fits))
            };
            // A machine's own architecture before one that it only takes.
            let found = find(&|image| image == canonical(architecture))
                .or_else(|| find(&|image| same_architecture(architecture, image)));
            let Some(found) = found else {
                let message = format!("{name} is no image for {architecture} and stays out");
                holding
                    .notes
                    .push(Finding::note("images of registries", message));
                continue;
            };
            let id = found.1.id();
            let digest = name
                .rsplit_once(':')
                .map(|(repository, _)| format!("{repository}@sha256:{hex}"));
            let digests: Vec<String> = digest.into_iter().collect();
            match holding.images.get_mut(&id) {
                // Another tag of the same image.
                Some(held) if held.definition.tags.contains(&name) => {}
                Some(held) => held.definition.tags.push(name),
                None => {
                    let held = self.held(found, vec![name], &digests);
                    holding.images.extend(held.ok().map(|held| (id, held)));
                }
            }
        }
        Ok(())
    }

    /// Every tag with its registry, and the digest it stands for. Tags of signatures are no images.
    fn names(&self) -> Result<BTreeSet<(String, String)>, Failure> {
        let path = &self.record.item.path;
        let record = json_file(self.point, &path.child(RECORD))?;
        let host = record
            .get("registry")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let repository = match (host, self.record.item.title.as_str()) {
            ("docker.io", title) => title.strip_prefix("library/").unwrap_or(title).to_owned(),
            (host, title) => format!("{host}/{title}"),
        };
        let index = json_file(self.point, &path.child(IMAGE_INDEX))?;
        let entries = index.get("manifests").and_then(Value::as_array);
        let named = entries.into_iter().flatten().filter_map(|entry| {
            let tag = entry.get("annotations")?.get(REF_NAME)?.as_str()?;
            Some((format!("{repository}:{tag}"), digest(entry)?))
        });
        Ok(named.collect())
    }

    fn is_for(&self, contents: &Contents, architecture: &dyn Fn(&str) -> bool) -> bool {
        let config = self.config(contents);
        let text = |key: &str| {
            let value = config.as_ref().and_then(|config| config.get(key));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        text("os") == "linux" && architecture(&text("architecture"))
    }

    fn config(&self, contents: &Contents) -> Option<Value> {
        let id = contents.id();
        let hex = id.strip_prefix("sha256:").unwrap_or(&id);
        json_file(self.point, &self.blobs().child(hex)).ok()
    }

    /// An image as the rest of a restore knows it; its place is its manifest's.
    fn held(
        &self,
        (path, contents): (TreePath, Contents),
        tags: Vec<String>,
        digests: &[String],
    ) -> Result<Held<ImageDefinition>, Failure> {
        let config = self
            .config(&contents)
            .ok_or_else(|| Failure::Needs(format!("{path} has no configuration")))?;
        let text = |key: &str| {
            let value = config.get(key).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let layers = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
        let layers = layers.into_iter().flatten().filter_map(Value::as_str);
        let mut record = self.record.clone();
        record.item.path = path;
        record.bytes = contents.bytes();
        Ok(Held {
            record,
            definition: ImageDefinition {
                id: contents.id(),
                tags,
                repo_digests: digests.to_vec(),
                os: text("os"),
                architecture: text("architecture"),
                variant: text("variant"),
                diff_ids: layers.map(str::to_owned).collect(),
                size_bytes: contents.bytes(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::name_fits;

    #[test]
    fn a_name_may_leave_its_registry_out_and_nothing_else() {
        for (word, expected) in [
            ("h:5000/team/app:1", true),
            ("team/app:1", true),
            ("app:1", true),
            ("pp:1", false),
            ("team/app", false),
            ("team/app:12", false),
        ] {
            assert_eq!(name_fits("h:5000/team/app:1", word), expected, "{word}");
        }
    }
}
