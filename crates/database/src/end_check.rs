//! Is a dump whole? Decided from its bytes as they stream by and the producer's exit status.
//!
//! An exec can be cut and still end with status 0; a producer can print everything and fail. So
//! both are asked for, each with its own rejection.
//!
//! Invariant: memory is bounded whatever is pushed; the pieces' sizes do not matter.

mod mongo_archive;
mod rdb;
mod sql;

pub(crate) use sql::Marker;

use mongo_archive::MongoArchive;
use rdb::Rdb;
use sql::Sql;

/// Watches one dump go by.
#[derive(Debug)]
pub(crate) struct EndCheck {
    bytes: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Sql(Sql),
    Rdb(Box<Rdb>),
    MongoArchive(Box<MongoArchive>),
}

/// A dump that may be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Its length.
    pub bytes: u64,
    /// How many bytes followed that are not part of it.
    pub(crate) surplus_bytes: usize,
    /// What a person should know of it, for findings.
    pub warnings: Vec<String>,
}

/// Why a dump may not be kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DumpRejected {
    /// The producer failed.
    #[error("the dump command ended with exit status {code}")]
    ExitStatus {
        /// Its status.
        code: i64,
    },
    /// Nobody knows how the producer ended.
    #[error("the dump command's exit status is not known")]
    ExitUnknown,
    /// There is no dump of it, or none that a restore could use.
    #[error("{why}")]
    Refused {
        /// What is lacking, and what there is instead.
        why: String,
    },
    /// The producer succeeded and printed nothing.
    #[error("the dump is empty")]
    Empty,
    /// The bytes are something else from the beginning on.
    #[error("the output is not {expected}")]
    NotADump {
        /// What was expected.
        expected: &'static str,
    },
    /// It may be whole, and nobody can tell within the memory that there is for it.
    #[error(
        "the dump has more names of collections than {mebibytes} MiB hold, which is what can be checked"
    )]
    TooManyNames {
        /// What names may take.
        mebibytes: usize,
    },
    /// The end is missing: the stream was cut.
    #[error("the dump has no end: {expected} is missing")]
    NoEndMarker {
        /// What a whole dump ends with.
        expected: &'static str,
    },
    /// The end is there, and the bytes before it were changed or lost.
    #[error("the dump's checksum is wrong: recorded {recorded:016x}, computed {computed:016x}")]
    Checksum {
        /// The sum in the dump.
        recorded: u64,
        /// The sum of what arrived.
        computed: u64,
    },
}

impl EndCheck {
    pub(crate) fn sql(marker: Marker) -> Self {
        Self::of(Form::Sql(Sql::new(marker)))
    }

    pub(crate) fn rdb() -> Self {
        Self::of(Form::Rdb(Box::new(Rdb::new())))
    }

    pub(crate) fn mongo_archive() -> Self {
        Self::of(Form::MongoArchive(Box::new(MongoArchive::new())))
    }

    fn of(form: Form) -> Self {
        Self { bytes: 0, form }
    }

    /// How many bytes may follow the dump without being part of it.
    pub(crate) const fn surplus_bytes_max(&self) -> usize {
        match self.form {
            Form::Rdb(_) => rdb::MARK_BYTES,
            Form::Sql(_) | Form::MongoArchive(_) => 0,
        }
    }

    /// Takes the next piece of the dump in.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match &mut self.form {
            Form::Sql(sql) => sql.push(piece),
            Form::Rdb(rdb) => rdb.push(piece),
            Form::MongoArchive(archive) => archive.push(piece),
        }
    }

    /// How many bytes of the dump are held in memory.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Sql(sql) => sql.held_bytes(),
            Form::Rdb(rdb) => rdb.held_bytes(),
            Form::MongoArchive(archive) => archive.held_bytes(),
        }
    }

    /// Decides. `exit_code` is none where the runtime did not say.
    ///
    /// # Errors
    /// The dump may not be kept.
    pub(crate) fn finish(self, exit_code: Option<i64>) -> Result<Accepted, DumpRejected> {
        match exit_code {
            None => return Err(DumpRejected::ExitUnknown),
            Some(0) => {}
            Some(code) => return Err(DumpRejected::ExitStatus { code }),
        }
        if self.bytes == 0 {
            return Err(DumpRejected::Empty);
        }
        let (surplus_bytes, warnings) = match self.form {
            Form::Sql(sql) => (0, sql.finish()?),
            Form::Rdb(rdb) => rdb.finish()?,
            Form::MongoArchive(archive) => (0, archive.finish()?),
        };
        Ok(Accepted {
            bytes: self.bytes - surplus_bytes as u64,
            surplus_bytes,
            warnings: warnings.into_iter().map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
