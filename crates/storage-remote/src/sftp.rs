//! SFTP: version 3 of the protocol, over the `ssh` of this machine, with its keys, agent, jump
//! hosts and known hosts.
//!
//! Source: draft-ietf-secsh-filexfer-02 and OpenSSH's `PROTOCOL`.
//!
//! Invariant: a file gets its name by a rename that fails if the name is taken, after it was
//! written whole and, where the server can, synchronised. A folder counts as empty only beside a
//! config, and no entry is left out because the server does not say what it is, or because it is
//! no plain file.

mod files;
mod packet;
mod process;
mod session;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::location::RemoteAddress;
use refloat_storage::protection::unprotected;
use refloat_storage::temporaries::{StaleTemporaries, Temporaries};
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SETTLING, Storage, StorageError, StorageErrorKind,
};

use crate::Surroundings;
use crate::aside::{self, Asides, Folders, Named};
use crate::failure::Failure;
use crate::http::{ANSWER_BYTES_MAX, ConnectError, ConnectOptions};
use crate::objects::{file_of, is_pack_folder};
use files::Entry;
use process::Ssh;
use session::{Attributes, Session};

/// A repository below a folder of another machine.
pub(crate) struct Sftp {
    ssh: Ssh,
    session: Mutex<Option<Arc<Session>>>,
    /// Without a slash at its end.
    root: String,
    shown: String,
    connect: ConnectOptions,
    around: Surroundings,
    asides: Asides,
}

impl Sftp {
    pub(crate) fn new(
        address: &RemoteAddress,
        config: Option<PathBuf>,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let endpoint = crate::endpoint_of(address)?;
        Ok(Self {
            ssh: Ssh {
                host: endpoint.host.clone(),
                port: endpoint.port,
                user: address.user.clone(),
                config,
                patience: connect.connect_timeout,
            },
            session: Mutex::new(None),
            root: address.path.clone(),
            shown: address.to_string(),
            connect: connect.clone(),
            around: around.clone(),
            asides: Asides::default(),
        })
    }

    /// The session of the moment, or another one if it broke.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = session.as_ref().filter(|session| session.is_alive()) {
            return Ok(Arc::clone(session));
        }
        self.check_cancelled()?;
        let opened = Arc::new(Session::open(&self.ssh, &self.connect)?);
        *session = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        match self.connect.cancel.is_cancelled() {
            true => Err(Failure::Interrupted),
            false => Ok(()),
        }
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    fn make_folders(&self) -> Result<(), Failure> {
        let session = self.session()?;
        let mut path = String::new();
        for part in self.root.split('/') {
            path.push_str(part);
            if !part.is_empty() {
                session.make_folder(&path)?;
            }
            path.push('/');
        }
        for kind in FileKind::FOLDERS {
            session.make_folder(&self.path(kind.folder()))?;
        }
        Ok(())
    }

    fn store(&self, key: &FileKey, bytes: &[u8]) -> Result<(), Failure> {
        self.check_cancelled()?;
        let session = self.session()?;
        let path = self.path(&key.path());
        if let Some(present) = session.look(&path)? {
            if key.kind() == FileKind::Config {
                return Err(Failure::Exists);
            }
            let same = present.size == Some(bytes.len() as u64)
                && session.read(&path, 0, bytes.len())? == bytes;
            if same {
                return Ok(());
            }
            session.remove(&path)?;
        }
        let aside = self.asides.next(&path, &self.around);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let written = match session.write(&aside, bytes) {
            // The folder of these packs is made when the first is written.
            Err(failure)
                if failure.kind() == StorageErrorKind::NotFound && key.kind() == FileKind::Pack =>
            {
                session.make_folder(folder)?;
                session.write(&aside, bytes)
            }
            other => other,
        };
        let moved = written.and_then(|()| session.rename(&aside, &path));
        let Err(failure) = moved else {
            return Ok(());
        };
        // What stays of it is no file of the repository.
        let _removed = session.remove(&aside);
        match session.look(&path) {
            // Another writer was faster.
            Ok(Some(_)) if key.kind() == FileKind::Config => Err(Failure::Exists),
            Ok(Some(present)) if present.size == Some(bytes.len() as u64) => Ok(()),
            _ => Err(failure),
        }
    }

    fn part(&self, key: &FileKey, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let session = self.session()?;
        let path = self.path(&key.path());
        let end = offset.checked_add(length as u64);
        let size = session
            .look(&path)?
            .ok_or_else(|| no_file(&self.shown))?
            .size;
        if size.is_none_or(|size| end.is_none_or(|end| end > size)) {
            return Err(Failure::ShortRead(end.unwrap_or(u64::MAX)));
        }
        session.read(&path, offset, length)
    }

    fn whole(&self, key: &FileKey) -> Result<Vec<u8>, Failure> {
        let session = self.session()?;
        let path = self.path(&key.path());
        let Attributes { size, .. } = session.look(&path)?.ok_or_else(|| no_file(&self.shown))?;
        let size = size.ok_or_else(|| session.malformed("a file without a size"))?;
        match usize::try_from(size)
            .ok()
            .filter(|_| size <= ANSWER_BYTES_MAX)
        {
            Some(size) => session.read(&path, 0, size),
            None => Err(Failure::TooLarge {
                host: self.shown.clone(),
                limit: ANSWER_BYTES_MAX,
            }),
        }
    }

    fn length(&self, key: &FileKey) -> Result<Option<u64>, Failure> {
        let session = self.session()?;
        let Some(found) = session.look(&self.path(&key.path()))? else {
            return Ok(None);
        };
        let size = found.size;
        size.map(Some)
            .ok_or_else(|| session.malformed("a file without a size"))
    }

    fn files(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        let session = self.session()?;
        let folder = self.path(kind.folder());
        let Some(entries) = session.folder(&folder)? else {
            let config = session.look(&self.path(&FileKey::CONFIG.path()))?;
            // Copying tools leave out empty folders.
            return match config {
                Some(_) => Ok(Vec::new()),
                None => Err(Failure::NoRepository {
                    host: self.shown.clone(),
                }),
            };
        };
        if kind != FileKind::Pack {
            return self.listed(&session, kind, &folder, entries);
        }
        let mut all = Vec::new();
        for entry in entries {
            let path = format!("{folder}/{}", entry.name);
            if !is_pack_folder(&entry.name) {
                continue;
            }
            if !known(&session, &path, &entry)?.is_folder() {
                return Err(self.strange(path, "folder"));
            }
            let entries = session.folder(&path)?;
            let entries = entries.ok_or_else(|| session.malformed("a folder that is gone"))?;
            let packs = self.listed(&session, kind, &path, entries)?.into_iter();
            // A pack in another's folder is not where it would be looked for.
            all.extend(packs.filter(|pack| pack.key.name().starts_with(&entry.name)));
        }
        Ok(all)
    }

    /// The files of a kind among the entries of a folder.
    fn listed(
        &self,
        session: &Session,
        kind: FileKind,
        folder: &str,
        entries: Vec<Entry>,
    ) -> Result<Vec<Listed>, Failure> {
        let mut files = Vec::new();
        for entry in entries {
            let Some(key) = file_of(kind, &entry.name) else {
                continue;
            };
            let path = format!("{folder}/{}", entry.name);
            let attributes = known(session, &path, &entry)?;
            if !attributes.is_file() {
                return Err(self.strange(path, "file"));
            }
            let size = attributes.size;
            files.push(Listed {
                key,
                size: size.ok_or_else(|| session.malformed("a file without a size"))?,
                modified: attributes.modified(),
            });
        }
        Ok(files)
    }

    fn strange(&self, path: String, expected: &'static str) -> Failure {
        Failure::Strange {
            host: self.ssh.host.clone(),
            path,
            expected,
        }
    }

    fn remove(&self, key: &FileKey) -> Result<(), Failure> {
        self.remove_at(&self.path(&key.path()))
    }

    fn remove_at(&self, path: &str) -> Result<(), Failure> {
        match self.session()?.remove(path) {
            Err(failure) if failure.kind() == StorageErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn failed(&self, operation: &'static str, subject: String, failure: Failure) -> StorageError {
        let kind = failure.kind();
        StorageError::on(
            kind,
            operation,
            subject,
            &self.shown,
            Some(Box::new(failure)),
        )
    }

    fn on<T>(
        &self,
        operation: &'static str,
        key: &FileKey,
        result: Result<T, Failure>,
    ) -> Result<T, StorageError> {
        result.map_err(|failure| self.failed(operation, key.path(), failure))
    }
}

impl Folders for Sftp {
    fn named(&self, folder: &str) -> Result<Option<Vec<Named>>, Failure> {
        self.check_cancelled()?;
        let session = self.session()?;
        let folder = self.path(folder);
        let folder = folder.trim_end_matches('/');
        let Some(entries) = session.folder(folder)? else {
            return Ok(None);
        };
        let named = entries.into_iter().filter_map(|entry| {
            // What is gone by now, or is something that nobody knows, is none of ours.
            let known = known(&session, &format!("{folder}/{}", entry.name), &entry).ok()?;
            (known.is_file() || known.is_folder()).then(|| Named {
                name: entry.name,
                is_folder: known.is_folder(),
                size: known.size,
                modified: known.modified(),
            })
        });
        Ok(Some(named.collect()))
    }

    fn write_byte(&self, path: &str) -> Result<(), Failure> {
        self.session()?.write(&self.path(path), &[0])
    }

    fn remove_path(&self, path: &str) -> Result<(), Failure> {
        self.remove_at(&self.path(path))
    }
}

impl Temporaries for Sftp {
    fn remove_stale(&self, older_than: Duration) -> Result<StaleTemporaries, StorageError> {
        let probe = aside::probe(&self.asides, &self.around);
        aside::remove_stale(self, &probe, older_than)
            .map_err(|failure| self.failed("remove", "temporary files".into(), failure))
    }
}

/// What is known of an entry, asked for where the listing does not tell.
fn known(session: &Session, path: &str, entry: &Entry) -> Result<Attributes, Failure> {
    let attributes = entry.attributes;
    if attributes.is_of_a_kind() && (attributes.is_folder() || attributes.size.is_some()) {
        return Ok(attributes);
    }
    let looked = session.look(path)?;
    let looked = looked.ok_or_else(|| session.malformed("an entry that is gone"))?;
    if !looked.is_of_a_kind() {
        return Err(session.malformed("an entry of which it is not said what it is"));
    }
    Ok(looked)
}

fn no_file(host: &str) -> Failure {
    Failure::Refused {
        host: host.to_owned(),
        refusal: crate::failure::Refusal::new(404, None, None),
    }
}

impl Storage for Sftp {
    fn location(&self) -> String {
        self.shown.clone()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.make_folders()
            .map_err(|failure| self.failed("create", "folders".into(), failure))
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.on("write", key, self.store(key, bytes))
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.on("read", key, self.whole(key))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.on("read", key, self.part(key, offset, length))
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.on("find the size of", key, self.length(key))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.files(kind)
            .map_err(|failure| self.failed("list", kind.folder().to_owned(), failure))
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.on("delete", key, self.remove(key))
    }

    fn connections(&self) -> usize {
        self.connect.connections
    }

    fn settling(&self) -> Duration {
        SETTLING
    }

    fn protection(&self) -> Option<Protection> {
        None
    }

    fn protected_until(&self, _key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        Ok(None)
    }

    fn protect_until(&self, key: &FileKey, _until: Timestamp) -> Result<(), StorageError> {
        Err(unprotected(key, self.location()))
    }
}

#[cfg(test)]
mod tests;
