//! A dump as a stream that ends well only if the dump is whole.
//!
//! Invariant: the end of the stream is an error unless the dump was accepted; so whoever stores
//! what is read cannot keep a dump that was cut.

use std::io::{self, Read};

use crate::end_check::{Accepted, DumpRejected, EndCheck};
use crate::recipe::Known;

const PIECE_BYTES: usize = 64 << 10;

/// Reads a dump command's standard output and judges it at its end.
///
/// What follows the dump without being part of it (the mark that ends a Redis transfer) is not
/// passed on.
pub struct CheckedDump<R, F> {
    output: R,
    /// The check, the question for the exit status and what is known beforehand, until the output has ended.
    running: Option<(EndCheck, F, Known)>,
    outcome: Option<Result<Accepted, DumpRejected>>,
    /// Bytes read and not passed on; those before `passed` are done with.
    held: Vec<u8>,
    passed: usize,
    /// How many of the last bytes may turn out not to belong to the dump.
    reserve: usize,
}

impl<R: Read, F: FnOnce() -> Option<i64>> CheckedDump<R, F> {
    pub(crate) fn new(check: EndCheck, output: R, exit_code: F, known: Known) -> Self {
        Self {
            output,
            reserve: check.surplus_bytes_max(),
            running: Some((check, exit_code, known)),
            outcome: None,
            held: Vec::new(),
            passed: 0,
        }
    }

    /// The judgement; none before the stream was read to its end.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Result<Accepted, DumpRejected>> {
        self.outcome.as_ref()
    }

    /// Reads on until something can be passed on or the output has ended.
    fn fill(&mut self) -> io::Result<()> {
        while self.held.len() - self.passed <= self.reserve {
            let Some((check, ..)) = &mut self.running else {
                return Ok(());
            };
            self.held.drain(..self.passed);
            self.passed = 0;
            let before = self.held.len();
            self.held.resize(before + PIECE_BYTES, 0);
            let read = self.output.read(&mut self.held[before..]);
            self.held
                .truncate(before + read.as_ref().map_or(0, |read| *read));
            check.push(&self.held[before..]);
            if read? == 0 {
                self.end();
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some((check, exit_code, known)) = self.running.take() else {
            return;
        };
        let mut outcome = check.finish(exit_code());
        match known {
            Known::Nothing => {}
            Known::Warnings(more) => {
                if let Ok(accepted) = &mut outcome {
                    accepted.warnings.extend(more);
                }
            }
            Known::Refused(why) => outcome = Err(DumpRejected::Refused { why }),
        }
        let surplus = outcome
            .as_ref()
            .map_or(0, |accepted| accepted.surplus_bytes);
        self.held.truncate(self.held.len() - surplus);
        self.reserve = 0;
        self.outcome = Some(outcome);
    }
}

impl<R: Read, F: FnOnce() -> Option<i64>> Read for CheckedDump<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.fill()?;
        if let Some(Err(rejected)) = &self.outcome {
            return Err(io::Error::other(rejected.clone()));
        }
        let ready = &self.held[self.passed..self.held.len() - self.reserve.min(self.held.len())];
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.passed += length;
        Ok(length)
    }
}

impl<R, F> std::fmt::Debug for CheckedDump<R, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedDump")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end_check::Marker;

    /// Gives its bytes in pieces of one size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len()).min(self.0.len());
            let (now, rest) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = rest;
            Ok(length)
        }
    }

    fn read(check: EndCheck, output: &[u8], size: usize) -> (Vec<u8>, Result<(), DumpRejected>) {
        let mut dump = CheckedDump::new(check, Pieces(output, size), || Some(0), Known::Nothing);
        let (mut passed_on, mut buffer) = (Vec::new(), [0; 13]);
        let failed = loop {
            match dump.read(&mut buffer) {
                Ok(0) => break false,
                Ok(length) => passed_on.extend_from_slice(&buffer[..length]),
                Err(_) => break true,
            }
        };
        let outcome = dump.outcome().unwrap().clone();
        assert_eq!(failed, outcome.is_err());
        assert_eq!(
            dump.read(&mut buffer).is_err(),
            failed,
            "the end stays the end"
        );
        (passed_on, outcome.map(|_| ()))
    }

    #[test]
    fn a_whole_dump_is_passed_on_without_the_mark_behind_it() {
        let body = b"REDIS0010 keys and values, keys and values, keys and values\xff";
        let mut crc = crate::crc64::Crc64::jones();
        crc.update(body);
        let dump = [body.as_slice(), &crc.sum().to_le_bytes()].concat();
        let marked = [dump.as_slice(), &[b'f'; 40]].concat();
        for size in [1, 39, 40, 41, 100_000] {
            for output in [&dump, &marked] {
                let (passed_on, outcome) = read(EndCheck::rdb(), output, size);
                assert_eq!((passed_on, outcome), (dump.clone(), Ok(())), "{size}");
            }
            let (_, cut) = read(EndCheck::rdb(), &dump[..60], size);
            assert!(cut.is_err());
        }
    }

    #[test]
    fn a_cut_dump_ends_with_an_error() {
        let dump = b"INSERT;\n-- Dump completed\n";
        let check = || EndCheck::sql(Marker::Completed);
        assert_eq!(read(check(), dump, 5), (dump.to_vec(), Ok(())));
        let missing = DumpRejected::NoEndMarker {
            expected: "-- Dump completed",
        };
        assert_eq!(
            read(check(), &dump[..12], 5),
            (dump[..12].to_vec(), Err(missing))
        );
        assert_eq!(
            read(check(), b"", 5),
            (Vec::new(), Err(DumpRejected::Empty))
        );
    }
}
