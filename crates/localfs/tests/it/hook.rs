//! A sink that calls a function for each file.

use std::error::Error;
use std::io::Read;

use refloat_model::entry::{Content, Entry, SinkError, TreeSink};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The function gets the file's name and may end the walk.
pub struct Hook<F>(F);

impl<F: FnMut(&[u8]) -> Outcome> Hook<F> {
    pub fn new(hook: F) -> Self {
        Self(hook)
    }
}

impl<F: FnMut(&[u8]) -> Outcome> TreeSink for Hook<F> {
    fn enter(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }
    fn leave(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn file(&mut self, file: Entry, _: Box<dyn Content>) -> Result<(), SinkError> {
        (self.0)(&file.name).map_err(SinkError)
    }
    fn stream(&mut self, _: Entry, _: &mut dyn Read) -> Result<(), SinkError> {
        panic!("a walk does not stream")
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
    fn fail(&mut self, _: &[u8], _: String) {}
}
