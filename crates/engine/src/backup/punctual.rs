//! A sink whose files end with the run's deadline, and which tells of contents with digests.
//!
//! Files are read by the archiver's workers, behind the adapter's back: a large one would hold up
//! the commit long after the adapter was told to stop.
//!
//! Invariant: a file that is cut off fails as a whole; none is stored in part.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, Opened, Reader, SinkError, TreeSink};

/// See the module.
pub struct Punctual<'s> {
    /// Where everything goes.
    pub sink: &'s mut dyn TreeSink,
    /// Raised at the deadline.
    pub late: &'s Cancel,
    /// Told the digest of what was taken in, or soon will be.
    pub took: &'s dyn Fn(&[u8; 32]),
}

impl TreeSink for Punctual<'_> {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.sink.enter(directory)
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.sink.leave()
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let late = self.late.clone();
        self.sink
            .file(file, Box::new(PunctualContent { content, late }))
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let late = self.late.clone();
        self.sink.stream(
            file,
            &mut PunctualReader {
                reader: content,
                late,
            },
        )
    }

    fn reuse_content(&mut self, file: &Entry, sha256: &[u8; 32]) -> Result<bool, SinkError> {
        let reused = self.sink.reuse_content(file, sha256)?;
        if reused {
            (self.took)(sha256);
        }
        Ok(reused)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        sha256: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        let late = self.late.clone();
        let mut content = PunctualReader {
            reader: content,
            late,
        };
        let shared = self.sink.stream_by_digest(file, sha256, &mut content)?;
        if shared {
            (self.took)(sha256);
        }
        Ok(shared)
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.sink.node(entry)
    }

    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError> {
        self.sink.reuse(name)
    }

    fn fail(&mut self, name: &[u8], reason: String) {
        self.sink.fail(name, reason);
    }
}

struct PunctualReader<R> {
    reader: R,
    late: Cancel,
}

struct PunctualContent {
    content: Box<dyn Content>,
    late: Cancel,
}

impl Content for PunctualContent {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
        let Self { content, late } = *self;
        in_time(&late)?;
        let reader = content.open()?;
        Ok(Box::new(PunctualReader { reader, late }))
    }

    fn open_now(self: Box<Self>) -> io::Result<Opened> {
        let Self { content, late } = *self;
        in_time(&late)?;
        Ok(match content.open_now()? {
            Opened::Listed(reader) => Opened::Listed(Box::new(PunctualReader { reader, late })),
            Opened::Replaced(entry, reader) => {
                Opened::Replaced(entry, Box::new(PunctualReader { reader, late }))
            }
            Opened::Gone => Opened::Gone,
        })
    }
}

impl<R: Read> Read for PunctualReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        in_time(&self.late)?;
        self.reader.read(buffer)
    }
}

impl Reader for PunctualReader<Box<dyn Reader + Send>> {
    fn pass_hole(&mut self, max: u64) -> io::Result<u64> {
        in_time(&self.late)?;
        self.reader.pass_hole(max)
    }
}

fn in_time(late: &Cancel) -> io::Result<()> {
    match late.is_cancelled() {
        false => Ok(()),
        true => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "not finished within the run's deadline",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One hole, and no end.
    struct Hole;

    impl Read for Hole {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    impl Reader for Hole {
        fn pass_hole(&mut self, max: u64) -> io::Result<u64> {
            Ok(max)
        }
    }

    impl Content for Hole {
        fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
            Ok(self)
        }
    }

    fn opened(late: &Cancel) -> io::Result<Box<dyn Reader + Send>> {
        let (content, late) = (Box::new(Hole), late.clone());
        Box::new(PunctualContent { content, late }).open()
    }

    #[test]
    fn holes_are_passed_over_and_everything_ends_at_the_deadline() {
        let late = Cancel::default();
        let mut reader = opened(&late).unwrap();
        assert_eq!(reader.pass_hole(7).unwrap(), 7);
        assert_eq!(reader.read(&mut [1; 5]).unwrap(), 5);
        late.cancel();
        let refused = [
            reader.pass_hole(7).map(drop),
            reader.read(&mut [1; 5]).map(drop),
            opened(&late).map(drop),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }
}
