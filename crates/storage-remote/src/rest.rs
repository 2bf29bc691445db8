//! restic's REST server, and `rclone serve restic`.
//!
//! Source: restic's `doc/REST_backend.rst`, version 2 of the listing.
//!
//! Invariant: the protocol has no conditional write, so a file that is there is looked for before
//! one is written. A folder counts as empty only beside a config. What rclone does not find is
//! looked for in a listing: it says the same when the cloud behind it fails. A write is believed
//! when the file is there with its length; of packs that is compared before a point is published.

use refloat_storage::location::RemoteAddress;
use refloat_storage::{FileKey, FileKind, Listed};
use serde::Deserialize;
use ureq::http::Method;

use crate::basic::Login;
use crate::failure::{Failure, Meaning};
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

    /// Whether a file must not be written. Content that seems not to be there and is, is written
    /// once more, the same; another config instead of the one that was not seen is a lost
    /// repository.
    fn is_taken(&self, key: &FileKey) -> Result<bool, Failure> {
        if key.kind() == FileKind::Config {
            return self.is_there(key);
        }
        match self.send(self.object(Method::HEAD, key)) {
            Err(failure) if failure.meaning() == Some(Meaning::Unvouched) => Ok(false),
            looked => there(looked),
        }
    }

    fn is_there(&self, key: &FileKey) -> Result<bool, Failure> {
        there(self.ask(key, self.object(Method::HEAD, key)))
    }
}

fn there(looked: Result<Answer, Failure>) -> Result<bool, Failure> {
    match looked {
        Ok(_) => Ok(true),
        Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Ok(false),
        Err(failure) => Err(failure),
    }
}

impl Rest {
    /// A folder; none for one that a copying tool left out because it was empty.
    fn listing(&self, kind: FileKind) -> Result<Option<Answer>, Failure> {
        let answer = self.folder(&format!("{}/", kind.folder()))?;
        if answer.status != 404 {
            return self.success(answer).map(Some);
        }
        // rclone shows folders that are not there as empty, and says this of failures of its own.
        if is_rclone(&answer) {
            return Err(Failure::Refused {
                host: self.http.host().to_owned(),
                refusal: answer.refusal(None, None).meaning(Meaning::Busy),
            });
        }
        if self.is_there(&FileKey::CONFIG)? {
            return Ok(None);
        }
        Err(Failure::NoRepository {
            host: self.http.host().to_owned(),
        })
    }

    fn folder(&self, path: &str) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.base);
        self.call(Request::new(Method::GET, url).header("accept", VERSION_2))
    }

    fn entries(&self, answer: &Answer) -> Result<Vec<Entry>, Failure> {
        let entries: Option<Vec<Entry>> =
            serde_json::from_slice(&answer.body).map_err(|_| self.malformed("a listing"))?;
        Ok(entries.unwrap_or_default())
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), Failure> {
        let request = self.object(Method::POST, key).body(bytes);
        let answer = self.send(request.header("content-type", "application/octet-stream"))?;
        // A success of some box in between stores nothing.
        if !matches!(answer.status, 200 | 201 | 204) {
            return Err(self.malformed("a write of which it is not said that it was done"));
        }
        if key.kind() == FileKind::Pack {
            return Ok(());
        }
        let head = self.send(self.object(Method::HEAD, key));
        let length = match &head {
            Ok(head) => head.header("content-length"),
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Some("none"),
            Err(_) => return head.map(drop),
        };
        let is_whole = match length {
            Some(length) => length == bytes.len().to_string(),
            // Boxes that compress leave it out.
            None => self.send(self.object(Method::GET, key))?.body == bytes,
        };
        if is_whole {
            Ok(())
        } else {
            Err(self.malformed("a write after which the file is not there as it was sent"))
        }
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        }
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
        let refusal = answer.refusal(None, None);
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            refusal: if is_rclone(&answer) {
                refusal.unvouched()
            } else {
                refusal
            },
        })
    }
}

fn is_rclone(answer: &Answer) -> bool {
    answer
        .header("server")
        .is_some_and(|server| server.starts_with("rclone/"))
}

impl Objects for Rest {
    fn location(&self) -> String {
        self.shown.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn now(&self) -> Option<jiff::Timestamp> {
        self.http.now()
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

    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure> {
        let kind = key.kind();
        if kind != FileKind::Config {
            return Ok(self.list(kind)?.iter().any(|listed| listed.key == *key));
        }
        // No folder of a kind holds it, and rclone's listing of the whole has names without folders: those of repositories
        // below, too. A repository of its own has keys.
        let Ok(keys) = self.success(self.folder(&format!("{}/", FileKind::Key.folder()))?) else {
            return Ok(false);
        };
        if self.entries(&keys)?.is_empty() {
            return Ok(false);
        }
        let whole = self.success(self.folder("")?)?;
        let name = key.name();
        Ok(self.entries(&whole)?.iter().any(|entry| entry.name == name))
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        if present == Present::Kept && self.is_taken(key)? {
            return Err(Failure::Exists);
        }
        match self.write(key, bytes) {
            // The server replaces nothing by itself.
            Err(failure)
                if present == Present::Replaced && failure.meaning() == Some(Meaning::Denied) =>
            {
                self.remove(key)?;
                self.write(key, bytes)
            }
            other => other,
        }
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        if kind == FileKind::Config {
            return Ok(Vec::new());
        }
        let Some(answer) = self.listing(kind)? else {
            return Ok(Vec::new());
        };
        let entries = self.entries(&answer)?.into_iter();
        let listed = entries.filter_map(|entry| {
            Some(Listed {
                key: file_of(kind, &entry.name)?,
                size: entry.size,
                modified: None,
            })
        });
        Ok(listed.collect())
    }
}
