//! Proving that a captured snapshot holds what the cluster holds.
//!
//! The stream is kept on disk beside being passed on; then the hash of its history is computed and
//! members are asked for theirs at the same revision.
//!
//! Invariant: a proof that cannot be made is named; one that fails refuses the snapshot.

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;

use crate::bolt::{Bolt, BoltError, SizedFile};
use crate::client::{Client, Connection, HashKvResponse};
use crate::error::{EtcdError, chain};
use crate::history_hash::HistoryHash;
use crate::mvcc::HistoryError;
use crate::spool::Kept;
use crate::survey::Survey;
use crate::trailer::HASH_BYTES;

/// The revision that means the newest.
const PRESENT: i64 = 0;
/// How often a member that lags is asked.
const ATTEMPTS_MAX: u32 = 8;
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// What came of comparing a file with members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// So many members have the file's hash at its newest revision.
    Equal {
        /// How many.
        members: usize,
        /// The hash.
        hash: u32,
        /// The revision.
        revision: u64,
    },
    /// It could not be made, for this reason.
    NotMade(String),
    /// A member has another hash: the file, or the member, is wrong.
    Differs(String),
}

impl Proof {
    /// For people.
    #[must_use]
    pub fn finding(&self, subject: &str) -> Finding {
        match self {
            Self::Equal {
                members,
                hash,
                revision,
            } => Finding::note(
                subject,
                format!(
                    "the file's own history has the hash {hash:08x} at revision {revision}, that of \
                     {members} members asked"
                ),
            ),
            Self::NotMade(why) => Finding::warning(
                subject,
                format!("the file's own history was not compared with the members': {why}"),
            ),
            Self::Differs(why) => Finding::error(subject, why),
        }
    }
}

/// Passes a stream on and keeps it.
pub struct Keeping<R> {
    inner: R,
    kept: Result<Kept, String>,
}

impl<R: Read> Keeping<R> {
    /// Keeps what comes from `inner` in a nameless file in `folder`.
    pub fn new(inner: R, folder: &Path) -> Self {
        let kept = Kept::new(folder);
        Self {
            inner,
            kept: kept.map_err(|error| no_room(folder, &error)),
        }
    }

    /// Compares what was kept with the members.
    ///
    /// # Errors
    /// Somebody asked to stop.
    pub fn prove(
        self,
        seen: &Survey,
        client: &Client,
        cancel: &Cancel,
    ) -> Result<Proof, EtcdError> {
        let kept = match self.kept {
            Ok(kept) => kept,
            Err(why) => return Ok(Proof::NotMade(why)),
        };
        let bolt = match open(kept) {
            Ok(bolt) => bolt,
            Err(proof) => return Ok(proof),
        };
        compare(&bolt, seen, client, cancel)
    }
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Ok(kept) = &mut self.kept {
            let written = kept.file.write_all(buffer.get(..count).unwrap_or_default());
            kept.length += count as u64;
            if let Err(error) = written {
                // The snapshot itself does not depend on it; the room is given back at once.
                self.kept = Err(format!("its copy for the proof: {error}"));
            }
        }
        Ok(count)
    }
}

fn no_room(folder: &Path, error: &io::Error) -> String {
    format!("cannot keep a copy in {}: {error}", folder.display())
}

fn open(kept: Kept) -> Result<Bolt<SizedFile>, Proof> {
    let length = kept.length.saturating_sub(HASH_BYTES as u64);
    let file = SizedFile {
        file: kept.file,
        length,
    };
    Bolt::open(file).map_err(|error| broken(&error.into()))
}

/// What it means that the history cannot be read from our copy: that the copy's disk fails says
/// nothing of the snapshot.
fn broken(error: &HistoryError) -> Proof {
    let why = chain(error);
    match error {
        HistoryError::Bolt(BoltError::Read { .. }) => {
            Proof::NotMade(format!("its copy for the proof: {why}"))
        }
        _ => Proof::Differs(format!("the file: {why}")),
    }
}

fn compare(
    bolt: &Bolt<SizedFile>,
    seen: &Survey,
    client: &Client,
    cancel: &Cancel,
) -> Result<Proof, EtcdError> {
    let history = match HistoryHash::read(bolt) {
        Ok(history) => history,
        Err(error) => return Ok(broken(&error)),
    };
    let mut equal = 0;
    let mut hash = 0;
    let mut why = "no member answers".to_owned();
    for (id, answer) in &seen.answers {
        let theirs = match ask(client, &answer.connection, &history, cancel) {
            Ok(Some(theirs)) => theirs,
            Ok(None) => {
                why = format!(
                    "{} lags, or was compacted beyond the file's end",
                    seen.title(*id)
                );
                continue;
            }
            Err(EtcdError::Cancelled) => return Err(EtcdError::Cancelled),
            Err(error) => {
                why = chain(&error);
                continue;
            }
        };
        let compacted = u64::try_from(theirs.compact_revision).unwrap_or_default();
        hash = match history.at(compacted) {
            Ok(hash) => hash,
            Err(error) => return Ok(broken(&error)),
        };
        if hash != theirs.hash && history.is_dead() {
            why = "no key lives, and a compaction is under way".to_owned();
            continue;
        }
        if hash != theirs.hash {
            return Ok(Proof::Differs(format!(
                "the file's history has the hash {hash:08x} at revision {}, that of {} has {:08x}",
                history.newest,
                seen.title(*id),
                theirs.hash
            )));
        }
        equal += 1;
    }
    if equal == 0 {
        return Ok(Proof::NotMade(why));
    }
    Ok(Proof::Equal {
        members: equal,
        hash,
        revision: history.newest,
    })
}

/// The hash of a member at the file's newest revision; none if the member is not there, or dropped
/// that meanwhile.
fn ask(
    client: &Client,
    connection: &Connection,
    history: &HistoryHash<'_, SizedFile>,
    cancel: &Cancel,
) -> Result<Option<HashKvResponse>, EtcdError> {
    let newest = i64::try_from(history.newest).unwrap_or(i64::MAX);
    // A hash of before the file's compaction covers what the file has not any more.
    let fits = |answer: &HashKvResponse| {
        u64::try_from(answer.compact_revision).unwrap_or_default() >= history.compacted
    };
    for _ in 0..ATTEMPTS_MAX {
        match client.hash_kv(connection, newest, cancel) {
            Ok(answer) if fits(&answer) => return Ok(Some(answer)),
            Ok(_) => {}
            Err(error) if error.is_out_of_range() => {}
            Err(error) => return Err(error),
        }
        // Compacted up to its end, as after a restore: the present, if that is still the file's.
        let present = client.hash_kv(connection, PRESENT, cancel)?;
        let revision = present.header.unwrap_or_default().revision;
        if revision == newest {
            return Ok(Some(present).filter(fits));
        }
        if revision > newest {
            return Ok(None);
        }
        // It lags behind the member that the file is of.
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use refloat_testkit::etcd::{Programs, Server, Start, debian};

    use super::*;
    use crate::client::{Access, SnapshotStream};
    use crate::spool;
    use crate::survey::survey;

    fn server(programs: &Programs, folder: &Path, value: &str) -> Server {
        let server = Start::new(programs, "only", folder).run();
        server.ctl(&["put", "/registry/a", value]);
        server
    }

    fn file(client: &std::sync::Arc<Client>, server: &Server, folder: &Path) -> Bolt<SizedFile> {
        let connection = client.connection(&server.client).unwrap();
        let cancel = Cancel::default();
        let stream = SnapshotStream::open(std::sync::Arc::clone(client), &connection, &cancel);
        spool::open(stream.unwrap(), folder).unwrap()
    }

    #[test]
    fn a_copy_that_cannot_be_read_says_nothing_of_the_snapshot() {
        let root = tempfile::tempdir().unwrap();
        // Written only: every read fails.
        let file = std::fs::File::create(root.path().join("copy")).unwrap();
        file.set_len(1 << 20).unwrap();
        let length = 1 << 20;
        let proof = open(Kept { file, length }).err().unwrap();
        assert!(matches!(proof, Proof::NotMade(_)), "{proof:?}");
        // Readable, and no database.
        let file = std::fs::File::open(root.path().join("copy")).unwrap();
        let proof = open(Kept { file, length }).err().unwrap();
        assert!(matches!(proof, Proof::Differs(_)), "{proof:?}");
        let source = io::Error::from_raw_os_error(5);
        let read = BoltError::Read { page: 7, source };
        assert!(matches!(broken(&read.into()), Proof::NotMade(_)));
    }

    #[test]
    fn a_file_of_another_history_is_refused() {
        let Some(programs) = debian() else { return };
        let root = tempfile::tempdir().unwrap();
        let ours = server(&programs, &root.path().join("ours"), "1");
        let theirs = server(&programs, &root.path().join("theirs"), "2");
        let client = std::sync::Arc::new(Client::new(&Access::default()).unwrap());
        let cancel = Cancel::default();
        let endpoints = [ours.client.clone()];
        let seen = survey(&client, "prod", &endpoints, &cancel).unwrap();
        let proof = |server: &Server| {
            let bolt = file(&client, server, root.path());
            compare(&bolt, &seen, &client, &cancel).unwrap()
        };
        assert!(matches!(proof(&ours), Proof::Equal { members: 1, .. }));
        let Proof::Differs(why) = proof(&theirs) else {
            panic!("another history was taken");
        };
        assert!(why.contains("at revision 2, that of only has"), "{why}");
        // The file is newer than the cluster: nobody can say.
        theirs.ctl(&["put", "/registry/a", "3"]);
        assert!(matches!(proof(&theirs), Proof::NotMade(_)));
    }
}
