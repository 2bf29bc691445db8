//! Pushing blobs and manifests.
//!
//! Invariant: the registry is told the digest of everything it gets, so that it refuses what
//! arrives damaged; what it accepted is read back by the caller.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use ureq::http::{Method, StatusCode, header};

use super::Registry;
use crate::auth::Scope;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::http::{Payload, Request, refused, resolve, success};
use crate::name::{Reference, RepositoryName};

/// How often an upload is begun anew: the session of a broken one is not to be trusted.
const UPLOADS_MAX: u32 = 4;

/// How a blob came to be in a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// Taken over from another repository of the registry.
    Mounted,
    /// Uploaded.
    Uploaded,
}

impl Registry {
    /// Puts a blob into a repository: mounts it from another one that has it, or uploads it.
    pub(crate) fn push_blob(
        &self,
        repository: &RepositoryName,
        (digest, size): (&Digest, u64),
        from: Option<&RepositoryName>,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        cancel: &Cancel,
    ) -> Result<Pushed, RegistryError> {
        if let Some(from) = from {
            let scope = Scope::push(repository, Some(from));
            match self.begin_upload(&scope, repository, digest, Some(from), cancel) {
                Ok(None) => return Ok(Pushed::Mounted),
                // Not taken over, whether it may not be or cannot be: then it is uploaded. A
                // session that was begun for nothing expires.
                Ok(Some(_))
                | Err(RegistryError::Refused { .. } | RegistryError::Unauthorized(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let scope = Scope::push(repository, None);
        let mut failures = 0;
        loop {
            let location = self.begin_upload(&scope, repository, digest, None, cancel)?;
            let Some(location) = location else {
                return Ok(Pushed::Mounted);
            };
            let separator = if location.contains('?') { '&' } else { '?' };
            let mut request = Request::new(
                Method::PUT,
                format!("{location}{separator}digest={digest}"),
                &scope,
            )
            .header(header::CONTENT_TYPE, "application/octet-stream");
            request.payload = Payload::Stream { length: size, open };
            let error = match self.client.attempt(&request, cancel).and_then(success) {
                Ok(_) => return Ok(Pushed::Uploaded),
                // A session may be forgotten by a registry that was started anew.
                Err(error) if error.is_retryable() || error.is_not_found() => error,
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures >= UPLOADS_MAX {
                return Err(error);
            }
            self.client.pace().pause(failures, error, cancel)?;
        }
    }

    /// Begins an upload; gives where it goes, or nothing if the blob was mounted.
    fn begin_upload(
        &self,
        scope: &Scope,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        cancel: &Cancel,
    ) -> Result<Option<String>, RegistryError> {
        let mount = from.map_or_else(String::new, |from| format!("?mount={digest}&from={from}"));
        let url = self
            .client
            .url(&format!("{repository}/blobs/uploads/{mount}"));
        let request = Request::new(Method::POST, url.clone(), scope);
        let response = self.client.send(&request, cancel)?;
        match response.status() {
            StatusCode::CREATED if from.is_some() => Ok(None),
            StatusCode::ACCEPTED | StatusCode::CREATED => {
                let location = response.headers().get(header::LOCATION);
                let location = location.and_then(|value| value.to_str().ok());
                let missing = RegistryError::BadLink("no place for an upload");
                resolve(&url, location.ok_or(missing)?).map(Some)
            }
            _ => Err(refused(response)),
        }
    }

    /// Puts a manifest under a tag or its digest. True if the registry says that it lists the
    /// manifest among the referrers of its subject.
    pub(crate) fn push_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        (media_type, bytes): (&str, &[u8]),
        cancel: &Cancel,
    ) -> Result<bool, RegistryError> {
        let scope = Scope::push(repository, None);
        let url = self.manifest_url(repository, reference);
        let mut request =
            Request::new(Method::PUT, url, &scope).header(header::CONTENT_TYPE, media_type);
        request.payload = Payload::Bytes(bytes);
        let response = success(self.client.send(&request, cancel)?)?;
        Ok(response.headers().contains_key("oci-subject"))
    }
}
