//! Azure Blob Storage.
//!
//! Source: Microsoft's "Blob service REST API", version 2021-12-02.
//!
//! Invariant: every blob is sent with its MD5, which the service compares.

mod identity;
mod sign;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use refloat_storage::location::{Endpoint, RemoteAddress, Transport};
use refloat_storage::{FileKey, FileKind, Listed};
use ureq::http::Method;

use crate::Surroundings;
use crate::failure::{Failure, Meaning, Refusal};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, Request, Slash, encode};
use crate::objects::{Objects, Present, below, file_at, is_of_a_file};
use crate::skew;
use crate::tokens::Token;
use crate::xml::{Element, parse};
use identity::Identity;

/// A page of a listing is not larger, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// What the service is asked to be.
const VERSION: &str = "2021-12-02";
/// The service allows no more between its clock and ours.
const SKEW_MAX: jiff::SignedDuration = jiff::SignedDuration::from_mins(14);

/// What the service says of signatures and tokens that are good no more, or not yet. What else it
/// says there may repeat what was signed.
const ENDED: [&str; 3] = [
    "Signature not valid in the specified time frame",
    "Signed expiry time",
    "Lifetime validation failed",
];

/// What can be said of a repository in a container.
#[derive(Clone, Debug, Default)]
pub struct AzureOptions {
    /// The account; none for that of the environment.
    pub account: Option<String>,
    /// The server; none for Microsoft's.
    pub endpoint: Option<Endpoint>,
}

/// A repository in a container.
pub(crate) struct Azure {
    http: Http,
    /// Server, account where it stands in the path, and container.
    base: String,
    prefix: String,
    shown: String,
    identity: Identity,
    connections: usize,
    around: Surroundings,
}

impl Azure {
    pub(crate) fn new(
        address: &RemoteAddress,
        options: &AzureOptions,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let named = options.account.clone();
        let account = named
            .or_else(|| around.text("AZURE_STORAGE_ACCOUNT"))
            .ok_or_else(|| {
                let text = "no account: give the option account or AZURE_STORAGE_ACCOUNT";
                ConnectError::Options(text.to_owned())
            })?;
        let endpoint = match (&options.endpoint, around.text("AZURE_STORAGE_ENDPOINT")) {
            (Some(endpoint), _) => Some(endpoint.clone()),
            (None, Some(text)) => Some(text.parse().map_err(|what| {
                ConnectError::Options(format!("AZURE_STORAGE_ENDPOINT is {what}"))
            })?),
            (None, None) => None,
        };
        let endpoint = endpoint.unwrap_or_else(|| Endpoint {
            transport: Transport::Tls,
            host: format!("{account}.blob.core.windows.net"),
            port: None,
        });
        // Emulators and gateways have the account in the path.
        let in_host = endpoint.host.starts_with(&format!("{account}."));
        let path = if in_host {
            String::new()
        } else {
            format!("/{account}")
        };
        Ok(Self {
            http: Http::new(&endpoint, connect)?,
            base: format!("{endpoint}{path}/{}", address.bucket),
            prefix: address.path.clone(),
            shown: address.to_string(),
            identity: Identity::new(account, connect, around)?,
            connections: connect.connections,
            around: around.clone(),
        })
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        }
    }

    /// One attempt, with the time of now.
    fn attempt(&self, request: &Request<'_>, token: Option<&Token>) -> Result<Answer, Failure> {
        let now = (self.around.clock)();
        let request = request
            .again()
            .header("x-ms-date", sign::date(now))
            .header("x-ms-version", VERSION);
        let request = self.identity.authorise(request, token);
        let answer = self.http.call(&request)?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            refusal: self.refusal(&answer),
        })
    }

    fn page(&self, prefix: &str, marker: &str) -> Result<Element, Failure> {
        let url = format!(
            "{}?comp=list&marker={}&maxresults=5000&prefix={}&restype=container",
            self.base,
            encode(marker, Slash::Encoded),
            encode(prefix, Slash::Encoded)
        );
        let mut request = Request::new(Method::GET, url);
        request.answer_bytes_max = DOCUMENT_BYTES_MAX;
        let answer = self.send(request)?;
        let root = parse(&answer.body).filter(|root| root.name == "EnumerationResults");
        root.ok_or_else(|| self.malformed("a listing"))
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        let root = parse(&answer.body).filter(|root| root.name == "Error");
        let text = |name| root.as_ref().and_then(|root| root.text_of(name));
        let code = answer.header("x-ms-error-code").or_else(|| text("Code"));
        let message = text("Message").and_then(|text| text.lines().next());
        let ended = text("AuthenticationErrorDetail")
            .filter(|text| ENDED.iter().any(|start| text.starts_with(start)));
        let refusal = answer.refusal(code, ended.or(message));
        let is_unknown = message.is_some_and(|text| text.starts_with("Server failed to authentic"));
        let word = match code {
            _ if is_unknown => "AuthenticationFailed",
            Some(code) => code,
            // So answers a box before the service while that cannot be reached.
            None => return refusal.unvouched(),
        };
        let meaning = match word {
            "ContainerNotFound"
            | "ContainerBeingDeleted"
            | "ResourceNotFound"
            | "AccountIsDisabled" => Meaning::NoPlace,
            "BlobNotFound" => Meaning::NoFile,
            "BlobAlreadyExists" | "ConditionNotMet" | "UnauthorizedBlobOverwrite" => {
                Meaning::Exists
            }
            "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation" => {
                // What others signed has their times.
                if let Some(message) = self.skew(answer).filter(|_| ended.is_none()) {
                    return answer
                        .refusal(code, Some(&message))
                        .meaning(Meaning::ClockSkew);
                }
                Meaning::Unauthorized
            }
            "BlobImmutableDueToPolicy"
            | "LeaseIdMissing"
            | "AuthorizationFailure"
            | "AuthorizationPermissionMismatch" => Meaning::Denied,
            "InvalidRange" => Meaning::OutOfRange,
            "ServerBusy" | "OperationTimedOut" | "InternalError" | "Md5Mismatch" => Meaning::Busy,
            _ => return refusal,
        };
        refusal.meaning(meaning)
    }

    fn skew(&self, answer: &Answer) -> Option<String> {
        let ahead = skew::ahead(&answer.headers, (self.around.clock)())?;
        (ahead.abs() > SKEW_MAX).then(|| skew::told(ahead))
    }
}

impl Objects for Azure {
    fn location(&self) -> String {
        self.shown.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn now(&self) -> Option<jiff::Timestamp> {
        self.http.now()
    }

    /// Containers are made by people, with what belongs to them.
    fn create(&self) -> Result<(), Failure> {
        self.page(&below(&self.prefix, "config"), "")
            .map(|_page| ())
    }

    fn object(&self, method: Method, key: &FileKey) -> Request<'static> {
        let path = encode(&below(&self.prefix, &key.path()), Slash::Kept);
        Request::new(method, format!("{}/{path}", self.base))
    }

    fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let token = self.identity.token((self.around.clock)())?;
        let failure = match self.attempt(&request, token.as_deref()) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        // A token that ended a moment ago is replaced once.
        let is_unknown = failure.meaning() == Some(Meaning::Unauthorized);
        if is_unknown && token.is_some_and(|token| self.identity.renew(&token)) {
            let token = self.identity.token((self.around.clock)())?;
            return self.attempt(&request, token.as_deref());
        }
        Err(failure)
    }

    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure> {
        let name = below(&self.prefix, &key.path());
        let page = self.page(&name, "")?;
        let blobs = page
            .child("Blobs")
            .ok_or_else(|| self.malformed("a listing"))?;
        let mut names = blobs
            .children_named("Blob")
            .map(|blob| blob.text_of("Name"));
        // A page may hold less than there is, and say so.
        let is_cut = page
            .text_of("NextMarker")
            .is_some_and(|marker| !marker.is_empty());
        Ok(is_cut || names.any(|listed| listed == Some(&name)))
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        let mut request = self
            .object(Method::PUT, key)
            .header("x-ms-blob-type", "BlockBlob")
            .header("content-md5", STANDARD.encode(md5::Md5::digest(bytes)))
            .body(bytes);
        if present == Present::Kept {
            request = request.header("if-none-match", "*");
        }
        let answer = self.send(request)?;
        // A success of some box in between stores nothing.
        if is_of_a_file(&answer) {
            Ok(())
        } else {
            Err(self.malformed("a write without a word of what was written"))
        }
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        if kind == FileKind::Config {
            return Ok(Vec::new());
        }
        let prefix = format!("{}/", below(&self.prefix, kind.folder()));
        let mut listed = Vec::new();
        let mut marker = String::new();
        loop {
            let page = self.page(&prefix, &marker)?;
            let blobs = page
                .child("Blobs")
                .ok_or_else(|| self.malformed("a listing"))?;
            for blob in blobs.children_named("Blob") {
                let file = read_blob(kind, &self.prefix, blob)
                    .ok_or_else(|| self.malformed("a listing"))?;
                listed.extend(file);
            }
            match page.text_of("NextMarker").unwrap_or_default() {
                "" => return Ok(listed),
                next if next == marker => {
                    return Err(self.malformed("a listing goes round in a circle"));
                }
                next => next.clone_into(&mut marker),
            }
        }
    }
}

/// The file of a blob; none inside if its name is none of ours.
fn read_blob(kind: FileKind, root: &str, blob: &Element) -> Option<Option<Listed>> {
    let Some(key) = file_at(kind, root, blob.text_of("Name")?) else {
        return Some(None);
    };
    let properties = blob.child("Properties")?;
    let modified = properties
        .text_of("Last-Modified")
        .and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    Some(Some(Listed {
        key,
        size: properties.text_of("Content-Length")?.parse().ok()?,
        modified: modified.map(|zoned| zoned.timestamp().into()),
    }))
}
