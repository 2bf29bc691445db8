//! Where large memory begins to be read into.

/// What stays unused before it, in bytes: a line of the cache.
///
/// An allocator that maps large memory by itself gives what begins 16 bytes behind a page. Whoever reads the beginning of
/// a file into that lets the kernel copy whole pages to 16 bytes behind a page, for which AMD's processors (Zen 3
/// was measured) take five times as long as for 32 bytes behind it and all places after (ADR 0031).
pub const LEAD_BYTES: usize = 64;
