//! Manifests and indexes, read from their raw bytes.
//!
//! Invariant: bytes are read and never written again: what is kept, compared and pushed are the
//! bytes that came, since their digest is the image's name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::platform::Platform;

/// The largest manifest or index that is taken, in bytes (as registries have it).
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Indexes in indexes, deeper than this, are refused; real ones have two levels.
pub const INDEX_DEPTH_MAX: usize = 8;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What registries are asked for: everything that can be captured. Schema 1 is not asked for, so
/// that no registry converts into it.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json";

/// What one manifest says of another, or of a blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its name.
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For what it runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// Whether a registry need not hold this layer: it may only be had from its maker.
    pub(crate) fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
}

mod digest_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::digest::Digest;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        Digest::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A manifest or index: what it refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// What it is.
    pub media_type: String,
    /// What kind of artifact it is, for lists of referrers.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Manifests of an index.
    pub children: Vec<Descriptor>,
    /// The configuration: its digest is what engines call the image's id.
    pub config: Option<Digest>,
    /// Configuration and layers.
    pub blobs: Vec<Descriptor>,
    /// What it refers to: it is a signature, attestation or the like of that.
    pub subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Reads the bytes of the manifest `digest`. `declared` is what a registry or an index says
    /// that they are; empty if nobody says.
    ///
    /// # Errors
    /// They are no manifest, are schema 1, or could be taken for two things at once.
    pub fn parse(digest: &Digest, bytes: &[u8], declared: &str) -> Result<Self, RegistryError> {
        let invalid = |why| RegistryError::Invalid {
            what: format!("manifest {digest}"),
            why,
        };
        let document: Document =
            serde_json::from_slice(bytes).map_err(|source| RegistryError::Malformed {
                what: "a manifest",
                source,
            })?;
        if document.schema_version == Some(1) {
            return Err(invalid(
                "schema 1 has no digest over its bytes; push the image again with a current client",
            ));
        }
        let is_image = document.config.is_some() || document.layers.is_some();
        if document.manifests.is_some() && is_image {
            return Err(invalid("it is an index and an image at once"));
        }
        let found = document.media_type.as_deref().unwrap_or_default();
        if !found.is_empty() && is_known(declared) && found != declared {
            return Err(invalid(
                "it says of itself that it is something else than was declared",
            ));
        }
        let is_index = document.manifests.is_some();
        let media_type = match (found, declared) {
            ("", declared) if is_known(declared) => declared,
            ("", _) if is_index => OCI_INDEX,
            ("", _) => OCI_MANIFEST,
            (found, _) => found,
        };
        if is_index != matches!(media_type, OCI_INDEX | DOCKER_LIST) {
            return Err(invalid("its content is not what its media type says"));
        }
        let artifact_type = document.artifact_type.or_else(|| {
            // The rule of the specification for manifests without one.
            document
                .config
                .as_ref()
                .map(|config| config.media_type.clone())
        });
        let lists = [document.layers, document.blobs]
            .into_iter()
            .flatten()
            .flatten();
        Ok(Self {
            media_type: media_type.to_owned(),
            artifact_type,
            annotations: document.annotations,
            children: document.manifests.unwrap_or_default(),
            config: document.config.as_ref().map(|config| config.digest),
            blobs: document.config.into_iter().chain(lists).collect(),
            subject: document.subject,
        })
    }
}

/// Whether the media type is one of those that are asked for.
pub(crate) fn is_known(media_type: &str) -> bool {
    [
        OCI_MANIFEST,
        OCI_INDEX,
        OCI_ARTIFACT,
        DOCKER_MANIFEST,
        DOCKER_LIST,
    ]
    .contains(&media_type)
}

/// An OCI index of these descriptors, as text.
pub(crate) fn index_text(manifests: &[Descriptor]) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": manifests,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn check(bytes: &str, declared: &str) -> Result<String, String> {
        let digest = Digest::of(bytes.as_bytes());
        Manifest::parse(&digest, bytes.as_bytes(), declared)
            .map(|m| format!("{} {} {}", m.media_type, m.children.len(), m.blobs.len()))
            .map_err(|e| chain(&e).replace(&digest.to_string(), "X"))
    }

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(b"");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":0}}"#)
    }

    #[test]
    fn images_and_indexes_are_told_apart_by_content_and_type() {
        let d = descriptor("x");
        let image = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d},{d}]}}"#);
        assert_eq!(check(&image, ""), Ok(format!("{OCI_MANIFEST} 0 3")));
        assert_eq!(
            check(&image, DOCKER_MANIFEST),
            Ok(format!("{DOCKER_MANIFEST} 0 3"))
        );
        assert_eq!(
            check(&image, "text/plain"),
            Ok(format!("{OCI_MANIFEST} 0 3"))
        );
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[{d}]}}"#);
        assert_eq!(check(&index, DOCKER_LIST), Ok(format!("{DOCKER_LIST} 1 0")));
        let refused = |why: &str| Err(format!("manifest X is refused: {why}"));
        assert_eq!(
            check(&index, OCI_INDEX),
            refused("it says of itself that it is something else than was declared")
        );
        assert_eq!(
            check(&image, OCI_INDEX),
            refused("its content is not what its media type says")
        );
        assert_eq!(
            check(&format!(r#"{{"manifests":[{d}],"layers":[{d}]}}"#), ""),
            refused("it is an index and an image at once")
        );
    }

    #[test]
    fn hostile_documents_are_refused() {
        assert!(
            check(r#"{"schemaVersion":1,"fsLayers":[]}"#, "")
                .unwrap_err()
                .contains("schema 1")
        );
        let deep = format!(
            "{{\"layers\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(check(&deep, "").is_err());
        let unknown = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        // Depth in what nobody reads costs nothing and hides nothing.
        assert!(check(&unknown, "").is_ok_and(|text| text.ends_with("0 0")));
        let sha512 = descriptor("x").replace("sha256", "sha512");
        let text = check(&format!(r#"{{"config":{sha512}}}"#), "").unwrap_err();
        assert!(text.contains("\"sha512\" are not supported"), "{text}");
        assert!(
            check("<html>", "")
                .unwrap_err()
                .starts_with("a manifest is not understood")
        );
    }
}
