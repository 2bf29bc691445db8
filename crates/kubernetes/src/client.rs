//! One connection to an API server: requests in and JSON out, for synchronous callers.
//!
//! Invariant: every request has a timeout, a bound on its answer and a bound on its repetitions.

mod call;
mod connect;
mod line;
mod list;
mod pace;
mod slim;

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
use line::Line;
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
    line: Arc<Line>,
    pace: Arc<Pace>,
}

/// What a server answered.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    /// What it warns of: deprecated versions, pods that Pod Security would refuse.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn document(&self) -> Result<Value, ApiError> {
        serde_json::from_slice(&self.bytes).map_err(ApiError::Malformed)
    }
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
        let (line, address) = runtime.block_on(Line::connect(access.clone()))?;
        Ok(Self {
            runtime,
            api: Api {
                line: Arc::new(line),
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

    /// The answer to one GET, as `kubectl get --raw` gives it: to measure and to diagnose.
    ///
    /// # Errors
    /// The server refuses, or there is none.
    pub fn raw(&self, path: &str, cancel: &Cancel) -> Result<Vec<u8>, ApiError> {
        let call = Call::get(path);
        self.block_on(cancel, |api| async move { api.bytes(&call).await })
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
        self.answer(call).await?.document()
    }

    pub(crate) async fn bytes(&self, call: &Call) -> Result<Vec<u8>, ApiError> {
        self.answer(call).await.map(|answer| answer.bytes)
    }

    /// Sends a request and gives what the server warns of as well.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Answer, ApiError> {
        let mut attempt = 1;
        let mut is_renewed = false;
        loop {
            let generation = self.line.generation().await;
            let error = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Credentials that ran out in the middle: whoever gave them is asked once more.
            if error.0.status() == Some(401) && !is_renewed {
                is_renewed = true;
                if self.line.renew(generation).await? {
                    continue;
                }
            }
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
            let kube = self.line.client().await;
            let answer = kube.send(request).await;
            let answer = answer.map_err(|error| (self.line.failure(error), None))?;
            let (head, body) = answer.into_parts();
            let bytes = read(body, call.answer_bytes_max()).await;
            let bytes = bytes.map_err(|error| (error, None))?;
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

async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(bytes_max)),
        Err(error) => Err(ApiError::Body(error)),
    }
}

/// The texts in headers like `299 - "policy/v1beta1 PodDisruptionBudget is deprecated"`.
pub(crate) fn warnings(headers: &HeaderMap) -> Vec<String> {
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

pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
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
