//! Credentials that are got for others: a role's from Amazon's token service, or a program's.
//!
//! Invariant: what goes to the token service goes encrypted.

use std::path::Path;

use refloat_model::secret::Secret;
use refloat_storage::location::{Endpoint, Transport};
use serde::Deserialize;
use ureq::http::Method;

use super::{Credentials, Provider, program};
use crate::failure::{Failure, Meaning};
use crate::http::{Answer, Http, Request, Slash, encode};
use crate::s3::answers::meaning_of_code;
use crate::s3::sign;
use crate::xml::{Element, parse};

/// The session's name, which the owner of the role sees in its records.
const SESSION: &str = "refloat";
/// An answer of the token service is not larger, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What programs and machines answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token", alias = "SessionToken")]
    session_token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

/// Reads credentials as programs and machines answer them.
pub(super) fn document(json: &[u8], place: &str) -> Result<Credentials, Failure> {
    // The parser's error may hold a piece of the text.
    let document: Document = serde_json::from_slice(json)
        .map_err(|_| Failure::Credentials(format!("what {place} answers are no credentials")))?;
    Ok(Credentials {
        access_key: document.access_key_id,
        secret_key: Secret::new(document.secret_access_key),
        session_token: document.session_token.map(Secret::new),
        expires: document.expiration,
    })
}

impl Provider {
    /// Runs the program of `credential_process`.
    pub(super) fn of_program(&self, program: &str) -> Result<Credentials, Failure> {
        let output = program::output(program, program::DURATION_MAX, &self.connect.cancel);
        document(output?.expose(), program::PLACE)
    }

    /// Takes a role with a token that somebody else signed.
    pub(super) fn web_identity(&self, role: &str, token: &Path) -> Result<Credentials, Failure> {
        let bytes = std::fs::read(token).map_err(|source| Failure::CredentialSource {
            place: token.display().to_string(),
            source: Box::new(source),
        })?;
        let token = Secret::new(bytes);
        let token = String::from_utf8_lossy(token.expose());
        let name = self.around.text("AWS_ROLE_SESSION_NAME");
        let name = name.as_deref().unwrap_or(SESSION);
        let parameters = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role),
            ("RoleSessionName", name),
            ("WebIdentityToken", token.trim()),
        ];
        self.ask(&parameters, None)
    }

    /// Takes a role with credentials that may.
    pub(super) fn assume(
        &self,
        source: &Credentials,
        role: &str,
        external_id: Option<String>,
    ) -> Result<Credentials, Failure> {
        let mut parameters = vec![
            ("Action", "AssumeRole"),
            ("RoleArn", role),
            ("RoleSessionName", SESSION),
        ];
        if let Some(id) = &external_id {
            parameters.push(("ExternalId", id));
        }
        self.ask(&parameters, Some(source))
    }

    fn ask(
        &self,
        parameters: &[(&str, &str)],
        source: Option<&Credentials>,
    ) -> Result<Credentials, Failure> {
        let endpoint = self.token_service()?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Failure::CredentialSource {
            place: "Amazon's token service".to_owned(),
            source,
        };
        let http = Http::new(&endpoint, &self.connect).map_err(|e| failed(e.into()))?;
        let pairs = parameters.iter().chain([&("Version", "2011-06-15")]);
        let body: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={}", encode(value, Slash::Encoded)))
            .collect();
        let body = zeroize::Zeroizing::new(body.join("&"));
        let mut request = Request::new(Method::POST, format!("{endpoint}/"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/xml")
            .body(body.as_bytes());
        request.answer_bytes_max = ANSWER_BYTES_MAX;
        if let Some(source) = source {
            let scope = sign::Scope {
                region: &self.region,
                service: "sts",
            };
            sign::sign(&mut request, source, &scope, (self.around.clock)());
        }
        let answer = http.call(&request)?;
        let root = parse(&answer.body);
        if !answer.is_success() {
            return Err(refused(&answer, root.as_ref(), endpoint.authority()));
        }
        root.as_ref()
            .and_then(role_credentials)
            .ok_or(Failure::Malformed {
                host: endpoint.authority(),
                what: "credentials of a role",
            })
    }

    fn token_service(&self) -> Result<Endpoint, Failure> {
        for name in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"] {
            if let Some(text) = self.around.text(name) {
                return text
                    .parse()
                    .map_err(|what| Failure::Credentials(format!("{name} is {what}")));
            }
        }
        let suffix = if self.region.starts_with("cn-") {
            ".cn"
        } else {
            ""
        };
        Ok(Endpoint {
            transport: Transport::Tls,
            host: format!("sts.{}.amazonaws.com{suffix}", self.region),
            port: None,
        })
    }
}

/// What a refusal of the token service means: "too fast" comes with a status of 400.
fn refused(answer: &Answer, root: Option<&Element>, host: String) -> Failure {
    let error = root.and_then(|root| root.child("Error"));
    let text = |name| error.and_then(|error| error.text_of(name));
    let refusal = answer.refusal(text("Code"), text("Message"));
    let refusal = match text("Code").and_then(meaning_of_code) {
        Some(meaning) => refusal.meaning(meaning),
        None => refusal,
    };
    match refusal.meaning {
        Meaning::Busy | Meaning::ClockSkew => Failure::Refused { host, refusal },
        _ => Failure::Credentials(format!("Amazon's token service answered {refusal}")),
    }
}

fn role_credentials(root: &Element) -> Option<Credentials> {
    let result = root
        .child("AssumeRoleResult")
        .or_else(|| root.child("AssumeRoleWithWebIdentityResult"))?;
    let found = result.child("Credentials")?;
    Some(Credentials {
        access_key: found.text_of("AccessKeyId")?.to_owned(),
        secret_key: Secret::new(found.text_of("SecretAccessKey")?),
        session_token: Some(Secret::new(found.text_of("SessionToken")?)),
        expires: found.text_of("Expiration")?.parse().ok(),
    })
}
