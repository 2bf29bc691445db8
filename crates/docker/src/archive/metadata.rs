//! What a tar header knows of a file.
//!
//! Invariant: names of users are left out: they belong to the container, numbers are what counts.

use std::io::{self, Read};
use std::sync::Arc;

use refloat_model::entry::{Metadata, Xattr};
use refloat_model::time::Timestamp;

/// The PAX key prefix under which engines put extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Reads header and PAX records.
pub(super) fn metadata(tar_entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Metadata> {
    let mut modified = None;
    let mut xattrs = Vec::new();
    if let Some(records) = tar_entry.pax_extensions()? {
        for record in records {
            let record = record?;
            let key = record.key_bytes();
            if key == b"mtime" {
                modified = parse_time(record.value_bytes());
            } else if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                xattrs.push(Xattr {
                    name: name.to_vec(),
                    value: record.value_bytes().to_vec(),
                });
            }
        }
    }
    xattrs.sort();
    let header = tar_entry.header();
    let id = |number: u64| {
        u32::try_from(number).map_err(|_| io::Error::other("an owner's number is too large"))
    };
    let modified = match modified {
        Some(time) => time,
        None => Timestamp {
            seconds: i64::try_from(header.mtime()?).unwrap_or(0),
            nanoseconds: 0,
        },
    };
    Ok(Metadata {
        mode: header.mode()? & 0o7777,
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        user: Arc::from(""),
        group: Arc::from(""),
        modified,
        accessed: modified,
        changed: modified,
        inode: 0,
        device_id: 0,
        links: 1,
        xattrs,
    })
}

/// `1700000000.25`, also negative; none if it is no number.
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let mut nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        seconds = seconds.checked_sub(1)?;
        nanoseconds = 1_000_000_000 - nanoseconds;
    }
    Some(Timestamp {
        seconds,
        nanoseconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_fractions_on_both_sides_of_the_epoch() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("1700000000.25"), Some((1_700_000_000, 250_000_000)));
        assert_eq!(time("1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time("-1.75"), Some((-2, 250_000_000)));
        assert_eq!(time("never"), None);
    }
}
