//! SFTP: version 3 of the protocol, over the `ssh` of this machine, with its keys, agent, jump
//! hosts and known hosts.
//!
//! Source: draft-ietf-secsh-filexfer-02 and OpenSSH's `PROTOCOL`.
//!
//! Invariant: a file gets its name by a rename that fails if the name is taken, after it was
//! written whole and, where the server can, synchronised.

mod files;
mod packet;
mod process;
mod session;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use refloat_storage::location::RemoteAddress;
use refloat_storage::{FileKey, FileKind, Listed, Storage, StorageError, StorageErrorKind};

use crate::Surroundings;
use crate::failure::Failure;
use crate::http::{ConnectError, ConnectOptions};
use crate::objects::file_of;
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
    written: AtomicU64,
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
            written: AtomicU64::new(0),
        })
    }

    /// The session of the moment, or another one if it broke.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = session.as_ref().filter(|session| session.is_alive()) {
            return Ok(Arc::clone(session));
        }
        if self.connect.cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        let opened = Arc::new(Session::open(&self.ssh, &self.connect)?);
        *session = Some(Arc::clone(&opened));
        Ok(opened)
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
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let now = (self.around.clock)().as_nanosecond();
        let aside = format!("{path}.{now}-{number}.tmp");
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
        let size = size.and_then(|size| usize::try_from(size).ok());
        session.read(&path, 0, size.unwrap_or_default())
    }

    fn files(&self, kind: FileKind) -> Result<Vec<Listed>, Failure> {
        let session = self.session()?;
        let folder = self.path(kind.folder());
        if kind != FileKind::Pack {
            return listed(&session, kind, &folder);
        }
        let mut all = Vec::new();
        for entry in session.folder(&folder)? {
            if entry.name.len() == 2 && entry.attributes.is_folder() {
                all.extend(listed(&session, kind, &format!("{folder}/{}", entry.name))?);
            }
        }
        Ok(all)
    }

    fn remove(&self, key: &FileKey) -> Result<(), Failure> {
        match self.session()?.remove(&self.path(&key.path())) {
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

fn listed(session: &Session, kind: FileKind, folder: &str) -> Result<Vec<Listed>, Failure> {
    let entries = session.folder(folder)?;
    let files = entries.into_iter().filter_map(|entry| {
        Some(Listed {
            key: file_of(kind, &entry.name)?,
            size: entry.attributes.size?,
            modified: entry.attributes.modified(),
        })
    });
    Ok(files.collect())
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
        let looked = self
            .session()
            .and_then(|session| session.look(&self.path(&key.path())));
        let size = looked.map(|found| found.and_then(|attributes| attributes.size));
        self.on("find the size of", key, size)
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
}
