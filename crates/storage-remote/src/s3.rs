//! Amazon's S3, and what speaks its protocol.
//!
//! Invariant: every object's bytes are signed with their SHA-256, so that a server that keeps the
//! protocol stores nothing else than what was sent.

mod address;
mod answers;
mod credentials;
mod ini;
mod retention;
mod sign;

use std::sync::RwLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use refloat_model::time::Timestamp;
use refloat_storage::location::RemoteAddress;
use refloat_storage::{FileKey, FileKind, Listed, Protection};
use ureq::http::Method;

pub(crate) use address::Place;
pub use address::{Addressing, S3Options};
use credentials::{Credentials, Provider};
pub use retention::{LockMode, ObjectLock};

use crate::Surroundings;
use crate::failure::{Failure, Meaning};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, Request};
use crate::objects::{Objects, Present, below, file_at, is_of_a_file};

/// An answer that is no object's content is not larger, in bytes: a page of 1,000 names.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// A repository in a bucket.
pub(crate) struct S3 {
    http: Http,
    place: Place,
    /// What the server said the bucket's region is.
    region: RwLock<String>,
    provider: Provider,
    options: S3Options,
    connections: usize,
    around: Surroundings,
}

impl S3 {
    pub(crate) fn new(
        address: &RemoteAddress,
        options: S3Options,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let provider = Provider::new(&options, connect, around)?;
        let region = provider.region();
        let place = Place::new(address, &options, &region, around)?;
        Ok(Self {
            http: Http::new(&place.endpoint, connect)?,
            place,
            region: RwLock::new(region),
            provider,
            options,
            connections: connect.connections,
            around: around.clone(),
        })
    }

    fn region(&self) -> String {
        match self.region.read() {
            Ok(region) => region.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn listing_page(&self, prefix: &str, token: Option<&str>) -> Result<answers::Page, Failure> {
        let mut parameters = vec![
            ("list-type", "2".to_owned()),
            ("max-keys", "1000".to_owned()),
            ("prefix", prefix.to_owned()),
        ];
        if let Some(token) = token {
            parameters.push(("continuation-token", token.to_owned()));
        }
        let mut request = Request::new(Method::GET, self.place.url("", &parameters));
        request.answer_bytes_max = DOCUMENT_BYTES_MAX;
        let answer = self.send(request)?;
        answers::page(&answer.body).ok_or_else(|| self.malformed("a listing"))
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        }
    }

    /// One attempt: signed with the time of now.
    fn attempt(&self, request: &Request<'_>, credentials: &Credentials) -> Result<Answer, Failure> {
        let now = (self.around.clock)();
        let mut signed = request.again();
        let scope = sign::Scope {
            region: &self.region(),
            service: "s3",
        };
        sign::sign(&mut signed, credentials, &scope, now);
        let answer = self.http.call(&signed)?;
        if answer.is_success() {
            return Ok(answer);
        }
        if let Some(region) = answers::region(&answer)
            && let Ok(mut known) = self.region.write()
        {
            *known = region;
        }
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            refusal: answers::refusal(&answer, &request.method, now),
        })
    }
}

impl Objects for S3 {
    fn location(&self) -> String {
        self.place.shown.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn now(&self) -> Option<jiff::Timestamp> {
        self.http.now()
    }

    /// Buckets are made by people, with what belongs to them: versions, locks, rules. That this
    /// one is there is seen by listing it.
    fn create(&self) -> Result<(), Failure> {
        let _page = self.listing_page(&below(&self.place.prefix, "config"), None)?;
        if self.options.lock.is_some() && !self.bucket_locks()? {
            return Err(Failure::Unfit(
                "the bucket was made without Object Lock, which object-lock needs",
            ));
        }
        Ok(())
    }

    fn object(&self, method: Method, key: &FileKey) -> Request<'static> {
        let path = below(&self.place.prefix, &key.path());
        Request::new(method, self.place.url(&path, &[]))
    }

    fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let region = self.region();
        let credentials = self.provider.get()?;
        let failure = match self.attempt(&request, &credentials) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        if region != self.region() {
            return self.attempt(&request, &credentials);
        }
        // Credentials that ran out a moment ago are replaced once.
        let is_unknown = failure.meaning() == Some(Meaning::Unauthorized);
        if is_unknown && self.provider.renew(&credentials) {
            return self.attempt(&request, &*self.provider.get()?);
        }
        Err(failure)
    }

    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure> {
        let name = below(&self.place.prefix, &key.path());
        let page = self.listing_page(&name, None)?;
        // A page may hold less than there is, and say so.
        Ok(page.is_cut || page.objects.iter().any(|object| object.key == name))
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        let mut request = self.object(Method::PUT, key).body(bytes);
        if present == Present::Kept {
            request = request.header("if-none-match", "*");
        }
        if let Some(class) = self.options.class_of(key.kind()) {
            request = request.header("x-amz-storage-class", class);
        }
        if let Some(lock) = &self.options.lock
            && lock.terms().covers(key.kind())
        {
            let until = lock.until((self.around.clock)());
            // Servers demand a checksum of their own for locked objects.
            request = request
                .header("content-md5", content_md5(bytes))
                .header("x-amz-object-lock-mode", lock.mode.word())
                .header(
                    "x-amz-object-lock-retain-until-date",
                    retention::date(until),
                );
        }
        let answer = self.send(request)?;
        // A success of some box in between stores nothing.
        if is_of_a_file(&answer) {
            Ok(())
        } else {
            Err(self.malformed("a write without a word of what was written"))
        }
    }

    fn remove(&self, key: &FileKey) -> Result<(), Failure> {
        match self.ask(key, self.object(Method::DELETE, key)) {
            Ok(_) => Ok(()),
            Err(failure) => match failure.meaning() {
                Some(Meaning::NoFile) => Ok(()),
                Some(Meaning::Denied) => Err(self.kept(key).unwrap_or(failure)),
                _ => Err(failure),
            },
        }
    }

    fn protection(&self) -> Option<Protection> {
        self.options.lock.map(ObjectLock::terms)
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, Failure> {
        Ok(self.retained_until(key)?.map(Into::into))
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), Failure> {
        self.retain_until(key, until)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        let folder = below(&self.place.prefix, kind.folder());
        let prefix = match kind {
            FileKind::Config => folder,
            _ => format!("{folder}/"),
        };
        let mut listed = Vec::new();
        let mut last = String::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.listing_page(&prefix, token.as_deref())?;
            for object in page.objects {
                // Names come in order; a page that begins before the last one's end is one that
                // was sent twice, and the listing that holds it may lack another.
                if object.key <= last && !last.is_empty() {
                    return Err(self.malformed("pages of a listing overlap"));
                }
                if let Some(key) = file_at(kind, &self.place.prefix, &object.key) {
                    listed.push(Listed {
                        key,
                        size: object.size,
                        modified: object.modified,
                    });
                }
                last = object.key;
            }
            match (page.is_cut, page.next) {
                (false, _) => return Ok(listed),
                (true, Some(next)) if token.as_ref() != Some(&next) => token = Some(next),
                (true, _) => return Err(self.malformed("a listing goes on without a next page")),
            }
        }
    }
}

/// The value of `Content-MD5`.
fn content_md5(bytes: &[u8]) -> String {
    STANDARD.encode(md5::Md5::digest(bytes))
}
