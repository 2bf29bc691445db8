//! Redis' RDB: `REDIS` + version, opcodes, 0xFF, CRC-64/Jones of all before, little endian.
//!
//! A server that sends its snapshot without a file of its own (`repl-diskless-sync`, the default
//! since Redis 7) ends the transfer with a mark of 40 hexadecimal digits, and `redis-cli --rdb -`
//! lets the mark through to standard output. It must not be stored: a server that loads the file
//! as the base of its append-only file refuses to start with anything behind the checksum.
//!
//! Invariant: the last bytes are held back until it is known which of them are end and mark.

use super::DumpRejected;
use crate::crc64::Crc64;

const MAGIC: &[u8; 5] = b"REDIS";
const END_OF_FILE: u8 = 0xff;
const SUM_BYTES: usize = 8;
pub(super) const MARK_BYTES: usize = 40;
const HELD_BYTES: usize = SUM_BYTES + MARK_BYTES;

#[derive(Debug)]
pub(super) struct Rdb {
    magic: Vec<u8>,
    crc: Crc64,
    /// The last byte that `crc` has seen.
    last: u8,
    /// The bytes after it: at least [`HELD_BYTES`], as soon as there are so many.
    held: Vec<u8>,
}

impl Rdb {
    pub(super) const fn new() -> Self {
        Self {
            magic: Vec::new(),
            crc: Crc64::jones(),
            last: 0,
            held: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        let missing = MAGIC.len() - self.magic.len();
        self.magic
            .extend_from_slice(&piece[..piece.len().min(missing)]);
        self.held.extend_from_slice(piece);
        let passed = self.held.len().saturating_sub(HELD_BYTES);
        if let Some(last) = self.held[..passed].last() {
            self.last = *last;
            self.crc.update(&self.held[..passed]);
            self.held.drain(..passed);
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.magic.len() + self.held.len()
    }

    /// The length of the mark and the warnings.
    pub(super) fn finish(mut self) -> Result<(usize, Vec<&'static str>), DumpRejected> {
        if self.magic != MAGIC {
            return Err(DumpRejected::NotADump {
                expected: "an RDB file of Redis",
            });
        }
        if let Some((sum, mark)) = self.held.split_first_chunk::<SUM_BYTES>()
            && self.last == END_OF_FILE
            && mark.len() == MARK_BYTES
            && mark.iter().all(u8::is_ascii_hexdigit)
        {
            let warnings = judge(u64::from_le_bytes(*sum), self.crc.sum())?;
            return Ok((MARK_BYTES, warnings));
        }
        let missing = DumpRejected::NoEndMarker {
            expected: "the end-of-file code with its checksum",
        };
        let Some((rest, sum)) = self.held.split_last_chunk::<SUM_BYTES>() else {
            return Err(missing);
        };
        if rest.last().unwrap_or(&self.last) != &END_OF_FILE {
            return Err(missing);
        }
        self.crc.update(rest);
        Ok((0, judge(u64::from_le_bytes(*sum), self.crc.sum())?))
    }
}

fn judge(recorded: u64, computed: u64) -> Result<Vec<&'static str>, DumpRejected> {
    if recorded == 0 {
        return Ok(vec![
            "the server writes no checksums (rdbchecksum no): only the end of the dump was checked",
        ]);
    }
    if recorded == computed {
        Ok(Vec::new())
    } else {
        Err(DumpRejected::Checksum { recorded, computed })
    }
}
