//! How long a server asks to be left alone.

use std::time::Duration;

use jiff::Timestamp;
use ureq::http::{HeaderMap, header};

/// What `Retry-After` says (RFC 9110, section 10.2.3): seconds, or a date beside the answer's own `Date`, so that no
/// clock of ours is in it. None where it says nothing that is understood.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = date(text)?;
    let now = date(headers.get(header::DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn date(text: &str) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_seconds_or_dates() {
        let check = |after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            headers.insert(
                header::DATE,
                "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap(),
            );
            retry_after(&headers)
        };
        assert_eq!(check("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            check("Wed, 21 Oct 2015 07:29:30 GMT"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(check("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(check("soon"), None);
        assert_eq!(check("-7"), None);
    }
}
