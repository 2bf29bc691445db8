//! Asking for manifests.
//!
//! Invariant: a manifest's bytes have the digest under which they are handed out, and the registry
//! did not claim another one.

use refloat_model::cancel::Cancel;
use ureq::http::{HeaderMap, Method, header};

use super::Registry;
use crate::auth::Scope;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::http::{Request, success};
use crate::manifest::{ACCEPT, MANIFEST_BYTES_MAX};
use crate::name::{Reference, RepositoryName};

/// Begins the media types of schema 1, signed and unsigned.
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// How often bytes that are not what they should be are asked for again.
pub(super) const MISMATCHES_MAX: u32 = 2;

/// What a tag stands for, as the registry says without proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) digest: Digest,
}

/// A manifest as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RawManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Registry {
    /// What a tag or digest stands for at the moment; none if it is not there.
    pub(crate) fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        cancel: &Cancel,
    ) -> Result<Option<Resolved>, RegistryError> {
        let scope = Scope::pull(repository);
        let url = self.manifest_url(repository, reference);
        let request = Request::new(Method::HEAD, url, &scope).header(header::ACCEPT, ACCEPT);
        let response = self.client.send(&request, cancel)?;
        match response.status().as_u16() {
            404 => return Ok(None),
            200 => {}
            // Some registries know no HEAD here: the whole answer tells as well.
            405 | 501 => return self.resolve_whole(repository, reference, cancel),
            _ => return Err(success(response).map_or_else(|e| e, |_| unexpected(""))),
        }
        match claimed(response.headers())? {
            Some(digest) => Ok(Some(Resolved { digest })),
            None => self.resolve_whole(repository, reference, cancel),
        }
    }

    fn resolve_whole(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        cancel: &Cancel,
    ) -> Result<Option<Resolved>, RegistryError> {
        match self.manifest(repository, reference, cancel) {
            Ok(RawManifest { digest, .. }) => Ok(Some(Resolved { digest })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest's bytes, verified. What is not what its digest says may have been spoilt on the
    /// way, and is asked for again, so many times.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        cancel: &Cancel,
    ) -> Result<RawManifest, RegistryError> {
        let mut failures = 0;
        loop {
            match self.manifest_once(repository, reference, cancel) {
                Err(error) if error.is_mismatch() && failures < MISMATCHES_MAX => {
                    failures += 1;
                    self.client.pace().pause(failures, error, cancel)?;
                }
                result => return result,
            }
        }
    }

    fn manifest_once(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        cancel: &Cancel,
    ) -> Result<RawManifest, RegistryError> {
        let scope = Scope::pull(repository);
        let url = self.manifest_url(repository, reference);
        let request = Request::new(Method::GET, url, &scope).header(header::ACCEPT, ACCEPT);
        let what = format!("the manifest {reference}");
        let (headers, bytes) = self
            .client
            .fetch(&request, (&what, MANIFEST_BYTES_MAX), cancel)?;
        let media_type = content_type(&headers);
        if !media_type.is_empty() && !media_type.contains("json") && !bytes.starts_with(b"{") {
            return Err(unexpected(&media_type));
        }
        let found = Digest::of(&bytes);
        // Schema 1 is named by a digest over a part of it; parsing says that it is schema 1.
        let is_schema_1 = media_type.starts_with(DOCKER_SCHEMA_1);
        if let Reference::Digest(expected) = reference
            && *expected != found
            && !is_schema_1
        {
            return Err(RegistryError::WrongDigest {
                expected: *expected,
                found,
            });
        }
        match claimed(&headers)? {
            Some(claimed) if claimed != found && !is_schema_1 => {
                Err(RegistryError::LyingDigest { claimed, found })
            }
            _ => Ok(RawManifest {
                digest: found,
                media_type,
                bytes,
            }),
        }
    }

    pub(super) fn manifest_url(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> String {
        self.client
            .url(&format!("{repository}/manifests/{reference}"))
    }
}

fn unexpected(content_type: &str) -> RegistryError {
    RegistryError::Unexpected {
        content_type: content_type.to_owned(),
    }
}

/// The media type without parameters; short enough to be shown.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let value = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    value.chars().take(120).collect()
}

fn claimed(headers: &HeaderMap) -> Result<Option<Digest>, RegistryError> {
    let Some(value) = headers.get("docker-content-digest") else {
        return Ok(None);
    };
    Ok(Some(Digest::parse(value.to_str().unwrap_or_default())?))
}
