//! Roles that this machine or container has by itself.
//!
//! Source: "Container credential provider" and "IMDS credential provider" in Amazon's SDK
//! reference guide.
//!
//! Invariant: a token goes only to the addresses that Amazon's own tools allow: encrypted, this
//! machine's, or the two link-local ones of containers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use refloat_storage::location::{Endpoint, Transport};
use ureq::http::Method;

use super::exchange::document;
use super::{Credentials, Provider};
use crate::failure::{Failure, Meaning};
use crate::http::{Answer, ConnectOptions, Http, PlainHttp, Request};
use crate::machine;

/// The address of an instance's own records.
const INSTANCE: &str = "http://169.254.169.254";
/// The address of a container's.
const CONTAINER: &str = "http://169.254.170.2";
/// Hosts that a container's credentials may come from without encryption.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
/// These answer at once, or there are none: machines outside a cloud must not wait long.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is not larger, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What an instance is asked for.
const RECORDS: &str = "the instance's records";

impl Provider {
    /// The role of a container, if its environment says that it has one.
    pub(super) fn of_container(&self) -> Result<Option<Credentials>, Failure> {
        const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        let relative = self.around.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match relative.map(|path| format!("{CONTAINER}{path}")) {
            Some(url) => url,
            None => match self.around.text(FULL) {
                Some(url) => url,
                None => return Ok(None),
            },
        };
        let wrong = || Failure::Credentials(format!("{FULL} is no address that may be asked"));
        let authority_end = url
            .find("://")
            .and_then(|start| Some(start + 3 + url.get(start + 3..)?.find('/')?))
            .ok_or_else(wrong)?;
        let endpoint: Endpoint = url
            .get(..authority_end)
            .unwrap_or_default()
            .parse()
            .map_err(|_| wrong())?;
        let is_allowed = endpoint.transport == Transport::Tls
            || endpoint.is_loopback()
            || CONTAINER_HOSTS.contains(&endpoint.host.as_str());
        if !is_allowed {
            return Err(wrong());
        }
        let mut request = Request::new(Method::GET, url).at_most(ANSWER_BYTES_MAX);
        if let Some(path) = self.around.path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            let token = std::fs::read(&path).map_err(|source| Failure::CredentialSource {
                place: path.display().to_string(),
                source: Box::new(source),
            })?;
            let token = String::from_utf8_lossy(&token).trim().to_owned();
            request = request.header("authorization", token);
        } else if let Some(token) = self.around.text("AWS_CONTAINER_AUTHORIZATION_TOKEN") {
            request = request.header("authorization", token);
        }
        const PLACE: &str = "the container's service";
        let answer = given(self.ask_machine(&endpoint, &request)?, PLACE)?;
        document(&answer.body, PLACE).map(Some)
    }

    /// The role of an instance, if this is one.
    pub(super) fn of_instance(&self) -> Result<Option<Credentials>, Failure> {
        let disabled = self.around.text("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let base = self.around.text("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = base.unwrap_or_else(|| INSTANCE.to_owned());
        let endpoint: Endpoint = base.parse().map_err(|what| {
            Failure::Credentials(format!("AWS_EC2_METADATA_SERVICE_ENDPOINT is {what}"))
        })?;
        let token = Request::new(Method::PUT, format!("{endpoint}/latest/api/token"))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            .body(&[])
            .at_most(ANSWER_BYTES_MAX);
        let had_role = self.has_role.load(Ordering::Relaxed);
        let token = machine::ask(had_role, || self.ask_machine(&endpoint, &token))?;
        // Silence, or another cloud's records: this is no instance of Amazon's.
        let token = token.filter(|answer| had_role || !matches!(answer.status, 400..=499));
        let Some(token) = token else {
            return Ok(None);
        };
        let token = given(token, RECORDS)?;
        let token = String::from_utf8_lossy(&token.body).trim().to_owned();
        let get = |path: &str| {
            let url = format!("{endpoint}/latest/meta-data/iam/security-credentials/{path}");
            let request =
                Request::new(Method::GET, url).header("x-aws-ec2-metadata-token", token.clone());
            let request = request.at_most(ANSWER_BYTES_MAX);
            self.ask_machine(&endpoint, &request)
        };
        let roles = get("")?;
        // An instance without a role.
        if roles.status == 404 && !had_role {
            return Ok(None);
        }
        let roles = given(roles, RECORDS)?;
        let roles = String::from_utf8_lossy(&roles.body).into_owned();
        let Some(role) = roles.lines().next().filter(|role| !role.is_empty()) else {
            return Ok(None);
        };
        let found = document(&given(get(role)?, RECORDS)?.body, RECORDS)?;
        self.has_role.store(true, Ordering::Relaxed);
        Ok(Some(found))
    }

    fn ask_machine(&self, endpoint: &Endpoint, request: &Request<'_>) -> Result<Answer, Failure> {
        let options = ConnectOptions {
            ca_file: self.connect.ca_file.clone(),
            plain_http: PlainHttp::Anywhere,
            connect_timeout: PATIENCE,
            silence_max: PATIENCE,
            cancel: self.connect.cancel.clone(),
            ..ConnectOptions::default()
        };
        let http = Http::new(endpoint, &options).map_err(|error| Failure::CredentialSource {
            place: endpoint.to_string(),
            source: Box::new(error),
        })?;
        http.call(request)
    }
}

/// An answer that gives something.
///
/// A refusal is one of credentials, whatever its status: that a role is not found must never
/// look as if a file were not.
fn given(answer: Answer, place: &str) -> Result<Answer, Failure> {
    if answer.is_success() {
        return Ok(answer);
    }
    let refusal = answer.refusal(None, None);
    Err(match refusal.meaning {
        Meaning::Busy => Failure::Refused {
            host: place.to_owned(),
            refusal,
        },
        _ => Failure::Credentials(format!("{place} gives no credentials: {refusal}")),
    })
}
