//! The known form of a tree, as restic and we write it.
//!
//! Invariant: as of the [scanner](crate::format::scan).

use std::borrow::Cow;

use super::decode::{NodeJson, Nodes, XattrJson};
use crate::format::scan::Scanner;
use crate::id::BlobId;

/// A tree's entries; none if it is of any other form.
pub(super) fn nodes(json: &[u8]) -> Option<Nodes> {
    let scanner = &mut Scanner::new(json)?;
    let mut nodes = Nodes::default();
    scanner.expect("{\"nodes\":")?;
    let _count = scanner.list(|scanner| node(scanner).map(|node| nodes.push(node)))?;
    scanner.expect("}")?;
    let _end_of_line = scanner.has("\n");
    scanner.is_at_end().then_some(nodes)
}

fn node<'a>(scanner: &mut Scanner<'a>) -> Option<NodeJson<'a>> {
    scanner.expect("{\"name\":")?;
    let name = scanner.string()?;
    scanner.expect(",\"type\":")?;
    let kind = scanner.string()?;
    let mode = number(scanner, ",\"mode\":")?;
    scanner.expect(",\"mtime\":")?;
    let mtime = scanner.string()?;
    scanner.expect(",\"atime\":")?;
    let atime = scanner.string()?;
    scanner.expect(",\"ctime\":")?;
    let ctime = scanner.string()?;
    // In the order in which they are written: each takes what comes next.
    let node = NodeJson {
        name: Cow::Borrowed(name),
        kind: Cow::Borrowed(kind),
        mode: u32::try_from(mode).ok()?,
        mtime: Cow::Borrowed(mtime),
        atime: Cow::Borrowed(atime),
        ctime: Cow::Borrowed(ctime),
        uid: u32::try_from(number(scanner, ",\"uid\":")?).ok()?,
        gid: u32::try_from(number(scanner, ",\"gid\":")?).ok()?,
        user: text(scanner, ",\"user\":")?,
        group: text(scanner, ",\"group\":")?,
        inode: number(scanner, ",\"inode\":")?,
        device_id: number(scanner, ",\"device_id\":")?,
        size: number(scanner, ",\"size\":")?,
        links: number(scanner, ",\"links\":")?,
        linktarget: text(scanner, ",\"linktarget\":")?,
        linktarget_raw: if scanner.has(",\"linktarget_raw\":") {
            Some(Cow::Borrowed(scanner.string()?))
        } else {
            None
        },
        extended_attributes: xattrs(scanner)?,
        generic_attributes: None,
        device: number(scanner, ",\"device\":")?,
        content: content(scanner)?,
        subtree: if scanner.has(",\"subtree\":") {
            Some(id(scanner)?)
        } else {
            None
        },
        error: text(scanner, ",\"error\":")?,
    };
    scanner.expect("}")?;
    Some(node)
}

/// The number behind a key; 0 without the key.
#[inline]
fn number(scanner: &mut Scanner<'_>, key: &'static str) -> Option<u64> {
    if scanner.has(key) {
        scanner.number()
    } else {
        Some(0)
    }
}

/// The text behind a key; empty without the key.
#[inline]
fn text<'a>(scanner: &mut Scanner<'a>, key: &'static str) -> Option<Cow<'a, str>> {
    let text = if scanner.has(key) {
        scanner.string()?
    } else {
        ""
    };
    Some(Cow::Borrowed(text))
}

fn id(scanner: &mut Scanner<'_>) -> Option<BlobId> {
    scanner.id().map(BlobId)
}

fn content(scanner: &mut Scanner<'_>) -> Option<Option<Vec<BlobId>>> {
    if !scanner.has(",\"content\":") || scanner.has("null") {
        return Some(None);
    }
    scanner.list(id).map(Some)
}

fn xattrs<'a>(scanner: &mut Scanner<'a>) -> Option<Vec<XattrJson<'a>>> {
    if !scanner.has(",\"extended_attributes\":") {
        return Some(Vec::new());
    }
    scanner.list(|scanner| {
        scanner.expect("{\"name\":")?;
        let name = Cow::Borrowed(scanner.string()?);
        scanner.expect(",\"value\":")?;
        let value = if scanner.has("null") {
            None
        } else {
            Some(Cow::Borrowed(scanner.string()?))
        };
        scanner.expect("}")?;
        Some(XattrJson { name, value })
    })
}
