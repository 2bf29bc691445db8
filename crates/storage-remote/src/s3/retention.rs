//! Object Lock: objects that nobody can delete before a day, whatever credentials a thief has.
//!
//! Source: "Locking objects with Object Lock" in Amazon's S3 user guide.
//!
//! Invariant: locks of the repository are never kept from deletion, or no run could end; and no
//! period is ever made shorter.

use refloat_model::time::Timestamp;
use refloat_storage::{FileKey, FileKind};
use ureq::http::Method;

use super::S3;
use crate::failure::Failure;
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
    pub(super) fn length(&self) -> std::time::Duration {
        self.period.try_into().unwrap_or_default()
    }

    pub(super) fn until(&self, now: jiff::Timestamp) -> jiff::Timestamp {
        now.checked_add(self.period).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// Whether files of a kind are kept from deletion.
pub(super) const fn covers(kind: FileKind) -> bool {
    !matches!(kind, FileKind::Lock)
}

/// A date as S3 writes it.
pub(super) fn date(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl S3 {
    /// That an object is kept until a date; none if it is not known to be.
    pub(super) fn kept(&self, key: &FileKey) -> Option<Failure> {
        self.retained_until(key).ok()?.map(Failure::KeptUntil)
    }

    pub(super) fn retained_until(&self, key: &FileKey) -> Result<Option<jiff::Timestamp>, Failure> {
        let answer = self.send(self.object(Method::HEAD, key))?;
        let until = answer.header("x-amz-object-lock-retain-until-date");
        Ok(until.and_then(|text| text.parse().ok()))
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
        let path = below(&self.place.prefix, &key.path());
        let parameters = [("retention", String::new())];
        let request = Request::new(Method::PUT, self.place.url(&path, &parameters))
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
            Err(Failure::Refused { refusal, .. }) if refusal.status == 404 => return Ok(false),
            Err(failure) => return Err(failure),
        };
        let root = parse(&answer.body);
        let enabled = root.and_then(|root| Some(root.text_of("ObjectLockEnabled")? == "Enabled"));
        Ok(enabled.unwrap_or(false))
    }
}
