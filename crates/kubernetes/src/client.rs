//! One connection to an API server: requests in and JSON out, for synchronous callers.
//!
//! Invariant: every request has a timeout, a bound on its answer and a bound on its repetitions.

mod call;
mod connect;
mod list;
mod pace;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use refloat_model::cancel::Cancel;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::error::ApiError;
pub(crate) use call::Call;
pub use connect::Access;
pub(crate) use list::{List, Page};
use pace::Pace;

/// How long one request may take. Servers end a slow one after 60 s by themselves.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(70);

/// The longest answer; a list that is longer is asked for in smaller pages.
const ANSWER_BYTES_MAX: usize = 48 << 20;

/// How often a request is sent at most, when the server says "later" or the connection breaks.
const ATTEMPTS_MAX: u32 = 5;

/// The longest pause between two attempts, whatever the server wishes.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a waiting call looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The name under which the server records what we write.
pub(crate) const FIELD_MANAGER: &str = "refloat";

/// A connected API server.
///
/// Calls block; they may come from several threads at once.
pub struct Client {
    runtime: Runtime,
    api: Api,
    address: String,
}

/// The asynchronous side of a [`Client`].
#[derive(Clone)]
pub(crate) struct Api {
    kube: kube::Client,
    pace: Arc<Pace>,
}

/// What a server answered.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    /// What it warns of: deprecated versions, pods that Pod Security would refuse.
    pub(crate) warnings: Vec<String>,
}

impl Client {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// The kubeconfig, its context or its certificates cannot be used.
    pub fn connect(access: &Access) -> Result<Self, ApiError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kubernetes")
            .enable_all()
            .build()
            .map_err(ApiError::Runtime)?;
        let config = runtime.block_on(connect::config(access))?;
        let address = config.cluster_url.to_string();
        // The client spawns its buffer on the runtime it is made in.
        let inside = runtime.enter();
        let kube =
            kube::Client::try_from(config).map_err(|error| ApiError::Setup(Box::new(error)))?;
        drop(inside);
        Ok(Self {
            runtime,
            api: Api {
                kube,
                pace: Arc::default(),
            },
            address: address.trim_end_matches('/').to_owned(),
        })
    }

    /// The server's address without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The asynchronous side, for what is then waited for with [`block_on`](Self::block_on).
    pub(crate) const fn api(&self) -> &Api {
        &self.api
    }

    /// Waits for `work`, or for the run to be cancelled.
    pub(crate) fn block_on<'a, T, E, F>(
        &'a self,
        cancel: &Cancel,
        work: impl FnOnce(&'a Api) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + 'a,
        E: From<ApiError>,
    {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = work(&self.api) => done,
                () = cancelled(cancel) => Err(ApiError::Cancelled.into()),
            }
        })
    }
}

async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_POLL).await;
    }
}

impl Api {
    /// Sends a request, again if the server asks for patience, and reads the answer.
    pub(crate) async fn call(&self, call: &Call) -> Result<Value, ApiError> {
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(ApiError::Malformed)
    }

    pub(crate) async fn bytes(&self, call: &Call) -> Result<Vec<u8>, ApiError> {
        self.answer(call).await.map(|answer| answer.bytes)
    }

    /// Sends a request and gives what the server warns of as well.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Answer, ApiError> {
        let mut attempt = 1;
        loop {
            let error = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A busy server says nothing about what was asked for: few attempts are for the dead.
            let most = match error.0.status() {
                Some(429) => ATTEMPTS_MAX,
                _ => call.attempts.unwrap_or(ATTEMPTS_MAX),
            };
            if !error.0.is_retryable() || attempt >= most {
                return Err(error.0);
            }
            let pause = error
                .1
                .unwrap_or_else(|| Duration::from_millis(100 << attempt.min(8)));
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
            attempt += 1;
        }
    }

    /// One attempt in its turn; with the error the pause that the server wishes for.
    async fn once(&self, call: &Call) -> Result<Answer, (ApiError, Option<Duration>)> {
        let place = self.pace.place().await;
        let answer = self.send(call).await;
        match &answer {
            Err((error, _)) if error.asks_for_patience() => self.pace.slow_down(place),
            Err(_) => {}
            Ok(_) => self.pace.good_answer(),
        }
        answer
    }

    async fn send(&self, call: &Call) -> Result<Answer, (ApiError, Option<Duration>)> {
        let request = call.request().map_err(|error| (error, None))?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let answer = self
                .kube
                .send(request)
                .await
                .map_err(|error| (ApiError::Connection(Box::new(error)), None))?;
            let (head, body) = answer.into_parts();
            let bytes = read(body).await.map_err(|error| (error, None))?;
            if head.status.is_success() {
                let warnings = warnings(&head.headers);
                return Ok(Answer { bytes, warnings });
            }
            Err((refusal(head.status, &bytes), retry_after(&head.headers)))
        });
        answer
            .await
            .unwrap_or(Err((ApiError::Timeout(REQUEST_TIMEOUT), None)))
    }
}

async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(ANSWER_BYTES_MAX)),
        Err(error) => Err(ApiError::Body(error)),
    }
}

/// The texts in headers like `299 - "policy/v1beta1 PodDisruptionBudget is deprecated"`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(http::header::WARNING).iter();
    all.filter_map(|value| {
        let text = value.to_str().ok()?;
        let (_, quoted) = text.split_once('"')?;
        let text = quoted.strip_suffix('"').unwrap_or(quoted);
        Some(
            text.replace("\\\"", "\"")
                .chars()
                .take(MESSAGE_CHARS_MAX)
                .collect(),
        )
    })
    .collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The longest message kept of a server's refusal.
const MESSAGE_CHARS_MAX: usize = 2_000;

fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    // A proxy in between answers with a page instead of a Status: then there is its text only.
    let document: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let field = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let message = match field("/message") {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    ApiError::Refused {
        status: status.as_u16(),
        reason: field("/reason").unwrap_or_default().to_owned(),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        continuation: field("/metadata/continue").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_servers_words_or_the_proxys() {
        let status = br#"{"kind":"Status","metadata":{"continue":"abc"},"message":"too old",
                          "reason":"Expired","code":410}"#;
        assert_eq!(
            refusal(StatusCode::GONE, status).to_string(),
            "the API server answers 410 Expired: too old"
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, b"<html>nope</html>\n").to_string(),
            "the API server answers 502 : <html>nope</html>"
        );
    }
}
