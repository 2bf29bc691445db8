//! Requests to one registry: connection, authentication, patience.
//!
//! Invariants: only failures that may pass are tried again, and only so often; credentials go to
//! the registry itself and to its token service, never along a redirect to another host.

mod link;
mod pace;

use std::io::{self, Read};
use std::time::Duration;

use refloat_http::{trust, trust_nobody};
use refloat_model::cancel::Cancel;
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Request as HttpRequest, Response as HttpResponse, header};
use ureq::{Agent, Body, SendBody};

pub(crate) use link::{next_page, resolve};
pub(crate) use pace::Pace;

use crate::address::{Address, Scheme};
use crate::auth::{Authenticator, Scope};
use crate::error::RegistryError;
use crate::options::{ConnectOptions, PlainHttp};

/// How often one request may be answered with "who are you?": once for nothing sent, once for a
/// token that has just expired, once for a password that has just been replaced.
const CHALLENGES_MAX: usize = 3;
/// Redirects of one download: registries refer to their storage once.
const REDIRECTS_MAX: u32 = 5;
/// Read from the network at once, in bytes.
const INPUT_BUFFER_BYTES: usize = 128 << 10;
/// How much of an error's body is looked at, in bytes.
const ERROR_BYTES_MAX: u64 = 16 << 10;

pub(crate) type Response = HttpResponse<Body>;

/// A connection to one registry, for many threads.
pub(crate) struct Client {
    agent: Agent,
    address: Address,
    authenticator: Authenticator,
    pace: Pace,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Whole, as [`Client::url`] makes it or a registry gave it.
    pub(crate) url: String,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    pub(crate) scope: &'a Scope,
    pub(crate) payload: Payload<'a>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Opened for each attempt.
    Stream {
        length: u64,
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    },
}

impl<'a> Request<'a> {
    pub(crate) const fn new(method: Method, url: String, scope: &'a Scope) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            scope,
            payload: Payload::Nothing,
        }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Client {
    pub(crate) fn new(address: &Address, options: &ConnectOptions) -> Result<Self, RegistryError> {
        let is_plain = address.scheme() == Scheme::Http;
        if is_plain && !address.is_loopback() && options.plain_http == PlainHttp::Loopback {
            return Err(RegistryError::PlainHttp(address.clone()));
        }
        let agent = agent(address, options)?;
        Ok(Self {
            authenticator: Authenticator::new(agent.clone(), address, options),
            agent,
            address: address.clone(),
            pace: Pace::new(options.retry),
        })
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// The URL of `path` below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{path}", self.address.base())
    }

    /// Sends a request until it is answered with something definite; any status that is neither
    /// "busy" nor "who are you?" is handed back.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        cancel: &Cancel,
    ) -> Result<Response, RegistryError> {
        self.pace.repeat(cancel, || self.attempt(request, cancel))
    }

    /// Sends a request and reads its whole answer; what breaks in the middle is tried again.
    pub(crate) fn fetch(
        &self,
        request: &Request<'_>,
        (what, bytes_max): (&str, u64),
        cancel: &Cancel,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        self.pace.repeat(cancel, || {
            let response = success(self.attempt(request, cancel)?)?;
            let (parts, body) = response.into_parts();
            let bytes = self.read(body, what, bytes_max)?;
            Ok((parts.headers, bytes))
        })
    }

    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    fn read(&self, body: Body, what: &str, bytes_max: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut reader = body.into_reader().take(bytes_max + 1);
        let read = reader.read_to_end(&mut bytes).map_err(|e| self.broken(e))?;
        if read as u64 > bytes_max {
            return Err(RegistryError::TooLarge {
                what: what.to_owned(),
                limit: bytes_max,
                unit: "bytes",
            });
        }
        Ok(bytes)
    }

    /// An error in the middle of an answer.
    pub(crate) fn broken(&self, error: io::Error) -> RegistryError {
        RegistryError::Connection {
            host: self.address.authority().to_owned(),
            source: error,
        }
    }

    /// One attempt, with as many answers to "who are you?" as it takes.
    pub(crate) fn attempt(
        &self,
        request: &Request<'_>,
        cancel: &Cancel,
    ) -> Result<Response, RegistryError> {
        // Locations of uploads may name another host: nothing of ours goes there.
        let is_own = request
            .url
            .starts_with(&format!("{}/", self.address.base()));
        for _ in 0..CHALLENGES_MAX {
            cancel.check()?;
            let authorization = match is_own {
                true => self.authenticator.authorization(request.scope)?,
                false => None,
            };
            let response = self.call(request, authorization.as_deref())?;
            match response.status().as_u16() {
                401 if is_own => {
                    let used = authorization.as_deref().map(String::as_str);
                    let headers = response.headers();
                    self.authenticator
                        .challenged(headers, request.scope, used)?;
                }
                status @ (408 | 429 | 500 | 502 | 503 | 504) => {
                    let wait = refloat_http::retry_after(response.headers());
                    return Err(RegistryError::Busy { status, wait });
                }
                _ => return Ok(response),
            }
        }
        Err(RegistryError::Unauthorized(request.scope.to_string()))
    }

    fn call(
        &self,
        request: &Request<'_>,
        authorization: Option<&String>,
    ) -> Result<Response, RegistryError> {
        let mut builder = HttpRequest::builder()
            .method(request.method.clone())
            .uri(request.url.as_str());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            builder = builder.header(header::CONTENT_LENGTH, request.payload.length());
        }
        match &request.payload {
            Payload::Nothing => self.run(builder, SendBody::none()),
            Payload::Bytes(bytes) => self.run(builder, SendBody::from_reader(&mut &**bytes)),
            Payload::Stream { open, .. } => {
                let mut stream = open().map_err(|e| RegistryError::Local(e.into()))?;
                self.run(builder, SendBody::from_reader(&mut *stream))
            }
        }
    }

    fn run(&self, builder: Builder, body: SendBody<'_>) -> Result<Response, RegistryError> {
        let request = builder
            .body(body)
            .map_err(|_| RegistryError::BadLink("an impossible URL"))?;
        let answer = self.agent.run(request);
        answer.map_err(|error| transport(self.address.authority(), error))
    }
}

impl Payload<'_> {
    const fn length(&self) -> u64 {
        match self {
            Payload::Nothing => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream { length, .. } => *length,
        }
    }
}

fn agent(address: &Address, options: &ConnectOptions) -> Result<Agent, RegistryError> {
    let tls = match address.scheme() {
        Scheme::Https => trust(options.ca_file.as_deref())?,
        Scheme::Http => trust_nobody(),
    };
    let proxy = match &options.proxy {
        None => None,
        Some(url) => {
            let url = std::str::from_utf8(url.expose()).unwrap_or_default();
            let proxy = ureq::Proxy::new(url);
            Some(proxy.map_err(|_| RegistryError::BadLink("a proxy with an impossible URL"))?)
        }
    };
    let idle = options.requests_at_once.max(1);
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .https_only(address.scheme() == Scheme::Https)
        .http_status_as_error(false)
        .max_redirects(REDIRECTS_MAX)
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .user_agent(concat!("refloat/", env!("CARGO_PKG_VERSION")))
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(INPUT_BUFFER_BYTES)
        .max_idle_connections(idle * 2)
        .max_idle_connections_per_host(idle)
        .max_idle_age(Duration::from_secs(10))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_per_read(Some(options.silence_max))
        .timeout_per_write(Some(options.silence_max))
        .build();
    Ok(refloat_http::agent(config))
}

/// The client's error without what could hold a secret: URLs.
pub(crate) fn transport(host: &str, error: ureq::Error) -> RegistryError {
    use ureq::Error as E;
    let host = host.to_owned();
    match error {
        // So come the errors of TLS handshakes; trying again does not change a certificate.
        E::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            RegistryError::Tls { host, source }
        }
        E::Io(source) => RegistryError::Connection { host, source },
        E::Timeout(_) => RegistryError::Timeout(host),
        E::HostNotFound => RegistryError::HostUnknown(host),
        E::RequireHttpsOnly(_) => RegistryError::BadLink("an address that is not encrypted"),
        E::BadUri(_) | E::Http(_) => RegistryError::BadLink("an impossible URL"),
        E::TooManyRedirects | E::RedirectFailed => {
            RegistryError::BadLink("one place after the other")
        }
        other => RegistryError::Protocol {
            host,
            source: Box::new(other),
        },
    }
}

/// The answer if it is a success, else what the registry says.
pub(crate) fn success(response: Response) -> Result<Response, RegistryError> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(refused(response))
}

/// A refusal with the registry's error code.
pub(crate) fn refused(response: Response) -> RegistryError {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // An error's body that cannot be read says no more than the status does.
    let _unread = response
        .into_body()
        .into_reader()
        .take(ERROR_BYTES_MAX)
        .read_to_end(&mut body);
    RegistryError::Refused {
        status,
        code: error_code(&body),
    }
}

fn error_code(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = json.pointer("/errors/0/code")?.as_str()?;
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (code.len() <= 40 && code.bytes().all(plain)).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_error_codes_of_a_refusal_are_shown() {
        let code = |text: &str| error_code(text.as_bytes());
        assert_eq!(
            code(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"token=hunter2"}]}"#),
            Some("MANIFEST_UNKNOWN".to_owned())
        );
        assert_eq!(code(r#"{"errors":[{"code":"token hunter2"}]}"#), None);
        assert_eq!(code("<html>"), None);
    }

    #[test]
    fn plain_http_goes_to_this_machine_or_where_it_is_allowed() {
        let connect = |text: &str, plain_http| {
            let options = ConnectOptions {
                plain_http,
                ..ConnectOptions::default()
            };
            Client::new(&text.parse().unwrap(), &options)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(connect("http://127.0.0.1:1", PlainHttp::Loopback), Ok(()));
        assert_eq!(connect("http://10.0.0.1", PlainHttp::Anywhere), Ok(()));
        assert_eq!(
            connect("http://10.0.0.1", PlainHttp::Loopback),
            Err("http://10.0.0.1 is not encrypted and not on this machine".to_owned())
        );
    }
}
