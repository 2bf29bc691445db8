//! A plan for people.
//!
//! Invariant: sizes are exact, in bytes; front-ends that round do so themselves.

use super::PrunePlan;

impl std::fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = &self.statistics;
        let mut line = |what: &str, count: u64, bytes: u64| {
            writeln!(f, "{what:<34}{count:>12}{bytes:>20} bytes")
        };
        line("packs", s.packs, s.pack_bytes)?;
        line("blobs in use", s.used_blobs, s.used_bytes)?;
        line("blobs not in use", s.unused_blobs, s.unused_bytes)?;
        line("repeated blobs", s.duplicate_blobs, s.duplicate_bytes)?;
        line("packs to delete", self.delete.len() as u64, s.delete_bytes)?;
        line("packs to repack", self.repack.len() as u64, s.repack_bytes)?;
        let unindexed = self.delete_unindexed.len() as u64;
        line(
            "packs without index to delete",
            unindexed,
            s.delete_unindexed_bytes,
        )?;
        let freed = (s.delete_bytes + s.repack_bytes + s.delete_unindexed_bytes)
            .saturating_sub(s.copy_bytes);
        writeln!(f, "space that is freed: {freed} bytes")?;
        writeln!(f, "waste that stays: {} bytes", s.remaining_unused_bytes)?;
        let young = s.young_unindexed;
        writeln!(f, "young packs without index that stay: {young}")
    }
}
