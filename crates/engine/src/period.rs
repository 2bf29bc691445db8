//! Lengths of time as people write them: `15m`, `1h`, `30d`, `2w`, `6mo`, `1y`.
//!
//! Invariant: a [`Period`] is longer than nothing. `m` means minutes and `mo` months, everywhere.

use std::str::FromStr;

use refloat_model::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in calendar units: a month is as long as the month is.
#[derive(Clone, Debug)]
pub struct Period {
    span: jiff::Span,
    text: String,
}

/// Text that is no period.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPeriod {
    /// It cannot be read.
    #[error("{text:?} is not a period such as 15m, 1h, 30d, 2w, 6mo or 1y")]
    Unreadable {
        /// What was written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: jiff::Error,
    },
    /// It is zero or negative.
    #[error("{0:?} is not longer than nothing")]
    NotPositive(String),
}

impl Period {
    /// The moment this long before `time`, by the calendar of UTC.
    #[must_use]
    pub fn before(&self, time: Timestamp) -> Timestamp {
        let zoned = time.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
        zoned
            .checked_sub(self.span)
            .map_or(jiff::Timestamp::MIN, |z| z.timestamp())
            .into()
    }

    /// The moment this long after `time`, by the calendar of UTC.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Timestamp {
        let zoned = time.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
        zoned
            .checked_add(self.span)
            .map_or(jiff::Timestamp::MAX, |z| z.timestamp())
            .into()
    }

    /// The length from `start` on, for deadlines.
    #[must_use]
    pub fn duration_from(&self, start: Timestamp) -> std::time::Duration {
        let length = self.after(start).to_jiff().duration_since(start.to_jiff());
        std::time::Duration::try_from(length).unwrap_or(std::time::Duration::MAX)
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let span: jiff::Span = text.parse().map_err(|source| InvalidPeriod::Unreadable {
            text: text.to_owned(),
            source,
        })?;
        if span.is_negative() || span.is_zero() {
            return Err(InvalidPeriod::NotPositive(text.to_owned()));
        }
        Ok(Self {
            span,
            text: text.to_owned(),
        })
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Period {
    fn eq(&self, other: &Self) -> bool {
        self.span.fieldwise() == other.span.fieldwise()
    }
}

impl Eq for Period {}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_calendar_months_and_m_is_minutes() {
        let time: Timestamp = "2026-03-31T12:00:00Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .into();
        let check = |text: &str| text.parse::<Period>().unwrap().before(time).to_string();
        assert_eq!(check("1mo"), "2026-02-28T12:00:00Z");
        assert_eq!(check("1m"), "2026-03-31T11:59:00Z");
        assert_eq!(check("1y2d"), "2025-03-29T12:00:00Z");
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        for text in ["0h", "-1d", "soon", "", "10"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
