//! Object Lock: objects that nobody can delete before a day, whatever credentials a thief has.
//!
//! Source: "Locking objects with Object Lock" in Amazon's S3 user guide.
//!
//! Invariant: locks of the repository are never kept from deletion, or no run could end; and no
//! period is ever made shorter.

use refloat_model::time::Timestamp;
use refloat_storage::{FileKey, Protection};
use ureq::http::Method;

use super::S3;
use crate::failure::{Failure, Meaning};
use crate::http::Request;
use crate::objects::{Objects as _, below};
use crate::xml::parse;

/// Who may still delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Whoever has the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// How objects are kept from deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectLock {
    /// Who may still delete.
    pub mode: LockMode,
    /// How long after it was written, or extended.
    pub period: jiff::SignedDuration,
}

impl ObjectLock {
    pub(super) fn terms(self) -> Protection {
        Protection {
            period: self.period.try_into().unwrap_or_default(),
        }
    }

    pub(super) fn until(&self, now: jiff::Timestamp) -> jiff::Timestamp {
        now.checked_add(self.period).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// A date as S3 writes it.
pub(super) fn date(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl S3 {
    /// That an object is kept until a date; none if it is not known to be.
    pub(super) fn kept(&self, key: &FileKey) -> Option<Failure> {
        let until = self.retained_until(key).ok()??;
        (until > (self.around.clock)()).then_some(Failure::KeptUntil(until))
    }

    /// Until when an object is kept; none if the server says that it is not.
    ///
    /// The header of an object's own answer is sent only to whoever may know it, so that its
    /// absence says nothing: then the retention is asked for by name, which is refused to others.
    pub(super) fn retained_until(&self, key: &FileKey) -> Result<Option<jiff::Timestamp>, Failure> {
        let answer = self.ask(key, self.object(Method::HEAD, key))?;
        if let Some(text) = answer.header("x-amz-object-lock-retain-until-date") {
            let until = text.parse().map_err(|_| self.malformed("a retention"))?;
            return Ok(Some(until));
        }
        let answer = match self.send(Request::new(Method::GET, self.retention(key))) {
            Ok(answer) => answer,
            Err(failure) if is_without_retention(&failure) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let root = parse(&answer.body).filter(|root| root.name == "Retention");
        let until = root.and_then(|root| root.text_of("RetainUntilDate")?.parse().ok());
        until.map(Some).ok_or_else(|| self.malformed("a retention"))
    }

    fn retention(&self, key: &FileKey) -> String {
        let path = below(&self.place.prefix, &key.path());
        self.place.url(&path, &[("retention", String::new())])
    }

    pub(super) fn retain_until(&self, key: &FileKey, until: Timestamp) -> Result<(), Failure> {
        let Some(lock) = self.options.lock else {
            return Ok(());
        };
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode>\
             <RetainUntilDate>{}</RetainUntilDate></Retention>",
            lock.mode.word(),
            date(jiff::Timestamp::from_second(until.seconds).unwrap_or(jiff::Timestamp::MAX))
        );
        let request = Request::new(Method::PUT, self.retention(key))
            .header("content-md5", super::content_md5(body.as_bytes()))
            .body(body.as_bytes());
        self.send(request).map(|_answer| ())
    }

    /// Whether the bucket can keep objects from deletion at all.
    pub(super) fn bucket_locks(&self) -> Result<bool, Failure> {
        let parameters = [("object-lock", String::new())];
        let request = Request::new(Method::GET, self.place.url("", &parameters));
        let answer = match self.send(request) {
            Ok(answer) => answer,
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => return Ok(false),
            Err(failure) => return Err(failure),
        };
        let root = parse(&answer.body);
        let enabled = root.and_then(|root| Some(root.text_of("ObjectLockEnabled")? == "Enabled"));
        Ok(enabled.unwrap_or(false))
    }
}

/// Whether a refusal says that an object, or its bucket, has no retention.
fn is_without_retention(failure: &Failure) -> bool {
    let Failure::Refused { refusal, .. } = failure else {
        return false;
    };
    matches!(
        refusal.code.as_deref(),
        Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError")
    )
}
