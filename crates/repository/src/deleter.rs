//! The key of whoever deletes: it tells an exclusive lock of theirs from a thief's.
//!
//! A repository that was made with such a key names it in its config. Its writers then let only
//! exclusive locks keep them out that the key vouches for, so that whoever stole a writer's
//! credentials, password and all, cannot stop backups; and nobody deletes without the key, because
//! nobody would wait for them (`docs/adr/0021-deleter-key.md`).
//!
//! Invariant: the private half is in no repository.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::secret::Secret;
use zeroize::Zeroizing;

use crate::crypto::random_bytes;
use crate::error::RepositoryError;
use crate::format::lock::LockFile;

/// How a key file begins; the version of its form.
const PREFIX: &str = "refloat-deleter-key-1:";
/// What is signed begins with this.
const DOMAIN: &[u8] = b"refloat exclusive lock v1";
/// A voucher counts if the lock was stored within this of the time it states: an old lock that a
/// thief stores again keeps nobody out for longer.
const FRESH_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// The private key of a deleter.
pub struct DeleterKey(Ed25519KeyPair);

impl std::fmt::Debug for DeleterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeleterKey(***)")
    }
}

/// No deleter key.
#[derive(Debug, thiserror::Error)]
#[error("it is no deleter key")]
pub struct InvalidDeleterKey;

impl DeleterKey {
    /// A new key, and the text of its file.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<(Self, Secret), RepositoryError> {
        let seed = Zeroizing::new(random_bytes::<32>()?);
        let text = Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(*seed)));
        let key = Self::of_seed(&*seed).map_err(|e| RepositoryError::encode("a deleter key", e))?;
        Ok((key, Secret::new(text.as_bytes())))
    }

    /// The key of a file's text.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &Secret) -> Result<Self, InvalidDeleterKey> {
        let encoded = text.expose().trim_ascii().strip_prefix(PREFIX.as_bytes());
        let seed = BASE64.decode(encoded.ok_or(InvalidDeleterKey)?);
        Self::of_seed(&Zeroizing::new(seed.map_err(|_| InvalidDeleterKey)?))
    }

    fn of_seed(seed: &[u8]) -> Result<Self, InvalidDeleterKey> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|_rejected| InvalidDeleterKey)
    }

    /// What a repository's config names it by.
    #[must_use]
    pub fn public(&self) -> String {
        BASE64.encode(self.0.public_key().as_ref())
    }
}

/// Whom a repository lets keep others out, and who we are.
pub(crate) struct Deleters {
    repository: String,
    /// Public keys; none if every exclusive lock counts.
    named: Vec<String>,
    own: Option<DeleterKey>,
}

impl Deleters {
    pub(crate) const fn new(repository: String, named: Vec<String>) -> Self {
        Self {
            repository,
            named,
            own: None,
        }
    }

    pub(crate) fn with_own(&self, key: DeleterKey) -> Self {
        Self {
            repository: self.repository.clone(),
            named: self.named.clone(),
            own: Some(key),
        }
    }

    /// Whether a lock of ours may be exclusive.
    pub(crate) fn may_exclude(&self) -> bool {
        let ours = || self.own.as_ref().map(DeleterKey::public);
        self.named.is_empty() || ours().is_some_and(|own| self.named.contains(&own))
    }

    /// Whether clocks decide whether our locks count.
    pub(crate) fn vouches(&self) -> bool {
        !self.named.is_empty()
    }

    /// An exclusive lock with our signature, if we have a key.
    pub(crate) fn vouch(&self, lock: &LockFile) -> LockFile {
        let own = self.own.as_ref().filter(|_| lock.exclusive);
        let signature = own.map(|own| own.0.sign(&self.message(lock)));
        LockFile {
            refloat_voucher: signature.map(|bytes| BASE64.encode(bytes.as_ref())),
            ..lock.clone()
        }
    }

    /// Whether somebody's exclusive lock keeps a writer out. `stored` is when storage wrote it.
    pub(crate) fn honours(&self, lock: &LockFile, stored: Option<jiff::Timestamp>) -> bool {
        if self.named.is_empty() {
            return true;
        }
        is_fresh(lock.time, stored) && self.named.iter().any(|key| self.is_of(key, lock))
    }

    fn is_of(&self, key: &str, lock: &LockFile) -> bool {
        let signature = lock.refloat_voucher.as_ref();
        let signature = signature.map(|text| BASE64.decode(text));
        let (Some(Ok(signature)), Ok(key)) = (signature, BASE64.decode(key)) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ED25519, &key);
        key.verify(&self.message(lock), &signature).is_ok()
    }

    /// What is signed: named fields and not the whole lock, so that one with fields of a later
    /// version still counts for this one.
    fn message(&self, lock: &LockFile) -> Vec<u8> {
        let fields = [
            lock.time.to_string(),
            lock.hostname.clone(),
            lock.username.clone(),
            lock.pid.to_string(),
            lock.uid.to_string(),
            lock.gid.to_string(),
        ];
        let fields = fields.iter().map(String::as_bytes);
        let parts = [DOMAIN, self.repository.as_bytes()]
            .into_iter()
            .chain(fields);
        parts.collect::<Vec<_>>().join(&0_u8)
    }
}

/// Whether a lock was stored at about the time that it states.
pub(crate) fn is_fresh(claimed: jiff::Timestamp, stored: Option<jiff::Timestamp>) -> bool {
    stored.is_none_or(|stored| claimed.duration_since(stored).abs() <= FRESH_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(exclusive: bool) -> LockFile {
        LockFile {
            time: jiff::Timestamp::UNIX_EPOCH,
            exclusive,
            hostname: "refloat-1".to_owned(),
            username: "root".to_owned(),
            pid: 1,
            uid: 0,
            gid: 0,
            refloat_voucher: None,
        }
    }

    #[test]
    fn a_voucher_is_of_one_lock_of_one_repository_by_one_key() {
        let (key, text) = DeleterKey::generate().unwrap();
        let named = vec![key.public()];
        let ours = Deleters::new("r".to_owned(), named.clone());
        assert!(!ours.may_exclude(), "without the key nobody deletes");
        let ours = ours.with_own(DeleterKey::parse(&text).unwrap());
        assert!(ours.may_exclude());
        let vouched = ours.vouch(&lock(true));
        let at = |minutes| Some(vouched.time + jiff::SignedDuration::from_mins(minutes));
        assert!(ours.honours(&vouched, None) && ours.honours(&vouched, at(14)));
        assert!(!ours.honours(&vouched, at(16)), "an old one, stored again");
        let of_a_later_version = format!(
            "{}, \"from_later\": 1}}",
            serde_json::to_string(&vouched)
                .unwrap()
                .trim_end_matches('}')
        );
        let read: LockFile = serde_json::from_str(&of_a_later_version).unwrap();
        assert!(
            ours.honours(&read, at(0)),
            "with a field of a later version"
        );
        let changed = LockFile {
            time: vouched.time + jiff::SignedDuration::from_mins(16),
            ..vouched.clone()
        };
        assert!(!ours.honours(&changed, at(16)), "with another time");
        assert!(!ours.honours(&lock(true), at(0)), "without a voucher");
        let elsewhere = Deleters::new("s".to_owned(), named);
        assert!(!elsewhere.honours(&vouched, at(0)), "of another repository");
        let (other, _) = DeleterKey::generate().unwrap();
        let other = Deleters::new("r".to_owned(), vec![other.public()]);
        assert!(!other.honours(&vouched, at(0)), "by another key");
        assert!(
            !other
                .with_own(DeleterKey::parse(&text).unwrap())
                .may_exclude()
        );
        let open = Deleters::new("r".to_owned(), Vec::new());
        assert!(open.may_exclude() && open.honours(&lock(true), at(99)));
        assert_eq!(ours.vouch(&lock(false)).refloat_voucher, None);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "secret",
            "refloat-deleter-key-1:",
            "refloat-deleter-key-1:AAAA",
            "refloat-deleter-key-1:!",
        ] {
            assert!(DeleterKey::parse(&Secret::new(text)).is_err(), "{text}");
        }
    }
}
