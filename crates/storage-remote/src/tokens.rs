//! Tokens that say who we are for a while, got from somebody who knows.
//!
//! Invariant: a token is replaced before it ends, and by one caller at a time.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use refloat_model::secret::Secret;
use serde::Deserialize;

use crate::Surroundings;
use crate::failure::{Failure, Meaning};
use crate::http::{Answer, Slash, encode};
use crate::skew;

/// Replaced this long before it ends.
const REPLACED_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// No answer with a token is larger, in bytes.
pub(crate) const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// A proof with a time in it may be refused for that when the clocks are further apart.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(1);
/// What proves who we are in a form.
const PROOFS: [&str; 4] = [
    "assertion",
    "client_assertion",
    "client_secret",
    "refresh_token",
];

/// A token and its end.
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) expires: Option<Timestamp>,
}

/// The token of the moment.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Option<Arc<Token>>>);

#[derive(Deserialize)]
struct Refused {
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    access_token: String,
    /// A number, which some services write as text.
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    /// The token of the moment, or another one.
    pub(crate) fn get(
        &self,
        now: Timestamp,
        fetch: impl FnOnce() -> Result<Token, Failure>,
    ) -> Result<Arc<Token>, Failure> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*current {
            let left = token.expires.map(|expires| expires.duration_since(now));
            if left.is_none_or(|left| left > REPLACED_BEFORE) {
                return Ok(Arc::clone(token));
            }
        }
        let token = match fetch() {
            Ok(token) => Arc::new(token),
            // What is there is good for some minutes yet, and the next request asks again.
            Err(failure) => {
                let is_good = |token: &&Arc<Token>| token.expires.is_some_and(|end| end > now);
                let known = current.as_ref().filter(is_good);
                return known.map(Arc::clone).ok_or(failure);
            }
        };
        *current = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Forgets a token that was refused, unless somebody replaced it already; whether asking again
    /// may give another.
    pub(crate) fn renew(&self, refused: &Arc<Token>) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|token| Arc::ptr_eq(token, refused))
        {
            *current = None;
        }
        refused.expires.is_some()
    }
}

/// Reads the answer of a service that gives tokens, to a [`form`] that was sent or to none.
pub(crate) fn read(
    answer: &Answer,
    place: &str,
    sent: &str,
    around: &Surroundings,
) -> Result<Token, Failure> {
    if !answer.is_success() {
        return Err(refused(answer, place, sent, around));
    }
    let document: Document = serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::Credentials(format!("what {place} answers is no token")))?;
    let seconds = document.expires_in.and_then(|value| match value {
        serde_json::Value::Number(number) => number.as_i64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let now = (around.clock)();
    Ok(Token {
        value: Secret::new(document.access_token),
        expires: seconds
            .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok()),
    })
}

fn refused(answer: &Answer, place: &str, sent: &str, around: &Surroundings) -> Failure {
    let document = serde_json::from_slice::<Refused>(&answer.body);
    let (code, words) = document.map_or((None, None), |it| (it.error, it.error_description));
    let words = words.filter(|words| !repeats(words, sent));
    let refusal = answer.refusal(code.as_deref(), words.as_deref());
    let skew = skew::ahead(&answer.headers, (around.clock)())
        .filter(|ahead| ahead.abs() > SKEW_MAX && is_dated(sent));
    let refusal = match (answer.status, skew) {
        (400 | 401, Some(ahead)) => {
            let told = match &refusal.message {
                Some(words) => format!("{}: {words}", skew::told(ahead)),
                None => skew::told(ahead),
            };
            answer
                .refusal(code.as_deref(), Some(&told))
                .meaning(Meaning::ClockSkew)
        }
        _ => refusal,
    };
    match refusal.meaning {
        Meaning::Busy | Meaning::ClockSkew => Failure::Refused {
            host: place.to_owned(),
            refusal,
        },
        _ => Failure::Credentials(format!("{place} gives no token: it answered {refusal}")),
    }
}

/// What a form says that proves who we are, as it was sent.
fn proofs(form: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, value)| PROOFS.contains(name) && !value.is_empty())
}

/// Whether a form holds what is good at its time only.
fn is_dated(form: &str) -> bool {
    proofs(form).any(|(name, _value)| name.ends_with("assertion"))
}

/// Whether words of an answer repeat what nobody may read.
fn repeats(words: &str, form: &str) -> bool {
    let words = encode(words, Slash::Encoded);
    proofs(form).any(|(_name, value)| words.contains(value))
}

/// `name=value&…` for a form.
pub(crate) fn form(pairs: &[(&str, &str)]) -> zeroize::Zeroizing<String> {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value, Slash::Encoded)))
        .collect();
    zeroize::Zeroizing::new(pairs.join("&"))
}

/// The value of a header with a token.
pub(crate) fn bearer(token: &Token) -> String {
    format!("Bearer {}", String::from_utf8_lossy(token.value.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &str, expires: Option<Timestamp>) -> Token {
        Token {
            value: Secret::new(value),
            expires,
        }
    }

    fn failure() -> Failure {
        Failure::Silent("directory".to_owned())
    }

    #[test]
    fn a_token_is_replaced_before_it_ends_and_kept_where_it_cannot_be() {
        let end: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let before = |minutes| end - SignedDuration::from_mins(minutes);
        let tokens = Tokens::default();
        let get = |minutes, fetched: Result<&str, Failure>| {
            let fetch = || fetched.map(|value| token(value, Some(end)));
            let got = tokens.get(before(minutes), fetch);
            got.map(|token| bearer(&token)).ok()
        };
        assert_eq!(get(60, Err(failure())), None);
        assert_eq!(get(60, Ok("A")).as_deref(), Some("Bearer A"));
        assert_eq!(get(6, Ok("B")).as_deref(), Some("Bearer A"));
        assert_eq!(get(5, Ok("B")).as_deref(), Some("Bearer B"));
        // It is good for a while yet.
        assert_eq!(get(1, Err(failure())).as_deref(), Some("Bearer B"));
        assert_eq!(get(0, Err(failure())), None);
    }

    #[test]
    fn only_the_token_that_was_refused_is_forgotten_and_only_one_that_ends_can_be_replaced() {
        let now = Timestamp::UNIX_EPOCH;
        let end = Some(now + SignedDuration::from_hours(1));
        let tokens = Tokens::default();
        let get = |value| tokens.get(now, || Ok(token(value, end))).unwrap();
        let first = get("A");
        assert!(tokens.renew(&first));
        let second = get("B");
        assert_eq!(bearer(&second), "Bearer B");
        // Another thread's request was refused with the first one as well.
        assert!(tokens.renew(&first));
        assert_eq!(bearer(&get("C")), "Bearer B");
        assert!(!tokens.renew(&Arc::new(token("given", None))));
    }
}
