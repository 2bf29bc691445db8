//! Writing trees.
//!
//! Invariant: no field is written that restic would not write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::entry::{EntryKind, Metadata};

use super::{Foreign, Node, go_mode};
use crate::format::go::{push_json_string, push_time, quote};
use crate::id::push_hex;

/// Encodes nodes that are sorted by name.
#[must_use]
pub fn encode<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Vec<u8> {
    let nodes = nodes.into_iter();
    let mut out = Vec::with_capacity(32 + nodes.size_hint().0 * 512);
    out.extend_from_slice(b"{\"nodes\":[");
    for (index, node) in nodes.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_node(&mut out, node);
    }
    out.extend_from_slice(b"]}\n");
    out
}

fn push_node(out: &mut Vec<u8>, node: &Node) {
    let none = Foreign::default();
    let foreign = node.foreign.as_deref().unwrap_or(&none);
    let metadata = &node.entry.metadata;
    out.extend_from_slice(b"{\"name\":");
    push_json_string(out, &quote(&node.entry.name));
    out.extend_from_slice(b",\"type\":");
    let word = foreign
        .kind
        .as_deref()
        .unwrap_or(type_word(&node.entry.kind));
    push_json_string(out, word.as_bytes());
    push_number(
        out,
        b",\"mode\":",
        foreign.mode.unwrap_or(go_mode(&node.entry.kind, metadata)),
    );
    push_times(out, metadata, foreign);
    out.extend_from_slice(b",\"uid\":");
    push_decimal(out, metadata.uid.into());
    out.extend_from_slice(b",\"gid\":");
    push_decimal(out, metadata.gid.into());
    push_text(out, b",\"user\":", metadata.user.as_bytes());
    push_text(out, b",\"group\":", metadata.group.as_bytes());
    push_number(out, b",\"inode\":", metadata.inode);
    push_number(out, b",\"device_id\":", metadata.device_id);
    let (size, target, device) = match &node.entry.kind {
        EntryKind::File { size } => (*size, &*foreign.link_target, foreign.device),
        EntryKind::Symlink { target } => (foreign.size, target.as_slice(), foreign.device),
        EntryKind::BlockDevice { device } | EntryKind::CharacterDevice { device } => {
            (foreign.size, &*foreign.link_target, *device)
        }
        _ => (foreign.size, &*foreign.link_target, foreign.device),
    };
    push_number(out, b",\"size\":", size);
    push_number(out, b",\"links\":", metadata.links);
    push_text(out, b",\"linktarget\":", target);
    if std::str::from_utf8(target).is_err() {
        push_text(
            out,
            b",\"linktarget_raw\":",
            BASE64.encode(target).as_bytes(),
        );
    }
    push_xattrs(out, metadata);
    if let Some(attributes) = &foreign.generic_attributes {
        out.extend_from_slice(b",\"generic_attributes\":");
        out.extend_from_slice(attributes.as_bytes());
    }
    push_number(out, b",\"device\":", device);
    push_content(out, node);
    if let Some(subtree) = &node.subtree {
        out.extend_from_slice(b",\"subtree\":\"");
        push_hex(out, &subtree.0);
        out.push(b'"');
    }
    push_text(out, b",\"error\":", foreign.error.as_bytes());
    out.push(b'}');
}

fn push_times(out: &mut Vec<u8>, metadata: &Metadata, foreign: &Foreign) {
    let times = [metadata.modified, metadata.accessed, metadata.changed];
    for (index, name) in ["mtime", "atime", "ctime"].into_iter().enumerate() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        match &foreign.times {
            Some(texts) => out.extend_from_slice(texts[index].as_bytes()),
            None => push_time(out, times[index]),
        }
        out.push(b'"');
    }
}

fn push_xattrs(out: &mut Vec<u8>, metadata: &Metadata) {
    if metadata.xattrs.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"extended_attributes\":[");
    for (index, attribute) in metadata.xattrs.iter().enumerate() {
        out.extend_from_slice(if index > 0 {
            b",{\"name\":"
        } else {
            b"{\"name\":"
        });
        push_json_string(out, &attribute.name);
        out.extend_from_slice(b",\"value\":\"");
        out.extend_from_slice(BASE64.encode(&attribute.value).as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
}

fn push_content(out: &mut Vec<u8>, node: &Node) {
    out.extend_from_slice(b",\"content\":");
    if !matches!(node.entry.kind, EntryKind::File { .. }) {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'[');
    for (index, blob) in node.content.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        push_hex(out, &blob.0);
        out.push(b'"');
    }
    out.push(b']');
}

/// Go's `omitempty` for numbers.
fn push_number(out: &mut Vec<u8>, name: &[u8], value: impl Into<u64>) {
    let value = value.into();
    if value != 0 {
        out.extend_from_slice(name);
        push_decimal(out, value);
    }
}

/// Go's `omitempty` for strings.
fn push_text(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    if !text.is_empty() {
        out.extend_from_slice(name);
        push_json_string(out, text);
    }
}

fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// restic's word for a kind.
pub(super) const fn type_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "dir",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::BlockDevice { .. } => "dev",
        EntryKind::CharacterDevice { .. } => "chardev",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// The `mode` restic stores for an entry.
pub(super) const fn go_mode(kind: &EntryKind, metadata: &Metadata) -> u32 {
    let mut mode = metadata.mode & 0o777;
    if metadata.mode & 0o4000 != 0 {
        mode |= go_mode::SET_UID;
    }
    if metadata.mode & 0o2000 != 0 {
        mode |= go_mode::SET_GID;
    }
    if metadata.mode & 0o1000 != 0 {
        mode |= go_mode::STICKY;
    }
    mode | match kind {
        EntryKind::File { .. } => 0,
        EntryKind::Directory => go_mode::DIRECTORY,
        EntryKind::Symlink { .. } => go_mode::SYMLINK,
        EntryKind::BlockDevice { .. } => go_mode::DEVICE,
        EntryKind::CharacterDevice { .. } => go_mode::DEVICE | go_mode::CHARACTER_DEVICE,
        EntryKind::Fifo => go_mode::FIFO,
        EntryKind::Socket => go_mode::SOCKET,
    }
}
