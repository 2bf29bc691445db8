//! Google Cloud Storage.
//!
//! Source: Google's "Cloud Storage JSON API v1".
//!
//! Invariant: what the service says it stored is compared with what was sent.

mod account;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use refloat_storage::location::{Endpoint, RemoteAddress, Transport};
use refloat_storage::{FileKey, FileKind, Listed};
use serde::Deserialize;
use ureq::http::Method;

use crate::Surroundings;
use crate::failure::{Failure, Meaning, Refusal};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, Request, Slash, encode};
use crate::objects::{Objects, Present, below, file_at};
use crate::tokens::{Token, Tokens, bearer};
use account::Account;

/// A page of a listing is not larger, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// A repository in a bucket.
pub(crate) struct Google {
    http: Http,
    endpoint: Endpoint,
    bucket: String,
    prefix: String,
    shown: String,
    /// None for an emulator, which asks nobody who he is.
    account: Option<Account>,
    tokens: Tokens,
    connections: usize,
    around: Surroundings,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// What this is.
    kind: String,
    #[serde(default)]
    items: Vec<Item>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    /// A number as text.
    size: String,
    updated: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    kind: String,
    name: String,
    /// A number as text.
    size: String,
    md5_hash: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    message: Option<String>,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    reason: Option<String>,
}

impl Google {
    pub(crate) fn new(
        address: &RemoteAddress,
        endpoint: Option<Endpoint>,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let emulator = around.text("STORAGE_EMULATOR_HOST");
        let parse = |text: &String| {
            // Google's libraries take a host alone as one without encryption.
            let text = if text.contains("://") {
                text.clone()
            } else {
                format!("http://{text}")
            };
            text.parse()
                .map_err(|what| ConnectError::Options(format!("STORAGE_EMULATOR_HOST is {what}")))
        };
        let emulated: Option<Endpoint> = emulator.as_ref().map(parse).transpose()?;
        let account = match emulated {
            Some(_) => None,
            None => Some(Account::find(connect, around)?),
        };
        let endpoint = endpoint.or(emulated).unwrap_or_else(|| Endpoint {
            transport: Transport::Tls,
            host: "storage.googleapis.com".to_owned(),
            port: None,
        });
        Ok(Self {
            http: Http::new(&endpoint, connect)?,
            endpoint,
            bucket: encode(&address.bucket, Slash::Encoded),
            prefix: address.path.clone(),
            shown: address.to_string(),
            account,
            tokens: Tokens::default(),
            connections: connect.connections,
            around: around.clone(),
        })
    }

    /// The token of the moment; none for an emulator.
    fn token(&self) -> Result<Option<Arc<Token>>, Failure> {
        let now = (self.around.clock)();
        let token = self.account.as_ref();
        let token = token.map(|account| self.tokens.get(now, || account.token()));
        token.transpose()
    }

    fn attempt(&self, request: &Request<'_>, token: Option<&Token>) -> Result<Answer, Failure> {
        let mut request = request.again();
        if let Some(token) = token {
            request = request.header("authorization", bearer(token));
        }
        let answer = self.http.call(&request)?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            refusal: refusal(&answer),
        })
    }

    fn name(&self, key: &FileKey) -> String {
        encode(&below(&self.prefix, &key.path()), Slash::Encoded)
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        }
    }

    fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page, Failure> {
        let token = token.map(|token| format!("&pageToken={}", encode(token, Slash::Encoded)));
        let url = format!(
            "{}/storage/v1/b/{}/o?prefix={}&maxResults=1000{}",
            self.endpoint,
            self.bucket,
            encode(prefix, Slash::Encoded),
            token.unwrap_or_default()
        );
        let mut request = Request::new(Method::GET, url);
        request.answer_bytes_max = DOCUMENT_BYTES_MAX;
        let answer = self.send(request)?;
        // Any object of JSON, an empty one of some box in between as well, would do for a page
        // without items.
        let page: Option<Page> = serde_json::from_slice(&answer.body).ok();
        let page = page.filter(|page| page.kind == "storage#objects");
        page.ok_or_else(|| self.malformed("a listing"))
    }
}

fn refusal(answer: &Answer) -> Refusal {
    let detail = serde_json::from_slice::<Refused>(&answer.body).ok();
    let detail = detail.as_ref().map(|refused| &refused.error);
    let reason = detail.and_then(|detail| detail.errors.first()?.reason.as_deref());
    let message = detail.and_then(|detail| detail.message.as_deref());
    let refusal = answer.refusal(reason, message);
    match (answer.status, reason, message) {
        (404, _, Some(message)) if message.contains("bucket does not exist") => {
            refusal.meaning(Meaning::NoPlace)
        }
        (403, Some("rateLimitExceeded" | "userRateLimitExceeded"), _) => {
            refusal.meaning(Meaning::Busy)
        }
        // Its own words are JSON, or a line of text where a file's content would be.
        _ if detail.is_some() || answer.body.starts_with(b"No such object") => refusal,
        _ => refusal.unvouched(),
    }
}

impl Objects for Google {
    fn location(&self) -> String {
        self.shown.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn now(&self) -> Option<jiff::Timestamp> {
        self.http.now()
    }

    /// Buckets are made by people, with what belongs to them.
    fn create(&self) -> Result<(), Failure> {
        match self.page(&below(&self.prefix, "config"), None) {
            // Emulators say no more of a bucket that is not there.
            Err(Failure::Refused { host, refusal })
                if matches!(refusal.meaning, Meaning::NoFile | Meaning::Unvouched) =>
            {
                let refusal = refusal.meaning(Meaning::NoPlace);
                Err(Failure::Refused { host, refusal })
            }
            other => other.map(|_page| ()),
        }
    }

    fn object(&self, method: Method, key: &FileKey) -> Request<'static> {
        let media = if method == Method::GET {
            "?alt=media"
        } else {
            ""
        };
        let url = format!(
            "{}/storage/v1/b/{}/o/{}{media}",
            self.endpoint,
            self.bucket,
            self.name(key)
        );
        Request::new(method, url)
    }

    fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let token = self.token()?;
        let failure = match self.attempt(&request, token.as_deref()) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        // A token that ended a moment ago is replaced once.
        let is_unknown = failure.meaning() == Some(Meaning::Unauthorized);
        if is_unknown && token.is_some_and(|token| self.tokens.renew(&token)) {
            return self.attempt(&request, self.token()?.as_deref());
        }
        Err(failure)
    }

    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure> {
        let name = below(&self.prefix, &key.path());
        let page = self.page(&name, None)?;
        // A page may hold less than there is, and say so.
        let is_cut = page.next_page_token.is_some();
        Ok(is_cut || page.items.iter().any(|item| item.name == name))
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        // Generation 0 is that of an object that is not there.
        let condition = match present {
            Present::Kept => "&ifGenerationMatch=0",
            Present::Replaced => "",
        };
        let url = format!(
            "{}/upload/storage/v1/b/{}/o?uploadType=media&name={}{condition}",
            self.endpoint,
            self.bucket,
            self.name(key)
        );
        let request = Request::new(Method::POST, url)
            .header("content-type", "application/octet-stream")
            .body(bytes);
        let answer = self.send(request)?;
        let name = below(&self.prefix, &key.path());
        // Any object of JSON, an empty one of some box in between as well, would do otherwise.
        let stored: Option<Stored> = serde_json::from_slice(&answer.body).ok();
        let stored = stored.filter(|stored| stored.kind == "storage#object" && stored.name == name);
        let stored = stored.ok_or_else(|| self.malformed("what was stored"))?;
        let sum = STANDARD.encode(md5::Md5::digest(bytes));
        let has_another_sum = stored.md5_hash.is_some_and(|stored| stored != sum);
        if has_another_sum || stored.size != bytes.len().to_string() {
            // Another name for it could be published; this one must not stay.
            self.remove(key)?;
            return Err(self.malformed("it stored other bytes than were sent"));
        }
        Ok(())
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        if kind == FileKind::Config {
            return Ok(Vec::new());
        }
        let prefix = format!("{}/", below(&self.prefix, kind.folder()));
        let mut listed = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.page(&prefix, token.as_deref())?;
            for item in page.items {
                if let Some(key) = file_at(kind, &self.prefix, &item.name) {
                    listed.push(Listed {
                        key,
                        size: item
                            .size
                            .parse()
                            .map_err(|_| self.malformed("a file without a size"))?,
                        modified: item.updated.map(Into::into),
                    });
                }
            }
            match page.next_page_token {
                None => return Ok(listed),
                Some(next) if token.as_ref() == Some(&next) => {
                    return Err(self.malformed("a listing goes round in a circle"));
                }
                Some(next) => token = Some(next),
            }
        }
    }
}
