//! Plain SQL dumps, which end with a comment.
//!
//! Invariant: where the head opens psql's restricted mode, the tail closes it with the same key;
//! a comment line inside a row cannot stand in for the end.

use super::DumpRejected;

/// How much of the head may hold the `\restrict` line.
const HEAD_BYTES_MAX: usize = 4096;
/// How much of the tail may hold the end marker: a few short lines.
const TAIL_BYTES_MAX: usize = 1024;

/// The comment that a whole dump ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marker {
    /// `pg_dump`.
    Database,
    /// `pg_dumpall`.
    Cluster,
    /// `mariadb-dump` and `mysqldump`.
    Completed,
}

impl Marker {
    const fn text(self) -> &'static str {
        match self {
            Self::Database => "-- PostgreSQL database dump complete",
            Self::Cluster => "-- PostgreSQL database cluster dump complete",
            Self::Completed => "-- Dump completed",
        }
    }
}

#[derive(Debug)]
pub(super) struct Sql {
    marker: Marker,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Sql {
    pub(super) const fn new(marker: Marker) -> Self {
        Self {
            marker,
            head: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        let missing = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(&piece[..piece.len().min(missing)]);
        let piece = &piece[piece.len().saturating_sub(TAIL_BYTES_MAX)..];
        self.tail.extend_from_slice(piece);
        if self.tail.len() > 2 * TAIL_BYTES_MAX {
            self.tail.drain(..self.tail.len() - TAIL_BYTES_MAX);
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub(super) fn finish(self) -> Result<Vec<&'static str>, DumpRejected> {
        let missing = DumpRejected::NoEndMarker {
            expected: self.marker.text(),
        };
        let tail = String::from_utf8_lossy(&self.tail);
        if !tail.ends_with('\n') {
            return Err(missing);
        }
        let mut last_lines = tail.lines().rev().filter(|line| !line.is_empty());
        if self.marker == Marker::Completed {
            let whole = last_lines
                .next()
                .is_some_and(|l| l.starts_with(self.marker.text()));
            return if whole { Ok(Vec::new()) } else { Err(missing) };
        }
        // `\unrestrict KEY` stands after the comment in pg_dump's output, before in pg_dumpall's.
        let last_lines: Vec<&str> = last_lines.take(4).collect();
        let comments: Vec<&str> = last_lines
            .iter()
            .copied()
            .filter(|line| !line.starts_with("\\unrestrict "))
            .take(3)
            .collect();
        if comments != ["--", self.marker.text(), "--"] {
            return Err(missing);
        }
        let head = String::from_utf8_lossy(&self.head);
        match head
            .lines()
            .find_map(|line| line.strip_prefix("\\restrict "))
        {
            None => Ok(vec![UNRESTRICTED]),
            Some(key)
                if last_lines
                    .iter()
                    .any(|l| l.strip_prefix("\\unrestrict ") == Some(key)) =>
            {
                Ok(Vec::new())
            }
            Some(_) => Err(missing),
        }
    }
}

/// CVE-2025-8714: names in a dump could break out of comments into psql's meta-commands.
const UNRESTRICTED: &str = "the dump was written by a PostgreSQL older than August 2025 and does \
    not switch psql to restricted mode; restore it only if you trust the server it came from";
