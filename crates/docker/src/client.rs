//! The conversation with an engine: JSON, streams and commands.
//!
//! JSON travels as it is. bollard's models would drop the keys they do not know (and refuse words
//! they do not know, of which Podman has some), and what is dropped cannot be restored; so bollard
//! connects, encrypts and frames, and [`Client`] reads and writes [`Value`]s.
//!
//! Invariant: every call ends: with an answer, an error, or after its timeout.

mod body;
mod connect;
mod exec;
mod ssh;

use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use bollard::Docker;
use futures_util::{Stream, StreamExt};
use refloat_model::cancel::Cancel;
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::error::EngineError;
use connect::{io_kind, open};
use ssh::SshBridge;

pub(crate) use body::BodyReader;
pub use connect::{Certificates, ConnectOptions, PlainTcp};
pub(crate) use exec::{Command, Finished};

/// Threads of the runtime: requests wait for the engine, not for the processor.
const RUNTIME_THREADS: usize = 2;
/// The largest JSON answer that is read, in bytes.
const JSON_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long the first byte of an export may take: engines prepare the whole of it on disk first.
pub(crate) const EXPORT_TIMEOUT: Duration = Duration::from_secs(3600);
/// bollard's request whose method, target and body are replaced by ours: it is the one that
/// hands back a body as it comes.
const CARRIER: &str = "/images/_/get";

/// One engine, spoken to from any thread.
pub(crate) struct Client {
    // Before the runtime and the bridge: connections end first.
    docker: Docker,
    runtime: Runtime,
    bridge: Option<SshBridge>,
    address: Address,
    timeout: Duration,
}

/// What goes along with a request.
enum Payload {
    Nothing,
    Json(Vec<u8>),
    Stream(mpsc::Receiver<std::io::Result<Vec<u8>>>),
}

impl Client {
    /// Prepares a connection and asks the engine whether it is one.
    pub(crate) fn connect(
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Self, EngineError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("refloat-docker")
            .enable_all()
            .build()
            .map_err(|source| EngineError::Local {
                operation: "start threads for the engine's client",
                source,
            })?;
        // Here and not only at callers: certificates must never come to nothing.
        let address = &options.address(address);
        let bridge = match address {
            Address::Ssh { .. } => Some(SshBridge::open(&options.ssh_program, address)?),
            _ => None,
        };
        let docker = open(address, options, bridge.as_ref())?;
        let client = Self {
            docker,
            runtime,
            bridge,
            address: address.clone(),
            timeout: options.timeout,
        };
        client.probe()?;
        Ok(client)
    }

    fn probe(&self) -> Result<(), EngineError> {
        match self.get("/version") {
            Ok(version) if version.get("ApiVersion").is_some() => Ok(()),
            Ok(_) | Err(EngineError::Malformed(_) | EngineError::Refused { .. }) => {
                Err(EngineError::NotAnEngine(self.address.clone()))
            }
            Err(EngineError::Connection(error)) => Err(self.unreachable(error)),
            Err(other) => Err(other),
        }
    }

    fn unreachable(&self, error: Box<bollard::errors::Error>) -> EngineError {
        if let (Address::Unix(path), Some(std::io::ErrorKind::PermissionDenied)) =
            (&self.address, io_kind(error.as_ref()))
        {
            return EngineError::SocketForbidden(path.clone());
        }
        let complaint = self.bridge.as_ref().map(SshBridge::complaint);
        let source = match complaint.filter(|text| !text.is_empty()) {
            Some(text) => std::io::Error::other(text),
            None => std::io::Error::other(error),
        };
        EngineError::Unreachable {
            address: self.address.clone(),
            source,
        }
    }

    /// Where the engine is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for JSON. `target` is path and query, encoded.
    pub(crate) fn get(&self, target: &str) -> Result<Value, EngineError> {
        self.call("GET", target, Payload::Nothing, self.timeout)
    }

    /// Commands with a JSON body; `Value::Null` where the engine answers nothing.
    pub(crate) fn post(&self, target: &str, body: Option<&Value>) -> Result<Value, EngineError> {
        self.post_within(target, body, self.timeout)
    }

    /// Like [`post`](Self::post) for calls that may take longer.
    pub(crate) fn post_within(
        &self,
        target: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Value, EngineError> {
        let payload = match body {
            Some(body) => Payload::Json(serde_json::to_vec(body).map_err(EngineError::Malformed)?),
            None => Payload::Nothing,
        };
        self.call("POST", target, payload, timeout)
    }

    /// Removes an object.
    pub(crate) fn delete(&self, target: &str) -> Result<Value, EngineError> {
        self.call("DELETE", target, Payload::Nothing, self.timeout)
    }

    /// Sends a tar stream (`PUT …/archive`, `POST /images/load`) and gives the engine's answer,
    /// which is text for some calls.
    pub(crate) fn upload(
        &self,
        method: &'static str,
        target: &str,
        content: Box<dyn Read + Send>,
    ) -> Result<String, EngineError> {
        let receiver = body::pump(self.handle(), content);
        let answer = self.exchange(method, target, Payload::Stream(receiver), EXPORT_TIMEOUT);
        let bytes = self.runtime.block_on(collect(answer, EXPORT_TIMEOUT))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a stream of bytes (`GET …/archive`, `GET /images/get`). A stream that breaks ends in
    /// an error, never in a silent end.
    pub(crate) fn download(
        &self,
        target: &str,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<BodyReader, EngineError> {
        let mut answer = self.exchange("GET", target, Payload::Nothing, timeout);
        let (sender, reader) = body::channel(self.handle().clone(), cancel);
        // The first chunk is awaited here, so that a refusal is an error of this call.
        let first = self.runtime.block_on(async {
            tokio::select! {
                first = next(&mut answer, timeout) => first,
                () = body::cancelled(cancel) => Err(EngineError::Interrupted),
            }
        })?;
        self.runtime.spawn(async move {
            let mut chunk = first;
            loop {
                let (send, last) = match chunk {
                    Some(bytes) => (Ok(bytes), false),
                    None => (Ok(Vec::new()), true),
                };
                // A receiver that is gone wants no more: dropping the answer closes it.
                if sender.send(send).await.is_err() || last {
                    return;
                }
                chunk = match next(&mut answer, timeout).await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        drop(sender.send(Err(error)).await);
                        return;
                    }
                };
            }
        });
        Ok(reader)
    }

    fn call(
        &self,
        method: &'static str,
        target: &str,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Value, EngineError> {
        let answer = self.exchange(method, target, payload, timeout);
        let bytes = self.runtime.block_on(collect(answer, timeout))?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(EngineError::Malformed)
    }

    /// One request. Nothing is sent before the stream is polled.
    fn exchange(
        &self,
        method: &'static str,
        target: &str,
        payload: Payload,
        timeout: Duration,
    ) -> impl Stream<Item = Result<Vec<u8>, EngineError>> + Send + Unpin + use<> {
        let target = target.to_owned();
        let (body, kind) = match payload {
            Payload::Nothing => (bollard::body_full(Vec::new().into()), "application/json"),
            Payload::Json(json) => (bollard::body_full(json.into()), "application/json"),
            Payload::Stream(receiver) => {
                let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
                    let item = receiver.recv().await?;
                    Some((item.map(Into::into), receiver))
                });
                (bollard::body_try_stream(stream), "application/x-tar")
            }
        };
        let body = Mutex::new(Some(body));
        let docker = self
            .docker
            .clone()
            .with_timeout(timeout)
            .with_request_modifier(move |mut request| {
                let carrier = request.uri().to_string();
                let uri = carrier
                    .strip_suffix(CARRIER)
                    .and_then(|base| format!("{base}{target}").parse().ok());
                let taken = body.lock().ok().and_then(|mut body| body.take());
                // If one of these failed, the carrier's own request goes out: it asks for an
                // image called `_`, which changes nothing and is answered with 404.
                if let (Some(uri), Ok(method), Some(body), Ok(kind)) =
                    (uri, method.parse(), taken, kind.parse())
                {
                    *request.uri_mut() = uri;
                    *request.method_mut() = method;
                    *request.body_mut() = body;
                    request.headers_mut().insert("content-type", kind);
                }
                request
            });
        Box::pin(answer(&docker, timeout))
    }

    fn handle(&self) -> &Handle {
        self.runtime.handle()
    }
}

/// The carrier's answer as chunks; owns the client it came through.
fn answer(
    docker: &Docker,
    timeout: Duration,
) -> impl Stream<Item = Result<Vec<u8>, EngineError>> + Send + use<> {
    docker.export_image("_").map(move |chunk| match chunk {
        Ok(bytes) => Ok(Vec::from(bytes)),
        Err(bollard::errors::Error::RequestTimeoutError) => Err(EngineError::Timeout(timeout)),
        Err(error) => Err(error.into()),
    })
}

async fn next(
    answer: &mut (impl Stream<Item = Result<Vec<u8>, EngineError>> + Unpin),
    timeout: Duration,
) -> Result<Option<Vec<u8>>, EngineError> {
    loop {
        match tokio::time::timeout(timeout, answer.next()).await {
            Err(_) => return Err(EngineError::Timeout(timeout)),
            // Empty chunks mean the end to readers.
            Ok(Some(Ok(chunk))) if chunk.is_empty() => {}
            Ok(chunk) => return chunk.transpose(),
        }
    }
}

async fn collect(
    mut answer: impl Stream<Item = Result<Vec<u8>, EngineError>> + Unpin,
    timeout: Duration,
) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next(&mut answer, timeout).await? {
        if bytes.len() + chunk.len() > JSON_BYTES_MAX {
            return Err(EngineError::Incomplete("end within 256 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// One path segment or query value, percent-encoded.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
