//! Tokens that say who we are for a while, got from somebody who knows.
//!
//! Invariant: a token is replaced before it ends, and by one caller at a time.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use refloat_model::secret::Secret;
use serde::Deserialize;

use crate::Surroundings;
use crate::failure::{Failure, Refusal};
use crate::http::{Answer, Slash, encode};

/// Replaced this long before it ends.
const REPLACED_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// No answer with a token is larger, in bytes.
pub(crate) const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// A token and its end.
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) expires: Option<Timestamp>,
}

/// The token of the moment.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Option<Arc<Token>>>);

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

/// Reads the answer of a service that gives tokens.
pub(crate) fn read(answer: &Answer, place: &str, around: &Surroundings) -> Result<Token, Failure> {
    if !answer.is_success() {
        let refusal = Refusal::new(answer.status, error_code(&answer.body).as_deref(), None);
        return Err(match refusal.meaning {
            crate::failure::Meaning::Busy => Failure::Refused {
                host: place.to_owned(),
                refusal,
            },
            _ => Failure::Credentials(format!("{place} gives no token: it answered {refusal}")),
        });
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

fn error_code(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(json.get("error")?.as_str()?.to_owned())
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
