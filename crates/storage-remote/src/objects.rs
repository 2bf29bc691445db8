//! A storage over any service that keeps objects and speaks HTTP.
//!
//! What the services have in common is here once: ranges, sizes, second writes. What they differ
//! in is [`Objects`].
//!
//! Invariant: bytes that are handed on are exactly those that were asked for; what the server
//! says of their place and number is compared.

use std::fmt::Debug;
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SETTLING, Storage, StorageError, StorageErrorKind,
};
use ureq::http::Method;

use crate::failure::{Failure, Meaning};
use crate::http::{Answer, Request};

/// What a service does in its own way.
pub(crate) trait Objects: Send + Sync {
    /// The place without credentials.
    fn location(&self) -> String;

    /// How many calls at once make sense.
    fn connections(&self) -> usize;

    /// The moment by the server's clock, once it answered.
    fn now(&self) -> Option<jiff::Timestamp>;

    /// Makes what a new repository needs.
    fn create(&self) -> Result<(), Failure>;

    /// A request for the object of a file, not yet signed.
    fn object(&self, method: Method, key: &FileKey) -> Request<'static>;

    /// Signs and sends a request; refusals are failures with their meaning.
    fn send(&self, request: Request<'_>) -> Result<Answer, Failure>;

    /// Whether the object of a file is in a fresh listing.
    fn is_listed(&self, key: &FileKey) -> Result<bool, Failure>;

    /// As [`send`](Self::send), of the object of this file: that it is not there is believed only
    /// if the service says so in its own words, or by a listing without it.
    fn ask(&self, key: &FileKey, request: Request<'_>) -> Result<Answer, Failure> {
        match self.send(request.again()) {
            Err(Failure::Refused { host, refusal }) if refusal.meaning == Meaning::Unvouched => {
                if !self.is_listed(key)? {
                    let refusal = refusal.meaning(Meaning::NoFile);
                    return Err(Failure::Refused { host, refusal });
                }
                // Somebody may have written it in between.
                self.send(request).map_err(|failure| match failure {
                    Failure::Refused { host, refusal } if refusal.meaning == Meaning::Unvouched => {
                        let refusal = refusal.meaning(Meaning::Busy);
                        Failure::Refused { host, refusal }
                    }
                    other => other,
                })
            }
            sent => sent,
        }
    }

    /// Writes an object; [`Failure::Exists`] or a refusal of that meaning if one must not be
    /// replaced and is.
    fn put(&self, key: &FileKey, bytes: &[u8], present: Present) -> Result<(), Failure>;

    /// Removes an object; one that is not there is no failure.
    fn remove(&self, key: &FileKey) -> Result<(), Failure> {
        match self.ask(key, self.object(Method::DELETE, key)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// All objects of a kind.
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, Failure>;

    /// How objects are kept from deletion; none if they are not.
    fn protection(&self) -> Option<Protection> {
        None
    }

    /// Until when an object is kept; none if it is known not to be.
    fn protected_until(&self, _key: &FileKey) -> Result<Option<Timestamp>, Failure> {
        Ok(None)
    }

    /// Keeps an object until a later time.
    fn protect_until(&self, _key: &FileKey, _until: Timestamp) -> Result<(), Failure> {
        Err(Failure::Unfit("this storage keeps nothing from deletion"))
    }
}

/// What happens to an object that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Present {
    /// It stays, and the write fails.
    Kept,
    /// It is replaced.
    Replaced,
}

/// See the module.
pub(crate) struct ObjectStorage<O>(pub(crate) O);

/// What a range request was answered with.
enum Part {
    Bytes(Vec<u8>),
    /// The object ends before.
    Beyond,
}

impl<O: Objects> ObjectStorage<O> {
    pub(crate) fn failed(
        &self,
        operation: &'static str,
        subject: String,
        failure: Failure,
    ) -> StorageError {
        let (kind, retry_after) = (failure.kind(), failure.retry_after());
        let (place, cause) = (self.0.location(), Some(Box::new(failure) as _));
        StorageError::on(kind, operation, subject, place, cause).asking_to_wait(retry_after)
    }

    fn on<T>(
        &self,
        operation: &'static str,
        key: &FileKey,
        result: Result<T, Failure>,
    ) -> Result<T, StorageError> {
        result.map_err(|failure| self.failed(operation, key.path(), failure))
    }

    fn part(&self, key: &FileKey, offset: u64, length: usize) -> Result<Part, Failure> {
        let end = offset.saturating_add(length as u64);
        if length == 0 || end == u64::MAX {
            // No request can ask for nothing; what matters is where the object ends.
            let size = self.end(key)?.ok_or_else(|| self.no_file())?;
            return Ok(if end <= size {
                Part::Bytes(Vec::new())
            } else {
                Part::Beyond
            });
        }
        let mut request = self
            .0
            .object(Method::GET, key)
            .header("range", format!("bytes={offset}-{}", end - 1));
        request.answer_bytes_max = length as u64;
        match self.0.ask(key, request) {
            Ok(answer) => self.checked_part(answer, offset, length),
            Err(failure) if failure.meaning() == Some(Meaning::OutOfRange) => Ok(Part::Beyond),
            // A server that ignores ranges sends the whole.
            Err(Failure::TooLarge { .. }) => {
                let whole = self.0.ask(key, self.0.object(Method::GET, key))?;
                let whole = self.file(whole)?.body;
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let bytes = whole.get(start..).and_then(|rest| rest.get(..length));
                Ok(bytes.map_or(Part::Beyond, |bytes| Part::Bytes(bytes.to_vec())))
            }
            Err(failure) => Err(failure),
        }
    }

    fn checked_part(&self, answer: Answer, offset: u64, length: usize) -> Result<Part, Failure> {
        let answer = self.file(answer)?;
        let range = answer.header("content-range").and_then(content_range);
        match (answer.status, range) {
            (206, Some((start, _))) if start == offset && answer.body.len() == length => {
                Ok(Part::Bytes(answer.body))
            }
            (206, Some((start, size))) if start == offset && (answer.body.len()) < length => {
                let got = offset + answer.body.len() as u64;
                if size.is_some_and(|size| size <= got) {
                    return Ok(Part::Beyond);
                }
                // Less than asked for though there is more: a proxy cut it.
                Err(self.malformed("a part is shorter than the server says"))
            }
            // The whole object, which a server may send instead of a part from its start.
            (200, _) if offset == 0 && answer.body.len() == length => Ok(Part::Bytes(answer.body)),
            (200, _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let bytes = answer.body.get(start..).and_then(|rest| rest.get(..length));
                Ok(bytes.map_or(Part::Beyond, |bytes| Part::Bytes(bytes.to_vec())))
            }
            _ => Err(self.malformed("another part than was asked for")),
        }
    }

    /// Where an object ends: its size; none if there is none.
    ///
    /// Asked for by reading its first byte: an answer without a body would not say why it is
    /// refused.
    fn end(&self, key: &FileKey) -> Result<Option<u64>, Failure> {
        let mut request = self.0.object(Method::GET, key).header("range", "bytes=0-0");
        request.answer_bytes_max = 1;
        match self.0.ask(key, request) {
            Ok(answer) => match answer.header("content-range").and_then(content_range) {
                Some((_, Some(size))) if answer.status == 206 => Ok(Some(size)),
                _ if answer.status == 200 && is_of_a_file(&answer) => {
                    Ok(Some(answer.body.len() as u64))
                }
                _ => Err(self.malformed("a part of an unknown whole")),
            },
            Err(failure) => match failure.meaning() {
                Some(Meaning::NoFile) => Ok(None),
                // There is no first byte.
                Some(Meaning::OutOfRange) => Ok(Some(0)),
                _ if matches!(failure, Failure::TooLarge { .. }) => {
                    let whole = self.0.ask(key, self.0.object(Method::GET, key))?;
                    Ok(Some(self.file(whole)?.body.len() as u64))
                }
                _ => Err(failure),
            },
        }
    }

    /// A whole answer, if it is a file and no page of some box in between.
    fn file(&self, answer: Answer) -> Result<Answer, Failure> {
        if answer.status == 200 && !is_of_a_file(&answer) {
            return Err(self.malformed("a page that is no file"));
        }
        Ok(answer)
    }

    fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.0.location(),
            what,
        }
    }

    fn no_file(&self) -> Failure {
        Failure::Refused {
            host: self.0.location(),
            refusal: crate::failure::Refusal::new(404, None, None),
        }
    }

    /// Writes under a name that is not taken; content-named files that are there stay if they are
    /// the same, and are replaced if something damaged them.
    fn store(&self, key: &FileKey, bytes: &[u8]) -> Result<(), Failure> {
        let failure = match self.0.put(key, bytes, Present::Kept) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let exists = failure.kind() == StorageErrorKind::AlreadyExists;
        if !exists || key.kind() == FileKind::Config {
            return Err(failure);
        }
        // A repetition of a write whose answer got lost, or a copy of the same content.
        let present = self.0.ask(key, self.0.object(Method::GET, key));
        match present {
            Ok(answer) if answer.body == bytes => Ok(()),
            Ok(_) => self.0.put(key, bytes, Present::Replaced),
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => {
                self.0.put(key, bytes, Present::Replaced)
            }
            Err(failure) => Err(failure),
        }
    }
}

impl<O: Objects> Storage for ObjectStorage<O> {
    fn location(&self) -> String {
        self.0.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        let created = self.0.create();
        created.map_err(|failure| self.failed("create", "the repository's place".into(), failure))
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.on("write", key, self.store(key, bytes))
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let answer = self.0.ask(key, self.0.object(Method::GET, key));
        self.on("read", key, answer.map(|answer| answer.body))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let part = match self.part(key, offset, length) {
            Ok(Part::Bytes(bytes)) => Ok(bytes),
            Ok(Part::Beyond) => Err(Failure::ShortRead(offset.saturating_add(length as u64))),
            Err(failure) => Err(failure),
        };
        self.on("read", key, part)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.on("find the size of", key, self.end(key))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        let listed = self.0.list(kind);
        listed.map_err(|failure| self.failed("list", kind.folder().to_owned(), failure))
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.on("delete", key, self.0.remove(key))
    }

    fn connections(&self) -> usize {
        self.0.connections()
    }

    fn settling(&self) -> Duration {
        SETTLING
    }

    fn now(&self) -> Option<Timestamp> {
        self.0.now().map(Into::into)
    }

    fn protection(&self) -> Option<Protection> {
        self.0.protection()
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        let until = self.0.protected_until(key);
        self.on("look up the protection of", key, until)
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        let done = self.0.protect_until(key, until);
        self.on("extend the protection of", key, done)
    }
}

impl<O> Debug for ObjectStorage<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectStorage")
    }
}

/// Whether an answer describes a file, which an empty page of some box in between does not.
pub(crate) fn is_of_a_file(answer: &Answer) -> bool {
    ["etag", "last-modified"]
        .iter()
        .any(|name| answer.header(name).is_some())
}

/// Start and whole size of `bytes 0-9/100`; the size may be unknown, `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

/// The path below the repository's root: `config`, `keys/…`, `data/ab/ab…`.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// The file of an object's whole name in a listing; none for names that are no ids, and for a
/// file at another place than where it would be looked for: what somebody moved away is not there.
pub(crate) fn file_at(kind: FileKind, root: &str, name: &str) -> Option<FileKey> {
    let key = file_of(kind, name.rsplit('/').next().unwrap_or_default())?;
    (name == below(root, &key.path())).then_some(key)
}

/// Whether a name is that of a folder of packs: the first byte of theirs.
pub(crate) fn is_pack_folder(name: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == 2 && name.bytes().all(is_digit)
}

/// The file of a name in a listing of one kind; none for names that are no ids.
pub(crate) fn file_of(kind: FileKind, name: &str) -> Option<FileKey> {
    if kind == FileKind::Config {
        return (name == "config").then_some(FileKey::CONFIG);
    }
    let name = name.as_bytes();
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if name.len() != 64 {
        return None;
    }
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(name.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(FileKey::new(kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers_are_read() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */100"), None);
        assert_eq!(content_range("5-9/100"), None);
    }

    #[test]
    fn only_names_of_files_count() {
        let key = FileKey::new(FileKind::Pack, [0xab; 32]);
        assert_eq!(file_of(FileKind::Pack, &key.name()), Some(key));
        for name in [
            "",
            "config",
            &"AB".repeat(32),
            &"a".repeat(63),
            &"a".repeat(65),
        ] {
            assert_eq!(file_of(FileKind::Pack, name), None, "{name}");
        }
        assert_eq!(file_of(FileKind::Config, "config"), Some(FileKey::CONFIG));
    }

    #[test]
    fn files_count_only_where_they_are_looked_for() {
        let pack = FileKey::new(FileKind::Pack, [0xab; 32]);
        let (name, path) = (pack.name(), pack.path());
        assert_eq!(file_at(FileKind::Pack, "", &path), Some(pack));
        assert_eq!(
            file_at(FileKind::Pack, "a/b", &format!("a/b/{path}")),
            Some(pack)
        );
        for moved in [
            format!("a/b/data/{name}"),
            format!("a/b/data/00/{name}"),
            format!("a/b/data/quarantine/{name}"),
            format!("a/b/data/ab/ab/{name}"),
            format!("a/b/index/{name}"),
            path,
        ] {
            assert_eq!(file_at(FileKind::Pack, "a/b", &moved), None, "{moved}");
        }
        let index = FileKey::new(FileKind::Index, [1; 32]);
        let moved = format!("index/old/{}", index.name());
        assert_eq!(file_at(FileKind::Index, "", &moved), None);
        assert_eq!(file_at(FileKind::Index, "", &index.path()), Some(index));
    }
}
