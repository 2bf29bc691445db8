//! A stored image as the stream `docker load` takes, made on the fly.
//!
//! The point holds an OCI layout with the bytes the engine gave out; the engine takes an archive
//! with the configuration under its digest, the layers, and a list of both. Sizes are known
//! beforehand, so nothing is staged.
//!
//! Invariant: the configuration goes out byte for byte: its digest is the image's id.

use std::io::{self, Read, Write};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind};
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;
use serde_json::{Value, json};

use super::archive::TarSink;
use super::failure::Failure;
use super::holding;
use crate::layout::{IMAGE_BLOBS, IMAGE_INDEX};

/// The folder of blobs with SHA-256 digests.
const SHA256: &str = "sha256";

/// The parts of one stored image.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// The configuration's digest without `sha256:`.
    config: String,
    config_bytes: u64,
    /// Digests without `sha256:`, and sizes, from the base up.
    layers: Vec<(String, u64)>,
    blobs: TreePath,
}

impl Contents {
    /// Reads the layout at `path`, which holds one image, or the manifest at `path` among the blobs
    /// of a layout with several, and looks whether every part is there.
    pub(super) fn read(point: &dyn StoredPoint, path: &TreePath) -> Result<Self, Failure> {
        let (blobs, manifest) = match path.parent() {
            Some(blobs) if blobs.name() == Some(SHA256.as_bytes()) => (blobs, path.clone()),
            _ => {
                let blobs = path.child(IMAGE_BLOBS).child(SHA256);
                let index = json_file(point, &path.child(IMAGE_INDEX))?;
                let manifests = index.get("manifests").and_then(Value::as_array);
                let manifest = manifests
                    .and_then(|manifests| manifests.first())
                    .and_then(digest)
                    .ok_or_else(|| Failure::Needs(format!("{path} names no manifest")))?;
                let manifest = blobs.child(&manifest);
                (blobs, manifest)
            }
        };
        let manifest = json_file(point, &manifest)?;
        let config = manifest
            .get("config")
            .and_then(digest)
            .ok_or_else(|| Failure::Needs(format!("{path} names no configuration")))?;
        let size_of = |hex: &str| -> Result<u64, Failure> {
            let blob = blobs.child(hex);
            match point.stat(&blob)?.map(|entry| entry.kind) {
                Some(EntryKind::File { size }) => Ok(size),
                _ => Err(Failure::Needs(format!(
                    "{blob} is not in the recovery point"
                ))),
            }
        };
        let listed = manifest.get("layers").and_then(Value::as_array);
        let mut layers = Vec::new();
        for layer in listed.into_iter().flatten() {
            let hex =
                digest(layer).ok_or_else(|| Failure::Needs(format!("{path} names a bad layer")))?;
            let size = size_of(&hex)?;
            layers.push((hex, size));
        }
        let config_bytes = size_of(&config)?;
        Ok(Self {
            config,
            config_bytes,
            layers,
            blobs,
        })
    }

    /// The id of the image that loading gives.
    pub(super) fn id(&self) -> String {
        format!("sha256:{}", self.config)
    }

    /// What will be read of the point, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.config_bytes + self.layers.iter().map(|(_, size)| size).sum::<u64>()
    }

    /// Writes the archive with the given names.
    pub(super) fn write(
        &self,
        point: &dyn StoredPoint,
        tags: &[String],
        output: &mut dyn Write,
        cancel: &Cancel,
    ) -> Result<u64, Failure> {
        let mut tar = TarSink::new(output, "");
        let config_name = format!("{}.json", self.config);
        self.blob(
            point,
            &mut tar,
            (&config_name, &self.config, self.config_bytes),
            cancel,
        )?;
        let mut bytes = self.config_bytes;
        let mut names = Vec::new();
        for (hex, size) in &self.layers {
            let name = format!("{hex}.tar");
            // The same layer may stand in an image twice; it travels once.
            if !names.contains(&name) {
                self.blob(point, &mut tar, (&name, hex, *size), cancel)?;
                bytes += size;
            }
            names.push(name);
        }
        // Last: without it, what arrived is no image.
        let list = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
        let list = list.to_string();
        let entry = Entry::synthetic_file("manifest.json", list.len() as u64);
        tar.content(&entry, &mut list.as_bytes())?;
        let _written = tar.finish()?;
        Ok(bytes)
    }

    fn blob(
        &self,
        point: &dyn StoredPoint,
        tar: &mut TarSink<&mut dyn Write>,
        (name, hex, size): (&str, &str, u64),
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        let content = point.open(&self.blobs.child(hex))?;
        let mut content = Stoppable { content, cancel };
        tar.content(&Entry::synthetic_file(name, size), &mut content)?;
        Ok(())
    }
}

/// Ends with an error once somebody asked to stop.
pub(super) struct Stoppable<'c, R> {
    pub(super) content: R,
    pub(super) cancel: &'c Cancel,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        self.content.read(buffer)
    }
}

/// The SHA-256 digest a descriptor names, if it is written as one: it becomes a file's name.
pub(super) fn digest(descriptor: &Value) -> Option<String> {
    let hex = descriptor
        .get("digest")?
        .as_str()?
        .strip_prefix("sha256:")?;
    let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| hex.to_owned())
}

pub(super) fn json_file(point: &dyn StoredPoint, path: &TreePath) -> Result<Value, Failure> {
    let bytes = holding::bytes(point, path)?;
    serde_json::from_slice(&bytes)
        .map_err(|_| Failure::Needs(format!("{path} is no JSON document")))
}
