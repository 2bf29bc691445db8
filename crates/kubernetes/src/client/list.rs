//! Lists in pages.
//!
//! Invariant: no object is given out twice, and a list that ended early ends with an error.

use serde_json::Value;

use super::{Api, Call};
use crate::error::ApiError;
use crate::kind::Kind;

/// How many objects are asked for at once; what kubectl uses.
const LIST_LIMIT: u32 = 500;

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
    limit: u32,
    state: State,
    /// Whether the server could not keep the list's version: pages are of different times.
    pub(crate) is_torn: bool,
    /// The version that the first page was of.
    pub(crate) resource_version: String,
}

enum State {
    Next(Option<String>),
    End,
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
            limit: LIST_LIMIT,
            state: State::Next(None),
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
        self
    }

    /// The next page; none after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, ApiError> {
        loop {
            let State::Next(continuation) = &self.state else {
                return Ok(None);
            };
            let continuation = continuation.clone();
            match self.api.call(&self.call(continuation.as_deref())).await {
                Ok(answer) => return self.page(answer).map(Some),
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

    fn call(&self, continuation: Option<&str>) -> Call {
        let mut call =
            Call::get(self.kind.list_path(self.namespace)).query("limit", self.limit.to_string());
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

    fn page(&mut self, mut answer: Value) -> Result<Page, ApiError> {
        let metadata = answer.get("metadata");
        let field = |name| metadata.and_then(|m| m.get(name));
        let token = field("continue")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let remaining = field("remainingItemCount").and_then(Value::as_u64);
        if self.resource_version.is_empty() {
            let version = field("resourceVersion").and_then(Value::as_str);
            version
                .unwrap_or_default()
                .clone_into(&mut self.resource_version);
        }
        self.state = if token.is_empty() {
            State::End
        } else {
            State::Next(Some(token.to_owned()))
        };
        let mut objects = match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(objects)) => objects,
            Some(Value::Null) => Vec::new(),
            _ => return Err(ApiError::Incomplete("items")),
        };
        for object in &mut objects {
            let Some(fields) = object.as_object_mut() else {
                return Err(ApiError::Incomplete("objects in items"));
            };
            fields.insert("apiVersion".into(), self.kind.api_version().into());
            fields.insert("kind".into(), self.kind.kind.clone().into());
        }
        Ok(Page { objects, remaining })
    }
}
