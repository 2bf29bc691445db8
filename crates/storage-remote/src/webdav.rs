//! WebDAV servers.
//!
//! Source: RFC 4918.
//!
//! Invariant: a file gets its name by a `MOVE` of one that was written whole; the protocol cannot
//! keep two writers at the same moment from both finding the name free. A folder counts as empty
//! only beside a config. A change was made only if the server says so of the whole of it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use refloat_storage::location::RemoteAddress;
use refloat_storage::temporaries::{StaleTemporaries, Temporaries};
use refloat_storage::{FileKey, FileKind, Listed, StorageError};
use ureq::http::Method;

use crate::Surroundings;
use crate::aside::{self, Asides, Folders, Named};
use crate::basic::Login;
use crate::failure::{Failure, Meaning, Refusal};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, Request, Slash, encode};
use crate::objects::{ObjectStorage, Objects, Present, file_of, is_pack_folder};
use crate::xml::{Element, parse};

/// What listings ask for.
const PROPERTIES: &[u8] = b"<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:prop>\
    <D:resourcetype/><D:getcontentlength/><D:getlastmodified/></D:prop></D:propfind>";

/// Methods that change what is there.
const CHANGES: [&str; 4] = ["PUT", "MOVE", "MKCOL", "DELETE"];

/// What a listing is called that is no document, or lacks something.
const LISTING: &str = "a listing";

/// How long another writer is waited for who holds a name or disturbs a listing at this moment, in milliseconds.
const PAUSES_MS: [u64; 5] = [20, 40, 80, 160, 320];

/// A repository below a folder of such a server.
pub(crate) struct WebDav {
    http: Http,
    /// The server alone.
    server: String,
    /// Ends in a slash.
    base: String,
    shown: String,
    login: Option<Login>,
    connections: usize,
    around: Surroundings,
    asides: Asides,
    /// Folders of packs that are there.
    folders: Mutex<HashSet<String>>,
}

impl WebDav {
    pub(crate) fn new(
        address: &RemoteAddress,
        login: Option<Login>,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let endpoint = crate::endpoint_of(address)?;
        let path = encode(&address.path, Slash::Kept);
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Self {
            http: Http::new(endpoint, connect)?,
            server: endpoint.to_string(),
            base: format!("{endpoint}/{path}{slash}"),
            shown: address.to_string(),
            login,
            connections: connect.connections,
            around: around.clone(),
            asides: Asides::default(),
            folders: Mutex::default(),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn method(&self, name: &'static str) -> Result<Method, Failure> {
        Method::from_bytes(name.as_bytes()).map_err(|_| self.malformed(name))
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.http.host().to_owned(),
            what,
        }
    }

    /// Makes a folder; one that is there is right.
    fn make_folder(&self, url: String) -> Result<(), Failure> {
        match self.send(Request::new(self.method("MKCOL")?, url.clone())) {
            Ok(_) => Ok(()),
            Err(Failure::Refused { refusal, .. }) if refusal.status == 405 => Ok(()),
            // So Apache says that somebody else made it at the same moment.
            Err(failure) if failure.meaning() == Some(Meaning::Denied) => {
                let look = Request::new(self.method("PROPFIND")?, url).header("depth", "0");
                self.send(look.body(PROPERTIES))
                    .map_or(Err(failure), |_| Ok(()))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Writes under a name that no listing takes for a file.
    fn write_aside(&self, key: &FileKey, bytes: &[u8]) -> Result<String, Failure> {
        let path = key.path();
        let aside = self.url(&self.asides.next(&path, &self.around));
        if key.kind() == FileKind::Pack {
            self.make_pack_folder(&path)?;
        }
        let put = || {
            let request = Request::new(Method::PUT, aside.clone()).body(bytes);
            self.send(request.header("content-type", "application/octet-stream"))
        };
        let written = match put() {
            // So a folder that is not there shows: somebody removed it since it was made.
            Err(Failure::Refused { refusal, .. })
                if refusal.status == 409 && key.kind() == FileKind::Pack =>
            {
                self.forget_folders();
                self.make_pack_folder(&path)?;
                put()
            }
            other => other,
        };
        written.map(|_answer| aside)
    }

    /// Moves what was written to its name. Somebody who writes there at this moment is waited for: whoever repeats
    /// the whole sends it all once more.
    fn give_name(&self, aside: &str, key: &FileKey, overwrite: &str) -> Result<(), Failure> {
        let name = || {
            let request = Request::new(self.method("MOVE")?, aside.to_owned())
                .header("destination", self.url(&key.path()))
                .header("overwrite", overwrite);
            self.send(request).map(drop)
        };
        let is_locked = |failure: &Failure| matches!(failure, Failure::Refused { refusal, .. } if refusal.status == 423);
        repeat_while(is_locked, name)
    }

    fn forget_folders(&self) {
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
    }

    /// The folder of these packs, made when this process writes the first of them: a server that
    /// lacks it may break the connection instead of answering.
    fn make_pack_folder(&self, path: &str) -> Result<(), Failure> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let known = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(folder) {
            return Ok(());
        }
        self.make_folder(self.url(&format!("{folder}/")))?;
        let _new = known().insert(folder.to_owned());
        Ok(())
    }

    /// The entries of a folder of a kind; none for one that a copying tool left out because it was
    /// empty.
    fn folder_of(&self, kind: FileKind) -> Result<Vec<Named>, Failure> {
        if let Some(entries) = self.folder(&format!("{}/", kind.folder()))? {
            return Ok(entries);
        }
        if self.is_there(&FileKey::CONFIG)? {
            return Ok(Vec::new());
        }
        Err(Failure::NoRepository {
            host: self.http.host().to_owned(),
        })
    }

    /// The entries of a folder, all of them; none if it is not there.
    fn folder(&self, path: &str) -> Result<Option<Vec<Named>>, Failure> {
        let Some(listing) = self.listing(path)? else {
            return Ok(None);
        };
        let entries = listing.children_named("response");
        let entries =
            entries.map(|response| entry(response).ok_or_else(|| self.malformed(LISTING)));
        entries.collect::<Result<_, _>>().map(Some)
    }

    /// A listing, all of it. Servers with Go's library (rclone) break off in the middle when a file that they found is
    /// renamed before they come to describe it: they end the document as if it were whole, and write "Internal
    /// Server Error" behind it. That is no document, and the listing is asked for again.
    fn listing(&self, path: &str) -> Result<Option<Element>, Failure> {
        let is_broken =
            |failure: &Failure| matches!(failure, Failure::Malformed { what: LISTING, .. });
        repeat_while(is_broken, || self.listed_once(path))
    }

    fn listed_once(&self, path: &str) -> Result<Option<Element>, Failure> {
        let request = Request::new(self.method("PROPFIND")?, self.url(path))
            .header("depth", "1")
            .header("content-type", "application/xml")
            .body(PROPERTIES);
        let answer = match self.send(request) {
            Ok(answer) => answer,
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let root = parse(&answer.body).filter(|root| root.name == "multistatus");
        root.ok_or_else(|| self.malformed(LISTING)).map(Some)
    }

    fn is_there(&self, key: &FileKey) -> Result<bool, Failure> {
        match self.send(self.object(Method::HEAD, key)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn packs(&self) -> Result<Vec<Listed>, Failure> {
        let folders = self.folder_of(FileKind::Pack)?.into_iter();
        let folders: Vec<String> = folders
            .filter(|entry| entry.is_folder && is_pack_folder(&entry.name))
            .map(|entry| entry.name)
            .collect();
        let rest = Mutex::new(folders.into_iter());
        let next = || {
            let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
            rest.next()
        };
        let work = || -> Result<Vec<Listed>, Failure> {
            let mut listed = Vec::new();
            while let Some(folder) = next() {
                let entries = self.folder(&format!("data/{folder}/"))?;
                let entries = entries.ok_or_else(|| self.malformed("a folder that is gone"))?;
                let packs = self.files(FileKind::Pack, entries)?.into_iter();
                // A pack in another's folder is not where it would be looked for.
                listed.extend(packs.filter(|pack| pack.key.name().starts_with(&folder)));
            }
            Ok(listed)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections.max(1))
                .map(|_thread| scope.spawn(work))
                .collect();
            let mut all = Vec::new();
            for thread in threads {
                // A thread that panicked has no listing to give.
                let listed = thread.join().map_err(|_| self.malformed(LISTING))?;
                all.extend(listed?);
            }
            Ok(all)
        })
    }

    fn files(&self, kind: FileKind, entries: Vec<Named>) -> Result<Vec<Listed>, Failure> {
        let mut listed = Vec::new();
        for entry in entries {
            let Some(key) = file_of(kind, &entry.name).filter(|_| !entry.is_folder) else {
                continue;
            };
            let size = entry
                .size
                .ok_or_else(|| self.malformed("a file without a size"))?;
            listed.push(Listed {
                key,
                size,
                modified: entry.modified,
            });
        }
        Ok(listed)
    }
}

impl Folders for WebDav {
    fn named(&self, folder: &str) -> Result<Option<Vec<Named>>, Failure> {
        let slash = if folder.is_empty() { "" } else { "/" };
        let listing = self.listing(&format!("{folder}{slash}"))?;
        // What the server says too little of is none of ours.
        Ok(listing.map(|listing| {
            let responses = listing.children_named("response");
            responses.filter_map(entry).collect()
        }))
    }

    fn write_byte(&self, path: &str) -> Result<(), Failure> {
        self.send(Request::new(Method::PUT, self.url(path)).body(&[0]))
            .map(|_answer| ())
    }

    fn remove_path(&self, path: &str) -> Result<(), Failure> {
        match self.send(Request::new(Method::DELETE, self.url(path))) {
            Err(failure) if failure.meaning() != Some(Meaning::NoFile) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Temporaries for ObjectStorage<WebDav> {
    fn remove_stale(&self, older_than: Duration) -> Result<StaleTemporaries, StorageError> {
        let probe = aside::probe(&self.0.asides, &self.0.around);
        aside::remove_stale(&self.0, &probe, older_than)
            .map_err(|failure| self.failed("remove", "temporary files".into(), failure))
    }
}

impl Objects for WebDav {
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
        let below_server = self.base.strip_prefix(&self.server).unwrap_or_default();
        let mut url = self.server.clone();
        for part in below_server.split('/').filter(|part| !part.is_empty()) {
            url = format!("{url}/{part}");
            match self.make_folder(format!("{url}/")) {
                // Folders above may belong to somebody else, and be there.
                Err(failure) if failure.meaning() == Some(Meaning::Denied) => {}
                other => other?,
            }
        }
        for kind in FileKind::FOLDERS {
            self.make_folder(self.url(&format!("{}/", kind.folder())))?;
        }
        Ok(())
    }

    fn object(&self, method: Method, key: &FileKey) -> Request<'static> {
        Request::new(method, self.url(&key.path()))
    }

    fn send(&self, mut request: Request<'_>) -> Result<Answer, Failure> {
        if let Some(login) = &self.login {
            request = request.header("authorization", login.header());
        }
        let answer = self.http.call(&request)?;
        let changes = CHANGES.contains(&request.method.as_str());
        let status = match answer.status {
            200 | 201 | 204 => return Ok(answer),
            207 if changes => failed_part(&answer)
                .ok_or_else(|| self.malformed("a change of which it is not said what failed"))?,
            200..=299 if changes => {
                return Err(self.malformed("a change of which it is not said that it was made"));
            }
            200..=299 => return Ok(answer),
            status => status,
        };
        let refusal = Refusal {
            status,
            meaning: Meaning::of_status(status),
            ..answer.refusal(None, None)
        };
        Err(Failure::Refused {
            host: self.http.host().to_owned(),
            // Only a name that is taken is said with 412; 409 is said of a folder that is missing.
            refusal: match status {
                409 => refusal.meaning(Meaning::NoPlace),
                _ => refusal,
            },
        })
    }

    /// The protocol has no other word for it than the status.
    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure> {
        self.is_there(key)
    }

    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure> {
        // Asked before a whole pack is sent for nothing.
        if present == Present::Kept && self.is_there(key)? {
            return Err(Failure::Exists);
        }
        let aside = self.write_aside(key, bytes)?;
        let overwrite = match present {
            Present::Kept => "F",
            Present::Replaced => "T",
        };
        let moved = self.give_name(&aside, key, overwrite);
        if moved.is_err() {
            // What stays of it is no file of the repository.
            let _removed = self.send(Request::new(Method::DELETE, aside));
        }
        moved
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        match kind {
            FileKind::Config => Ok(Vec::new()),
            FileKind::Pack => self.packs(),
            kind => self.files(kind, self.folder_of(kind)?),
        }
    }
}

/// Repeats, within [`PAUSES_MS`], what another writer keeps from being done.
fn repeat_while<T>(
    is_kept: impl Fn(&Failure) -> bool,
    work: impl Fn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    for pause in PAUSES_MS {
        match work() {
            Err(failure) if is_kept(&failure) => std::thread::sleep(Duration::from_millis(pause)),
            done => return done,
        }
    }
    work()
}

/// The status of the part of a change that failed: one that is no mere consequence of another's.
fn failed_part(answer: &Answer) -> Option<u16> {
    let root = parse(&answer.body).filter(|root| root.name == "multistatus")?;
    let mut statuses = root.children_named("response").filter_map(|response| {
        let part = response.child("propstat").unwrap_or(response);
        part.text_of("status")?.split(' ').nth(1)?.parse().ok()
    });
    statuses.find(|status| (400..600).contains(status) && *status != 424)
}

fn entry(response: &Element) -> Option<Named> {
    let href = response.text_of("href")?;
    let name = href.trim_end_matches('/').rsplit('/').next()?.to_owned();
    let good = |stat: &&Element| stat.text_of("status").is_some_and(|s| s.contains(" 200"));
    let properties = response
        .children_named("propstat")
        .find(good)?
        .child("prop")?;
    let is_folder = properties
        .child("resourcetype")
        .is_some_and(|kind| kind.child("collection").is_some());
    let modified = properties
        .text_of("getlastmodified")
        .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
        .map(|zoned| zoned.timestamp().into());
    Some(Named {
        name,
        is_folder,
        size: properties
            .text_of("getcontentlength")
            .and_then(|text| text.parse().ok()),
        modified,
    })
}
