//! Requests to one server: connection, encryption, patience, pace.
//!
//! Invariants: nothing is sent unencrypted to another machine unless that was asked for by name;
//! no redirect is followed; whoever does not answer, or in drops, is given up after a limit; an
//! answer that is shorter than declared is never handed on.

mod body;
mod floor;
mod proxies;

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use refloat_http::{UnusableCertificates, retry_after, trust, trust_nobody};
use refloat_model::cancel::Cancel;
use refloat_storage::location::{Endpoint, Transport};
use refloat_storage::pace::Traffic;
use ureq::http::{HeaderMap, Method, Request as HttpRequest};
use ureq::{Agent, SendBody};

use crate::failure::{Failure, Refusal};
use crate::skew;
use floor::Floor;
pub use proxies::Proxies;

/// Read from and written to the network at once, in bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// Connections that nothing was sent over for this long are not used again: servers and the
/// boxes between close them.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// What a refusal says is not longer, in bytes.
const REFUSAL_BYTES_MAX: u64 = 256 << 10;
/// No file of a repository and no listing's page is larger, in bytes.
pub(crate) const ANSWER_BYTES_MAX: u64 = 4 << 30;

/// Whether requests may go unencrypted to other machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PlainHttp {
    /// Only on this machine.
    #[default]
    Loopback,
    /// Wherever the address says so: somebody asked for it by name.
    Anywhere,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// More certificates to trust, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether unencrypted requests may leave this machine.
    pub plain_http: PlainHttp,
    /// What is reached through a proxy.
    pub proxies: Proxies,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long the other side may be silent.
    pub silence_max: Duration,
    /// How many calls go at once.
    pub connections: usize,
    /// Limits of bandwidth.
    pub traffic: Traffic,
    /// Ends calls of a run that is stopped, once set.
    pub cancel: Cancel,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            plain_http: PlainHttp::Loopback,
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(20),
            silence_max: Duration::from_secs(60),
            connections: 8,
            traffic: Traffic::default(),
            cancel: Cancel::default(),
        }
    }
}

/// Why no connection is even tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Unencrypted, and not on this machine.
    #[error("{0} is not encrypted and not on this machine")]
    PlainHttp(String),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Certificates(#[from] UnusableCertificates),
    /// A proxy's address that cannot be used; it is not repeated, as it may hold a password.
    #[error("the proxy's address is not understood")]
    Proxy,
    /// A proxy that speaks another protocol.
    #[error("only http:// and https:// proxies can be used, and the one that is set is another")]
    ProxyKind,
    /// Options that do not fit together or the service.
    #[error("{0}")]
    Options(String),
}

/// A connection to one server, for many threads.
pub(crate) struct Http {
    agent: Agent,
    host: String,
    silence_max: Duration,
    traffic: Traffic,
    cancel: Cancel,
    /// The server's time in its last answer, and when that came.
    told: Mutex<Option<(Timestamp, Instant)>>,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Whole, with its parameters.
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<&'a [u8]>,
    /// No longer answer is read, in bytes.
    pub(crate) answer_bytes_max: u64,
}

impl<'a> Request<'a> {
    pub(crate) const fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) const fn body(mut self, body: &'a [u8]) -> Self {
        self.body = Some(body);
        self
    }

    /// The same request once more.
    pub(crate) fn again(&self) -> Self {
        Self {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.body,
            answer_bytes_max: self.answer_bytes_max,
        }
    }

    /// Reads no longer answer than so many bytes.
    pub(crate) const fn at_most(mut self, bytes: u64) -> Self {
        self.answer_bytes_max = bytes;
        self
    }
}

/// One answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// A refusal in the service's own words, if it has any.
    pub(crate) fn refusal(&self, code: Option<&str>, message: Option<&str>) -> Refusal {
        Refusal {
            retry_after: retry_after(&self.headers),
            ..Refusal::new(self.status, code, message)
        }
    }
}

impl Http {
    /// Connects to nothing yet.
    pub(crate) fn new(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let is_plain = endpoint.transport == Transport::Plain;
        if is_plain && !endpoint.is_loopback() && options.plain_http == PlainHttp::Loopback {
            return Err(ConnectError::PlainHttp(endpoint.to_string()));
        }
        Ok(Self {
            agent: agent(endpoint, options)?,
            host: endpoint.authority(),
            silence_max: options.silence_max,
            traffic: options.traffic.clone(),
            cancel: options.cancel.clone(),
            told: Mutex::new(None),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The moment by the server's clock, once it told one; too early by as much as its answer was
    /// under way, and by the rest of a second.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let (time, came) = (*self.told.lock().unwrap_or_else(PoisonError::into_inner))?;
        time.checked_add(came.elapsed()).ok()
    }

    fn listen(&self, headers: &HeaderMap) {
        if let Some(time) = skew::date(headers) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Some((time, Instant::now()));
        }
    }

    /// Sends a request and reads its whole answer.
    pub(crate) fn call(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut builder = HttpRequest::builder()
            .method(request.method.clone())
            .uri(request.url.as_str());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let malformed = |_| Failure::Malformed {
            host: self.host.clone(),
            what: "an impossible URL or header",
        };
        let answer = match request.body {
            None => {
                let request = builder.body(SendBody::none()).map_err(malformed)?;
                self.agent.run(request)
            }
            Some(bytes) => {
                let floor = Floor::new(self.silence_max);
                let mut body = body::Paced::new(bytes, &self.traffic, &self.cancel, floor);
                let request = builder
                    .header("content-length", bytes.len())
                    .body(SendBody::from_reader(&mut body))
                    .map_err(malformed)?;
                self.agent.run(request)
            }
        };
        let answer = answer.map_err(|error| self.transport(error))?;
        let (parts, body) = answer.into_parts();
        self.listen(&parts.headers);
        let is_head = request.method == Method::HEAD;
        let body = if is_head {
            Vec::new()
        } else {
            let reader = body.into_reader();
            let limit = if parts.status.is_success() {
                request.answer_bytes_max
            } else {
                REFUSAL_BYTES_MAX
            };
            self.read(reader, &parts.headers, limit)?
        };
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }

    fn read(
        &self,
        mut reader: impl io::Read,
        headers: &HeaderMap,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let declared = headers
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut bytes = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut floor = Floor::new(self.silence_max);
        loop {
            if self.cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            let start = Instant::now();
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error, bytes.len() as u64, declared)),
            };
            floor
                .count(read, start.elapsed())
                .map_err(|slow| self.transport(ureq::Error::Io(io::Error::other(slow))))?;
            let passed = self.traffic.down(read, &self.cancel);
            passed.map_err(|_cancelled| Failure::Interrupted)?;
            bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if bytes.len() as u64 > limit {
                return Err(Failure::TooLarge {
                    host: self.host.clone(),
                    limit,
                });
            }
        }
        match declared {
            Some(expected) if expected != bytes.len() as u64 => Err(Failure::Cut {
                host: self.host.clone(),
                got: bytes.len() as u64,
                expected,
            }),
            _ => Ok(bytes),
        }
    }

    fn broken(&self, error: io::Error, got: u64, declared: Option<u64>) -> Failure {
        match declared {
            Some(expected) if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Cut {
                host: self.host.clone(),
                got,
                expected,
            },
            _ => self.transport(ureq::Error::from(error)),
        }
    }

    /// The client's error without what could hold a secret: URLs.
    fn transport(&self, error: ureq::Error) -> Failure {
        use ureq::Error as E;
        let host = self.host.clone();
        if self.cancel.is_cancelled() {
            return Failure::Interrupted;
        }
        match error {
            E::Io(source) if is_distrust(&source) => Failure::Tls { host, source },
            E::Io(source) if source.kind() == io::ErrorKind::TimedOut => Failure::Silent(host),
            E::Io(source) => Failure::Connection { host, source },
            E::Rustls(error) => {
                let source = io::Error::other(error);
                match is_distrust(&source) {
                    true => Failure::Tls { host, source },
                    false => Failure::Connection { host, source },
                }
            }
            E::Timeout(_) => Failure::Silent(host),
            // So the client says that the connection ended in the middle of an answer.
            E::BodyStalled => Failure::Connection {
                host,
                source: io::Error::from(io::ErrorKind::UnexpectedEof),
            },
            E::HostNotFound => Failure::HostUnknown(host),
            E::ConnectionFailed => Failure::Connection {
                host,
                source: io::Error::from(io::ErrorKind::NotConnected),
            },
            // Noise on the line, or a box in between that fails; the next answer may be one.
            E::Protocol(_) | E::LargeResponseHeader(..) => Failure::Garbled {
                host,
                source: Box::new(error),
            },
            other => Failure::Protocol {
                host,
                source: Box::new(other),
            },
        }
    }
}

/// Whether an error of TLS says that one side does not believe the other's certificate, which trying
/// again does not change. All else that can go wrong there may be right the next time: a server that
/// restarts, a box that answers in its place, a broken record.
fn is_distrust(error: &io::Error) -> bool {
    use rustls::AlertDescription as A;
    use rustls::Error as E;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    match tls {
        Some(E::InvalidCertificate(_) | E::NoCertificatesPresented | E::UnsupportedNameType) => {
            true
        }
        Some(E::AlertReceived(alert)) => matches!(
            alert,
            A::NoCertificate
                | A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::CertificateRequired
                | A::CertificateUnobtainable
                | A::BadCertificateStatusResponse
                | A::BadCertificateHashValue
        ),
        _ => false,
    }
}

fn agent(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Agent, ConnectError> {
    let tls = match endpoint.transport {
        Transport::Tls => trust(options.ca_file.as_deref())?,
        Transport::Plain => trust_nobody(),
    };
    let proxy = options.proxies.of_server(endpoint)?;
    let idle = options.connections.max(1);
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .https_only(endpoint.transport == Transport::Tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .user_agent(concat!("refloat/", env!("CARGO_PKG_VERSION")))
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(IDLE_MAX)
        .timeout_connect(Some(options.connect_timeout))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_recv_response(Some(options.silence_max))
        .timeout_per_read(Some(options.silence_max))
        .timeout_per_write(Some(options.silence_max))
        .build();
    Ok(refloat_http::agent(config))
}

/// Percent-encodes all but unreserved characters; slashes stay if they separate parts of a path.
pub(crate) fn encode(text: &str, slash: Slash) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if unreserved || (byte == b'/' && slash == Slash::Kept) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What encoding does to slashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slash {
    Kept,
    Encoded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_or_where_it_is_allowed() {
        let connect = |text: &str, plain_http| {
            let options = ConnectOptions {
                plain_http,
                ..ConnectOptions::default()
            };
            let http = Http::new(&text.parse().unwrap(), &options);
            http.map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(connect("http://127.0.0.1:1", PlainHttp::Loopback), Ok(()));
        assert_eq!(connect("http://10.0.0.1", PlainHttp::Anywhere), Ok(()));
        assert_eq!(
            connect("http://10.0.0.1", PlainHttp::Loopback),
            Err("http://10.0.0.1 is not encrypted and not on this machine".to_owned())
        );
    }

    #[test]
    fn text_is_encoded_as_signatures_want_it() {
        assert_eq!(encode("a/b c~é", Slash::Kept), "a/b%20c~%C3%A9");
        assert_eq!(encode("a/b=", Slash::Encoded), "a%2Fb%3D");
    }
}
