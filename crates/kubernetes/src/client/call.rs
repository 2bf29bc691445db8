//! Requests as values.
//!
//! Invariant: what is written is written under our field manager.

use http::{Method, Request};
use kube::client::Body;
use serde_json::Value;

use super::{ANSWER_BYTES_MAX, FIELD_MANAGER};
use crate::error::ApiError;
use crate::kind::encode;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// One request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Vec<u8>,
    content_type: &'static str,
    accept: &'static str,
    /// How often it is sent at most; none for the usual number.
    pub(crate) attempts: Option<u32>,
    /// The longest answer that is taken.
    answer_bytes_max: usize,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), Vec::new(), JSON)
    }

    /// Creates `object` in the list at `path`.
    pub(crate) fn create(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path.into(), bytes(object), JSON).managed()
    }

    /// A request that is answered and not stored: an access review.
    pub(crate) fn review(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path.into(), bytes(object), JSON)
    }

    /// Replaces the object at `path`; with a `resourceVersion` only if nobody changed it since.
    pub(crate) fn replace(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PUT, path.into(), bytes(object), JSON).managed()
    }

    pub(crate) fn merge_patch(path: impl Into<String>, patch: &Value) -> Self {
        Self::new(Method::PATCH, path.into(), bytes(patch), MERGE_PATCH).managed()
    }

    /// Deletes the object at `path` and waits for what it owns.
    pub(crate) fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self::new(Method::DELETE, path.into(), bytes(options), JSON)
    }

    fn new(method: Method, path: String, body: Vec<u8>, content_type: &'static str) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body,
            content_type,
            accept: JSON,
            attempts: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    fn managed(self) -> Self {
        self.query("fieldManager", FIELD_MANAGER)
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// Everything is checked as if it were done, and nothing is done.
    pub(crate) fn dry_run(self) -> Self {
        self.query("dryRun", "All")
    }

    pub(crate) const fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    pub(crate) const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    pub(super) const fn at_most(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    pub(super) const fn answer_bytes_max(&self) -> usize {
        self.answer_bytes_max
    }

    pub(super) fn request(&self) -> Result<Request<Body>, ApiError> {
        Request::builder()
            .method(self.method.clone())
            .uri(self.uri())
            .header(http::header::ACCEPT, self.accept)
            .header(http::header::CONTENT_TYPE, self.content_type)
            .body(Body::from(self.body.clone()))
            .map_err(ApiError::Request)
    }

    fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (index, (key, value)) in self.query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(key);
            uri.push('=');
            uri.push_str(&encode(value, b"-._~"));
        }
        uri
    }
}

fn bytes(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded_and_writes_are_signed() {
        let call = Call::merge_patch("/api/v1/namespaces/a", &Value::Null).dry_run();
        assert_eq!(
            call.uri(),
            "/api/v1/namespaces/a?fieldManager=refloat&dryRun=All"
        );
        let call = Call::get("/api/v1/pods").query("labelSelector", "a in (b,c)");
        assert_eq!(
            call.uri(),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29"
        );
    }
}
