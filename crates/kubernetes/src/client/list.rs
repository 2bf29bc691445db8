//! Lists in pages. While one is being worked on, the next is on its way.
//!
//! Invariant: no object is given out twice, and a list that ended early ends with an error.
//! Invariant: at most two pages are in memory, and a page is a few MiB long if its objects are.

use serde_json::Value;
use tokio::task::JoinHandle;

use super::slim::slim;
use super::{Api, Call};
use crate::error::ApiError;
use crate::kind::Kind;

/// How many objects are asked for at once; what kubectl uses.
const LIST_LIMIT: u32 = 500;

/// The length that pages of long objects get: what is parsed takes several times that.
const PAGE_BYTES_AIM: usize = 2 << 20;

/// The longest page; beyond, it is asked for again with fewer objects.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Objects without their content, as all servers since 1.15 can give them.
const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A list being read.
pub(crate) struct List<'a> {
    api: &'a Api,
    kind: &'a Kind,
    namespace: Option<&'a str>,
    labels: Option<&'a str>,
    metadata_only: bool,
    parse: Parse,
    limit: u32,
    state: State,
    /// The next page, already asked for.
    ahead: Option<Ahead>,
    /// Whether the server could not keep the list's version: pages are of different times.
    pub(crate) is_torn: bool,
    /// The version that the first page was of.
    pub(crate) resource_version: String,
}

enum State {
    Next(Option<String>),
    End,
}

/// A page that is on its way; given up when nobody wants it any more.
struct Ahead(JoinHandle<Result<Answer, ApiError>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One answer and its length in bytes.
type Answer = (Value, usize);

/// How an answer is read.
type Parse = fn(&[u8]) -> serde_json::Result<Value>;

fn whole(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes)
}

async fn ask(api: Api, call: Call, parse: Parse) -> Result<Answer, ApiError> {
    let bytes = api.bytes(&call).await?;
    let value = parse(&bytes).map_err(ApiError::Malformed)?;
    Ok((value, bytes.len()))
}

/// Some objects of a list.
pub(crate) struct Page {
    /// The objects, with `apiVersion` and `kind`.
    pub(crate) objects: Vec<Value>,
    /// How many follow, where the server tells.
    pub(crate) remaining: Option<u64>,
}

impl<'a> List<'a> {
    pub(crate) fn new(api: &'a Api, kind: &'a Kind, namespace: Option<&'a str>) -> Self {
        Self {
            api,
            kind,
            namespace,
            labels: None,
            metadata_only: false,
            parse: whole,
            limit: LIST_LIMIT,
            state: State::Next(None),
            ahead: None,
            is_torn: false,
            resource_version: String::new(),
        }
    }

    pub(crate) const fn labels(mut self, selector: Option<&'a str>) -> Self {
        self.labels = selector;
        self
    }

    /// Asks for names, labels, annotations and owners only. Servers may answer with all.
    pub(crate) const fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self.parse = slim;
        self
    }

    /// The next page; none after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, ApiError> {
        loop {
            let State::Next(continuation) = &self.state else {
                return Ok(None);
            };
            let continuation = continuation.clone();
            let answer = match self.ahead.take() {
                Some(mut ahead) => (&mut ahead.0).await.map_err(ApiError::Lost)?,
                None => {
                    let call = self.call(continuation.as_deref());
                    ask(self.api.clone(), call, self.parse).await
                }
            };
            match answer {
                Ok((answer, bytes)) => {
                    let page = self.page(answer)?;
                    self.fit(page.objects.len(), bytes);
                    self.ask_ahead();
                    return Ok(Some(page));
                }
                // Smaller pages, down to single objects.
                Err(ApiError::TooLarge(_)) if self.limit > 1 => self.limit /= 8,
                // The version is gone from the server's history; what is left can still be read
                // as it is now.
                Err(ApiError::Refused {
                    status: 410,
                    continuation: Some(next),
                    ..
                }) if !next.is_empty() && continuation.as_ref() != Some(&next) => {
                    self.is_torn = true;
                    self.state = State::Next(Some(next));
                }
                Err(error) => return Err(error),
            }
            self.limit = self.limit.max(1);
        }
    }

    /// All objects at once, for what is known to be small or is needed as a whole.
    pub(crate) async fn all(mut self) -> Result<Vec<Value>, ApiError> {
        let mut objects = Vec::new();
        while let Some(page) = self.next().await? {
            objects.extend(page.objects);
        }
        Ok(objects)
    }

    /// Asks for as many objects as make a page of the usual length.
    fn fit(&mut self, objects: usize, bytes: usize) {
        let object_bytes = bytes.div_ceil(objects.max(1)).max(1);
        let fitting = u32::try_from(PAGE_BYTES_AIM / object_bytes).unwrap_or(LIST_LIMIT);
        self.limit = fitting.clamp(1, LIST_LIMIT);
    }

    fn ask_ahead(&mut self) {
        if let State::Next(continuation) = &self.state {
            let call = self.call(continuation.as_deref());
            self.ahead = Some(Ahead(tokio::spawn(ask(self.api.clone(), call, self.parse))));
        }
    }

    fn call(&self, continuation: Option<&str>) -> Call {
        let mut call =
            Call::get(self.kind.list_path(self.namespace)).query("limit", self.limit.to_string());
        if self.limit > 1 {
            call = call.at_most(PAGE_BYTES_MAX);
        }
        if let Some(token) = continuation {
            call = call.query("continue", token);
        }
        if let Some(labels) = self.labels {
            call = call.query("labelSelector", labels);
        }
        if self.metadata_only {
            call = call.accept(METADATA_ONLY);
        }
        call
    }

    fn page(&mut self, answer: Value) -> Result<Page, ApiError> {
        let (page, token, version) = Page::read(self.kind, answer)?;
        if self.resource_version.is_empty() {
            self.resource_version = version;
        }
        self.state = if token.is_empty() {
            State::End
        } else {
            State::Next(Some(token))
        };
        Ok(page)
    }
}

impl Page {
    /// The page in an answer, where the list goes on (empty at its end), and its version.
    pub(crate) fn read(kind: &Kind, mut answer: Value) -> Result<(Self, String, String), ApiError> {
        let metadata = answer.get("metadata");
        let field = |name| metadata.and_then(|m| m.get(name));
        let text = |name| field(name).and_then(Value::as_str).unwrap_or_default();
        let (token, version) = (
            text("continue").to_owned(),
            text("resourceVersion").to_owned(),
        );
        let remaining = field("remainingItemCount").and_then(Value::as_u64);
        let mut objects = match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(objects)) => objects,
            Some(Value::Null) => Vec::new(),
            _ => return Err(ApiError::Incomplete("items")),
        };
        for object in &mut objects {
            let Some(fields) = object.as_object_mut() else {
                return Err(ApiError::Incomplete("objects in items"));
            };
            fields.insert("apiVersion".into(), kind.api_version().into());
            fields.insert("kind".into(), kind.kind.clone().into());
        }
        Ok((Self { objects, remaining }, token, version))
    }
}
