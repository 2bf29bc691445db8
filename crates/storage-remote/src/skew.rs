//! How far this machine's clock and a server's are apart.
//!
//! Invariant: an answer that a box in between had kept tells nothing of the server's clock.

use jiff::{SignedDuration, Timestamp};
use ureq::http::HeaderMap;

/// The server's time when it answered.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers
        .get("date")
        .filter(|_| !headers.contains_key("age"))?;
    let date = jiff::fmt::rfc2822::parse(date.to_str().ok()?).ok()?;
    Some(date.timestamp())
}

/// By how much this machine's clock is ahead of the server's.
pub(crate) fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    date(headers).map(|theirs| now.duration_since(theirs))
}

/// The same in words.
pub(crate) fn told(ahead: SignedDuration) -> String {
    let way = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let minutes = (ahead.as_secs().unsigned_abs() + 30) / 60;
    format!("this machine's clock is {minutes} minutes {way} the server's")
}
