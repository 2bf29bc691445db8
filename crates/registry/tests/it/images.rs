//! Images made on the spot and pushed with a client that is not the one under test.
//!
//! Invariant: equal names and seeds give equal bytes.

use refloat_registry::Digest;
use serde_json::{Value, json};
use ureq::Agent;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Content that exists once, under its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    pub digest: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes).to_string();
        Self {
            digest,
            media_type: media_type.to_owned(),
            bytes,
        }
    }

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
    pub manifest: Blob,
    pub blobs: Vec<Blob>,
}

/// An image with the given layers.
pub fn image(architecture: &str, layers: &[Vec<u8>]) -> Image {
    image_of(MANIFEST, architecture, layers)
}

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
    pub base: String,
    agent: Agent,
}

impl Remote {
    pub fn new(host: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self {
            base: format!("http://{host}/v2"),
            agent: config.new_agent(),
        }
    }

    pub fn push_blob(&self, repository: &str, blob: &Blob) {
        let url = format!("{}/{repository}/blobs/uploads/", self.base);
        let response = self.agent.post(url).send_empty().unwrap();
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str().unwrap();
        let url = format!("{location}&digest={}", blob.digest);
        let response = self.agent.put(url).send(&blob.bytes[..]).unwrap();
        assert_eq!(response.status(), 201);
    }

    pub fn put_manifest(&self, repository: &str, reference: &str, manifest: &Blob) -> u16 {
        let url = format!("{}/{repository}/manifests/{reference}", self.base);
        let request = self
            .agent
            .put(url)
            .header("content-type", &manifest.media_type);
        request.send(&manifest.bytes[..]).unwrap().status().as_u16()
    }

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
        let mut response = self.agent.get(url).header("accept", accept).call().unwrap();
        let media_type = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let bytes = response.body_mut().read_to_vec().unwrap();
        (response.status() == 200).then_some((media_type, bytes))
    }

    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let url = format!("{}/{repository}/blobs/{digest}", self.base);
        let mut response = self.agent.get(url).call().unwrap();
        let bytes = response.body_mut().read_to_vec().unwrap();
        (response.status() == 200).then_some(bytes)
    }

    pub fn delete_manifest(&self, repository: &str, digest: &str) {
        let url = format!("{}/{repository}/manifests/{digest}", self.base);
        assert_eq!(self.agent.delete(url).call().unwrap().status(), 202);
    }
}
