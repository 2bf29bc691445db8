//! SHA-256 by the library: for processors without SHA instructions, and other architectures.
//!
//! Invariant: the same results as every other way.

use aws_lc_rs::digest::{Context, SHA256};

#[derive(Clone)]
pub struct Portable(Context);

impl Portable {
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}
