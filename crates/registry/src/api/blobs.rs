//! Blobs as streams that are verified while they flow and taken up again where they broke.
//!
//! Invariant: a stream ends without an error only if it had exactly the declared length and the
//! digest asked for.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use ureq::http::{HeaderMap, Method, StatusCode, header};

use super::Registry;
use super::manifests::MISMATCHES_MAX;
use crate::auth::Scope;
use crate::digest::{Digest, Hasher};
use crate::error::RegistryError;
use crate::http::{Request, success};
use crate::name::RepositoryName;

/// Bytes after which earlier failures no longer count: a long download over a bad line goes on
/// as long as it makes progress.
const PROGRESS_BYTES: u64 = 8 << 20;
/// Failures in all, whatever the progress.
const FAILURES_MAX: u32 = 200;

/// Which blob, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BlobSource {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    /// Declared by whoever refers to it.
    pub(crate) size: u64,
}

/// See the module.
pub(crate) struct BlobReader {
    registry: Registry,
    source: BlobSource,
    cancel: Cancel,
    body: Option<Box<dyn Read + Send>>,
    /// Bytes handed out so far.
    offset: u64,
    hash: Option<Hasher>,
    failures: u32,
    failures_total: u32,
    /// Where the last failure was.
    failed_at: u64,
    /// How often it was answered with another length, of which nothing was taken.
    mismatches: u32,
}

impl Registry {
    /// The length of a blob; none if it is not there.
    pub(crate) fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        cancel: &Cancel,
    ) -> Result<Option<u64>, RegistryError> {
        let scope = Scope::pull(repository);
        let url = self.client.url(&format!("{repository}/blobs/{digest}"));
        let response = self
            .client
            .send(&Request::new(Method::HEAD, url, &scope), cancel)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = success(response)?;
        Ok(Some(
            number(response.headers(), header::CONTENT_LENGTH).unwrap_or(0),
        ))
    }

    /// A blob's content, opened at the first read.
    pub(crate) fn blob(&self, source: BlobSource, cancel: &Cancel) -> BlobReader {
        BlobReader {
            registry: self.clone(),
            source,
            cancel: cancel.clone(),
            body: None,
            offset: 0,
            hash: Some(Hasher::default()),
            failures: 0,
            failures_total: 0,
            failed_at: 0,
            mismatches: 0,
        }
    }

    /// Opens a blob at `offset`, or as near before it as the registry can; gives where.
    fn open_blob(
        &self,
        source: &BlobSource,
        offset: u64,
        cancel: &Cancel,
    ) -> Result<(Box<dyn Read + Send>, u64), RegistryError> {
        let BlobSource {
            repository,
            digest,
            size,
        } = source;
        let scope = Scope::pull(repository);
        let url = self.client.url(&format!("{repository}/blobs/{digest}"));
        let mut request = Request::new(Method::GET, url, &scope);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = success(self.client.attempt(&request, cancel)?)?;
        let headers = response.headers();
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(headers).unwrap_or(offset),
            _ => 0,
        };
        if let Some(length) = number(headers, header::CONTENT_LENGTH)
            && start.saturating_add(length) != *size
        {
            let found = start.saturating_add(length);
            return Err(RegistryError::WrongLength {
                expected: *size,
                found,
            });
        }
        if start > offset {
            return Err(RegistryError::WrongLength {
                expected: offset,
                found: start,
            });
        }
        Ok((Box::new(response.into_body().into_reader()), start))
    }
}

impl BlobReader {
    fn open(&mut self) -> Result<(), RegistryError> {
        let (mut body, start) = self
            .registry
            .open_blob(&self.source, self.offset, &self.cancel)?;
        // Without ranges the beginning comes again; were it another one, the digest would tell.
        let mut skipped = (&mut body).take(self.offset - start);
        let count = io::copy(&mut skipped, &mut io::sink())
            .map_err(|error| self.registry.client.broken(error))?;
        if start + count < self.offset {
            let cut = io::ErrorKind::UnexpectedEof.into();
            return Err(self.registry.client.broken(cut));
        }
        self.body = Some(body);
        Ok(())
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        self.cancel.check()?;
        if self.body.is_none() {
            self.open()?;
        }
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        let broken = |error| self.registry.client.broken(error);
        let count = body.read(buffer).map_err(broken)?;
        if count == 0 && self.offset < self.source.size && !buffer.is_empty() {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(count)
    }

    /// Counts a failure and waits; gives the error back when it was one too many.
    fn failed(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.body = None;
        let is_length = matches!(error, RegistryError::WrongLength { .. });
        if is_length && self.mismatches < MISMATCHES_MAX {
            // It may have been cut on the way by whoever wrote the length anew.
            self.mismatches += 1;
            let pace = self.registry.client.pace();
            return pace.pause(self.mismatches, error, &self.cancel);
        }
        if !error.is_retryable() {
            return Err(error);
        }
        if self.offset - self.failed_at >= PROGRESS_BYTES {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        self.failures_total += 1;
        if self.failures_total > FAILURES_MAX {
            return Err(error);
        }
        self.registry
            .client
            .pace()
            .pause(self.failures, error, &self.cancel)
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        self.body = None;
        let Some(hash) = self.hash.take() else {
            return Ok(());
        };
        let (expected, found) = (self.source.digest, hash.finish());
        if expected != found {
            return Err(RegistryError::WrongDigest { expected, found });
        }
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.hash.is_none() || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_once(buffer) {
                Ok(0) => {
                    self.finish()?;
                    return Ok(0);
                }
                Ok(count) => {
                    self.offset += count as u64;
                    if self.offset > self.source.size {
                        let (expected, found) = (self.source.size, self.offset);
                        return Err(RegistryError::WrongLength { expected, found }.into());
                    }
                    if let Some(hash) = &mut self.hash {
                        hash.update(buffer.get(..count).unwrap_or_default());
                    }
                    return Ok(count);
                }
                Err(error) => self.failed(error)?,
            }
        }
    }
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}
