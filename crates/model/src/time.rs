//! Points in time as the file system and the repository know them.
//!
//! Invariant: a [`Timestamp`] is UTC; no time zone is kept.

use serde::{Deserialize, Serialize};

/// A point in time with nanoseconds, as `stat` gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000, also for negative seconds.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The epoch: the fixed time of entries that have no real file.
    pub const EPOCH: Self = Self {
        seconds: 0,
        nanoseconds: 0,
    };

    /// Converts for calendar arithmetic; times outside the years -9999 to 9999 are clamped.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        let nanoseconds = i32::try_from(self.nanoseconds.min(999_999_999)).unwrap_or(0);
        jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or(if self.seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        let (mut seconds, mut nanoseconds) = (time.as_second(), time.subsec_nanosecond());
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        Self {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(jiff::Timestamp::deserialize(deserializer)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds_positive() {
        let time = Timestamp {
            seconds: -2,
            nanoseconds: 250_000_000,
        };
        assert_eq!(Timestamp::from(time.to_jiff()), time);
        assert_eq!(time.to_string(), "1969-12-31T23:59:58.25Z");
    }
}
