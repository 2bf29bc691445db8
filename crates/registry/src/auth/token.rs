//! Tokens of a registry's token service.
//!
//! Invariant: a token is used only until shortly before it expires; one that names no time lives
//! for the 60 seconds of the specification.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Request, header};
use ureq::{Agent, SendBody};
use zeroize::Zeroizing;

use super::login::Login;
use super::{Authorization, basic, bearer};
use crate::error::RegistryError;
use crate::http::{Response, success, transport};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// How long a token lives that does not say.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// A token is renewed when so much of its time is left: one part in four.
const MARGIN_PART: u32 = 4;
/// No token is kept longer than this, whatever it says.
const LIFETIME_MAX: Duration = Duration::from_hours(1);

/// See the module.
pub(super) struct Token {
    pub(super) authorization: Authorization,
    pub(super) until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Asks a token service for a token.
pub(super) fn fetch(
    agent: &Agent,
    login: &Login,
    realm: &str,
    service: Option<&str>,
    scope: &str,
) -> Result<Token, RegistryError> {
    let asked = Instant::now();
    let response = ask(agent, login, realm, service, scope)?;
    match response.status().as_u16() {
        status @ (408 | 429 | 500 | 502 | 503 | 504) => {
            return Err(RegistryError::Busy {
                status,
                wait: refloat_http::retry_after(response.headers()),
            });
        }
        400 | 401 | 403 => return Err(RegistryError::Unauthorized(scope.to_owned())),
        _ => {}
    }
    let body = success(response)?.into_body();
    let mut text = Zeroizing::new(Vec::new());
    body.into_reader()
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|source| RegistryError::Connection {
            host: "the token service".to_owned(),
            source,
        })?;
    let answer: Answer = serde_json::from_slice(&text).map_err(|error| {
        // The parser quotes what it does not understand, which may be the token.
        let place = std::io::Error::other(format!("line {}", error.line()));
        RegistryError::Malformed {
            what: "the token service's answer",
            source: serde_json::Error::io(place),
        }
    })?;
    let token = answer.token.or(answer.access_token).unwrap_or_default();
    let lifetime = answer
        .expires_in
        .map_or(LIFETIME_DEFAULT, Duration::from_secs);
    let lifetime = lifetime.min(LIFETIME_MAX);
    Ok(Token {
        authorization: bearer(token.as_bytes())?,
        until: asked + (lifetime - lifetime / MARGIN_PART),
    })
}

fn ask(
    agent: &Agent,
    login: &Login,
    realm: &str,
    service: Option<&str>,
    scope: &str,
) -> Result<Response, RegistryError> {
    let bad = |_| RegistryError::BadLink("an impossible token service");
    let mut query = String::new();
    for (name, value) in service.map(|s| ("service", s)).into_iter().chain(
        // Several scopes are several parameters.
        scope.split(' ').map(|scope| ("scope", scope)),
    ) {
        query.push_str(&format!("{name}={}&", encode(value)));
    }
    query.push_str("client_id=refloat");
    let host = "the token service";
    if let Login::Identity(identity) = login {
        let identity = String::from_utf8_lossy(identity.expose());
        let form = Zeroizing::new(format!(
            "grant_type=refresh_token&refresh_token={}&{query}",
            &*Zeroizing::new(encode(&identity))
        ));
        let mut bytes = form.as_bytes();
        let request = Request::post(realm)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::CONTENT_LENGTH, form.len())
            .body(SendBody::from_reader(&mut bytes))
            .map_err(bad)?;
        return agent.run(request).map_err(|error| transport(host, error));
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let mut request = Request::get(format!("{realm}{separator}{query}"));
    if let Login::Password { user, password } = login {
        request = request.header(header::AUTHORIZATION, &*basic(user, password.expose())?);
    }
    let request = request.body(SendBody::none()).map_err(bad)?;
    agent.run(request).map_err(|error| transport(host, error))
}

/// Encodes a value of a query or form.
fn encode(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "%{byte:02X}");
        }
        text
    })
}
