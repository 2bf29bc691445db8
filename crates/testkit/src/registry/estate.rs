//! A registry with a bit of everything.
//!
//! Invariant: everything pushed is remembered, so that all of it can be looked for.

use super::images::{
    Blob, DOCKER_MANIFEST, Image, Remote, image, image_of, index, noise, referrer,
};

/// A registry with everything that images can be, and what is in it by repository and reference.
pub struct Estate {
    /// Repository, tag or digest, and manifest.
    pub manifests: Vec<(String, String, Blob)>,
    /// Repository and blob.
    pub blobs: Vec<(String, Blob)>,
}

impl Estate {
    /// Pushes it all.
    pub fn fill(remote: &Remote) -> Self {
        let mut estate = Self {
            manifests: Vec::new(),
            blobs: Vec::new(),
        };
        let base = noise(1, 2_500_000);
        let amd = image("amd64", &[base.clone(), noise(2, 100)]);
        let arm = image("arm64", &[base.clone(), noise(3, 100)]);
        let list = index(&[("amd64", &amd), ("arm64", &arm)]);
        for image in [&amd, &arm] {
            estate.push(remote, "team/app", &image.manifest.digest, image);
        }
        for tag in ["1.0", "latest"] {
            estate.put(remote, "team/app", tag, &list);
        }
        let signature = referrer(&list, "cosign", b"signature");
        let hex = list.digest.replace(':', "-");
        estate.push(remote, "team/app", &format!("{hex}.sig"), &signature);
        let sbom = referrer(&list, "application/spdx+json", b"sbom");
        estate.push(remote, "team/app", &sbom.manifest.digest, &sbom);
        estate.put(remote, "team/app", &hex, &index(&[("unknown", &sbom)]));
        let docker = image_of(DOCKER_MANIFEST, "amd64", &[base.clone(), Vec::new()]);
        estate.push(remote, "legacy", "docker", &docker);
        estate.push(remote, "tools", "v1", &image("amd64", &[base]));
        estate
    }

    fn push(&mut self, remote: &Remote, repository: &str, reference: &str, image: &Image) {
        remote.push(repository, reference, image);
        let blobs = image
            .blobs
            .iter()
            .map(|blob| (repository.to_owned(), blob.clone()));
        self.blobs.extend(blobs);
        self.manifests
            .push((repository.into(), reference.into(), image.manifest.clone()));
    }

    fn put(&mut self, remote: &Remote, repository: &str, reference: &str, manifest: &Blob) {
        assert_eq!(remote.put_manifest(repository, reference, manifest), 201);
        self.manifests
            .push((repository.into(), reference.into(), manifest.clone()));
    }

    /// Fails unless all of it is there, byte for byte.
    pub fn assert_in(&self, remote: &Remote) {
        for (repository, reference, manifest) in &self.manifests {
            let expected = Some((manifest.media_type.clone(), manifest.bytes.clone()));
            assert_eq!(
                remote.manifest(repository, reference),
                expected,
                "{repository} {reference}"
            );
        }
        for (repository, blob) in &self.blobs {
            assert_eq!(
                remote.blob(repository, &blob.digest),
                Some(blob.bytes.clone())
            );
        }
    }
}
