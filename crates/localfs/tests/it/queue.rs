//! A sink that does not open at once what it is given.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, Opened, SinkError, TreeSink};

/// Keeps contents unopened, and gives up after `room` files.
pub struct Queue {
    pub contents: Vec<(Vec<u8>, Box<dyn Content>)>,
    pub room: usize,
    pub cancel: Cancel,
    pub cancel_at: usize,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            contents: Vec::new(),
            room: usize::MAX,
            cancel: Cancel::default(),
            cancel_at: usize::MAX,
        }
    }

    fn take(&mut self, name: &str) -> Box<dyn Content> {
        let index = self
            .contents
            .iter()
            .position(|(n, _)| n == name.as_bytes())
            .unwrap();
        self.contents.swap_remove(index).1
    }

    pub fn open(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(name).open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn open_now(&mut self, name: &str) -> io::Result<Opened> {
        self.take(name).open_now()
    }

    /// Passes over each hole, `max` bytes at a time; how many bytes that was as well.
    pub fn open_passing_holes(&mut self, name: &str, max: u64) -> io::Result<(Vec<u8>, u64)> {
        let mut reader = self.take(name).open()?;
        let (mut bytes, mut passed) = (Vec::new(), 0);
        loop {
            let hole = reader.pass_hole(max)?;
            passed += hole;
            bytes.resize(bytes.len() + usize::try_from(hole).unwrap(), 0);
            if hole > 0 {
                continue;
            }
            let mut piece = [1; 10_000];
            match reader.read(&mut piece)? {
                0 => return Ok((bytes, passed)),
                read => bytes.extend(&piece[..read]),
            }
        }
    }
}

impl TreeSink for Queue {
    fn enter(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }
    fn leave(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        if self.contents.len() == self.room {
            return Err(SinkError("the sink is full".into()));
        }
        self.contents.push((file.name, content));
        if self.contents.len() == self.cancel_at {
            self.cancel.cancel();
        }
        Ok(())
    }
    fn stream(&mut self, _: Entry, _: &mut dyn Read) -> Result<(), SinkError> {
        Ok(())
    }
    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }
    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }
    fn fail(&mut self, name: &[u8], reason: String) {
        panic!("{}: {reason}", name.escape_ascii());
    }
}
