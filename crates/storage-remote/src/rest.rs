//! restic's REST server, and `rclone serve restic`.
//!
//! Source: restic's `doc/REST_backend.rst`, version 2 of the listing.
//!
//! Invariant: the protocol has no conditional write, so a file that is there is looked for before
//! one is written. A folder counts as empty only beside a config.

use refloat_storage::location::RemoteAddress;
use refloat_storage::{FileKey, FileKind, Listed};
use serde::Deserialize;
use ureq::http::Method;

use crate::basic::Login;
use crate::failure::{Failure, Meaning, Refusal};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, Request, Slash, encode};
use crate::objects::{Objects, Present, file_of};

/// The listing with sizes.
const VERSION_2: &str = "application/vnd.x.restic.rest.v2";

/// A repository on such a server.
pub(crate) struct Rest {
    http: Http,
    /// Ends in a slash.
    base: String,
    shown: String,
    login: Option<Login>,
    connections: usize,
}

/// An entry of a listing.
#[derive(Deserialize)]
struct Entry {
    name: String,
    size: u64,
}

impl Rest {
    pub(crate) fn new(
        address: &RemoteAddress,
        login: Option<Login>,
        connect: &ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let endpoint = crate::endpoint_of(address)?;
        let path = encode(&address.path, Slash::Kept);
        let base = if path.is_empty() {
            format!("{endpoint}/")
        } else {
            format!("{endpoint}/{path}/")
        };
        Ok(Self {
            http: Http::new(endpoint, connect)?,
            base,
            shown: address.to_string(),
            login,
            connections: connect.connections,
        })
    }

    fn is_there(&self, key: &FileKey) -> Result<bool, Failure> {
        match self.send(self.object(Method::HEAD, key)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

impl Rest {
    /// A folder; none for one that a copying tool left out because it was empty.
    fn listing(&self, kind: FileKind) -> Result<Option<Answer>, Failure> {
        let url = format!("{}{}/", self.base, kind.folder());
        let request = Request::new(Method::GET, url).header("accept", VERSION_2);
        let answer = self.call(request)?;
        if answer.status != 404 {
            return self.success(answer).map(Some);
        }
        // rclone shows folders that are not there as empty, and says this of failures of its own.
        let is_rclone = answer
            .header("server")
            .is_some_and(|server| server.starts_with("rclone/"));
        if is_rclone {
            return Err(Failure::Refused {
                host: self.http.host().to_owned(),
                refusal: Refusal::new(answer.status, None, None).meaning(Meaning::Busy),
            });
        }
        if self.is_there(&FileKey::CONFIG)? {
            return Ok(None);
        }
        Err(Failure::NoRepository {
            host: self.http.host().to_owned(),
        })
    }

    fn call(&self, mut request: Request<'_>) -> Result<Answer, Failure> {
        if let Some(login) = &self.login {
            request = request.header("authorization", login.header());
        }
        self.http.call(&request)
    }

    fn success(&self, answer: Answer) -> Result<Answer, Failure> {
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            refusal: Refusal::new(answer.status, None, None),
        })
    }
}

impl Objects for Rest {
    fn location(&self) -> String {
        self.shown.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn create(&self) -> Result<(), Failure> {
        let url = format!("{}?create=true", self.base);
        self.send(Request::new(Method::POST, url).body(&[]))
            .map(|_answer| ())
    }

    /// The server sorts packs into folders itself.
    fn object(&self, method: Method, key: &FileKey) -> Request<'static> {
        let path = match key.kind() {
            FileKind::Config => "config".to_owned(),
            kind => format!("{}/{}", kind.folder(), key.name()),
        };
        Request::new(method, format!("{}{path}", self.base))
    }

    fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        self.success(self.call(request)?)
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        if present == Present::Kept && self.is_there(key)? {
            return Err(Failure::Exists);
        }
        let write = || {
            let request = self.object(Method::POST, key).body(bytes);
            self.send(request.header("content-type", "application/octet-stream"))
        };
        match write() {
            Ok(_) => Ok(()),
            // The server replaces nothing by itself.
            Err(failure)
                if present == Present::Replaced && failure.meaning() == Some(Meaning::Denied) =>
            {
                self.remove(key)?;
                write().map(|_answer| ())
            }
            Err(failure) => Err(failure),
        }
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        if kind == FileKind::Config {
            return Ok(Vec::new());
        }
        let Some(answer) = self.listing(kind)? else {
            return Ok(Vec::new());
        };
        let malformed = |what| Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        };
        let entries: Option<Vec<Entry>> =
            serde_json::from_slice(&answer.body).map_err(|_| malformed("a listing"))?;
        let listed = entries.unwrap_or_default().into_iter().filter_map(|entry| {
            Some(Listed {
                key: file_of(kind, &entry.name)?,
                size: entry.size,
                modified: None,
            })
        });
        Ok(listed.collect())
    }
}
