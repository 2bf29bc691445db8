//! Where tests flip bits between the steps of writing.
//!
//! Invariant: in anything but this crate's own unit tests nothing happens here.

/// Between which steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// A blob is compressed.
    Compressed,
    /// A blob is sealed.
    Sealed,
    /// A sealed blob was proven, and is about to go into its pack.
    Proven,
    /// A pack has its name, and is about to be uploaded.
    Pack,
    /// A file that is no pack is sealed.
    File,
}

/// Flips what a test asked for.
#[cfg(not(test))]
pub const fn touch(_stage: Stage, _bytes: &mut [u8]) {}

#[cfg(test)]
pub use tests::touch;

#[cfg(test)]
mod tests;
