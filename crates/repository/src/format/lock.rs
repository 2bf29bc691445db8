//! Lock files, as restic writes and honours them.
//!
//! Invariant: the host name of our locks is unique to the run, so restic never takes one for a
//! dead process of its own host and removes it.

use serde::{Deserialize, Serialize};

/// One lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockFile {
    /// When it was made or last refreshed, RFC 3339.
    pub time: jiff::Timestamp,
    /// Whether it excludes everybody else.
    pub exclusive: bool,
    /// Host of the holder; ours are `refloat-<run id>`.
    pub hostname: String,
    /// User of the holder.
    pub username: String,
    /// Process id of the holder.
    pub pid: i64,
    /// User id of the holder.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group id of the holder.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The signature of an exclusive holder's deleter key over all else. The field is ours; restic
    /// ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refloat_voucher: Option<String>,
}

impl LockFile {
    /// Who holds it, for people.
    #[must_use]
    pub fn holder(&self) -> String {
        format!("{}@{} (process {})", self.username, self.hostname, self.pid)
    }
}

const fn is_zero(value: &u32) -> bool {
    *value == 0
}
