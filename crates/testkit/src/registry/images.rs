//! Images made on the spot and pushed with a client that is not the one under test.
//!
//! Invariant: equal names and seeds give equal bytes.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::http::{Answer, send};

/// OCI manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Content that exists once, under its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// `sha256:<hex>`
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// `sha256:<hex>`
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Blob {
    /// Content of a media type.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        Self {
            digest,
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    /// As manifests refer to it.
    pub fn descriptor(&self) -> Value {
        let Self {
            digest,
            media_type,
            bytes,
        } = self;
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// Bytes that do not compress, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image of one platform.
pub struct Image {
    /// Its manifest.
    pub manifest: Blob,
    /// Configuration and layers.
    pub blobs: Vec<Blob>,
}

/// An image with the given layers.
pub fn image(architecture: &str, layers: &[Vec<u8>]) -> Image {
    image_of(MANIFEST, architecture, layers)
}

/// The same with a manifest of a media type.
pub fn image_of(media_type: &str, architecture: &str, layers: &[Vec<u8>]) -> Image {
    let (config_type, layer_type) = if media_type == DOCKER_MANIFEST {
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        )
    } else {
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar",
        )
    };
    let layers: Vec<Blob> = layers
        .iter()
        .map(|bytes| Blob::new(layer_type, bytes.clone()))
        .collect();
    let ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = Blob::new(config_type, config.to_string());
    let descriptors: Vec<Value> = layers.iter().map(Blob::descriptor).collect();
    // Spaces that no serialiser would write: bytes must stay as they are.
    let text = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config.descriptor(),
        "layers": descriptors, "annotations": {"seed": architecture},
    });
    let manifest = Blob::new(
        media_type,
        serde_json::to_string_pretty(&text).unwrap() + " \n",
    );
    let blobs = std::iter::once(config).chain(layers).collect();
    Image { manifest, blobs }
}

/// An index of images by architecture.
pub fn index(images: &[(&str, &Image)]) -> Blob {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
            descriptor
        })
        .collect();
    let text = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    Blob::new(INDEX, text.to_string())
}

/// A signature or the like of `subject`.
pub fn referrer(subject: &Blob, kind: &str, content: &[u8]) -> Image {
    let config = Blob::new("application/vnd.oci.empty.v1+json", "{}");
    let layer = Blob::new("application/octet-stream", content);
    let text = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
        "config": config.descriptor(), "layers": [layer.descriptor()],
        "subject": subject.descriptor(),
    });
    let manifest = Blob::new(MANIFEST, text.to_string());
    Image {
        manifest,
        blobs: vec![config, layer],
    }
}

/// A registry as a plain client sees it.
pub struct Remote {
    base: String,
}

impl Remote {
    /// A registry on loopback.
    pub fn new(host: &str) -> Self {
        Self {
            base: format!("http://{host}/v2"),
        }
    }

    /// Uploads a blob.
    pub fn push_blob(&self, repository: &str, blob: &Blob) {
        let url = format!("{}/{repository}/blobs/uploads/", self.base);
        let answer = send("POST", &url, &[], b"");
        assert_eq!(answer.status, 202);
        let url = format!("{}&digest={}", answer.headers["location"], blob.digest);
        let answer = send("PUT", &url, &[], &blob.bytes);
        assert_eq!(answer.status, 201);
    }

    /// Puts a manifest; the answer's status.
    pub fn put_manifest(&self, repository: &str, reference: &str, manifest: &Blob) -> u16 {
        let url = format!("{}/{repository}/manifests/{reference}", self.base);
        let headers = [("content-type", manifest.media_type.as_str())];
        send("PUT", &url, &headers, &manifest.bytes).status
    }

    /// Pushes an image.
    pub fn push(&self, repository: &str, reference: &str, image: &Image) {
        image
            .blobs
            .iter()
            .for_each(|blob| self.push_blob(repository, blob));
        assert_eq!(
            self.put_manifest(repository, reference, &image.manifest),
            201
        );
    }

    /// Media type and bytes of a manifest; none if it is not there.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Vec<u8>)> {
        let url = format!("{}/{repository}/manifests/{reference}", self.base);
        let accept = format!("{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}");
        let Answer {
            status,
            headers,
            body,
        } = send("GET", &url, &[("accept", &accept)], b"");
        (status == 200).then(|| (headers["content-type"].clone(), body))
    }

    /// A blob; none if it is not there.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let url = format!("{}/{repository}/blobs/{digest}", self.base);
        let answer = send("GET", &url, &[], b"");
        (answer.status == 200).then_some(answer.body)
    }

    /// Deletes a manifest with all its tags.
    pub fn delete_manifest(&self, repository: &str, digest: &str) {
        let url = format!("{}/{repository}/manifests/{digest}", self.base);
        assert_eq!(send("DELETE", &url, &[], b"").status, 202);
    }
}
