//! Reading trees.
//!
//! Invariant: a decoded tree keeps the invariant of trees, whoever wrote the bytes.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::entry::{Entry, EntryKind, Metadata, Xattr};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::is_valid_name;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::encode::{go_mode, type_word};
use super::{Foreign, Node, TREE_BYTES_MAX, go_mode as bits, scan};
use crate::format::go::{InvalidQuote, push_time, unquote};
use crate::id::BlobId;

/// Why bytes are no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// More bytes than any tree has.
    #[error("the tree has {0} bytes, more than the limit of {TREE_BYTES_MAX}")]
    TooLarge(usize),
    /// No JSON, or not of the right shape.
    #[error("the tree is malformed")]
    Json(#[from] serde_json::Error),
    /// A name's escapes are invalid.
    #[error(transparent)]
    Quote(#[from] InvalidQuote),
    /// A name cannot be one path component.
    #[error("the entry name {0:?} cannot stand in a directory")]
    InvalidName(String),
    /// Names are not sorted, or one is there twice.
    #[error("the entry {0:?} is out of order or there twice")]
    Unordered(String),
    /// A directory without a tree.
    #[error("the directory {0:?} has no subtree")]
    NoSubtree(String),
    /// A time that is none.
    #[error("{0:?} is no time")]
    InvalidTime(String),
    /// Base64 that is none.
    #[error("the link target or attribute of {0:?} is not base64")]
    InvalidBase64(String),
}

#[derive(Deserialize)]
struct TreeJson {
    nodes: Option<Nodes>,
}

/// Entries, each made from its JSON as soon as that was read: it is several times as large.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    names: Names,
    /// The first that is no valid entry; that the whole is valid JSON is looked at all the same.
    failure: Option<TreeError>,
}

impl Nodes {
    pub(super) fn push(&mut self, raw: NodeJson<'_>) {
        if self.failure.is_none() {
            self.failure = self.try_push(raw).err();
        }
    }

    fn try_push(&mut self, raw: NodeJson<'_>) -> Result<(), TreeError> {
        let node = node(raw, &mut self.names)?;
        let last = self.nodes.last();
        if last.is_some_and(|last| last.name() >= node.name()) {
            return Err(TreeError::Unordered(lossy(node.name())));
        }
        self.nodes.push(node);
        Ok(())
    }

    fn finish(self) -> Result<Vec<Node>, TreeError> {
        match self.failure {
            None => Ok(self.nodes),
            Some(failure) => Err(failure),
        }
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NodesVisitor)
    }
}

struct NodesVisitor;

impl<'de> Visitor<'de> for NodesVisitor {
    type Value = Nodes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
        let mut nodes = Nodes::default();
        while let Some(raw) = list.next_element::<NodeJson<'de>>()? {
            nodes.push(raw);
        }
        Ok(nodes)
    }
}

#[derive(Deserialize)]
pub(super) struct NodeJson<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(default)]
    pub(super) mode: u32,
    #[serde(borrow)]
    pub(super) mtime: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) atime: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) ctime: Cow<'a, str>,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
    #[serde(borrow, default)]
    pub(super) user: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) group: Cow<'a, str>,
    #[serde(default)]
    pub(super) inode: u64,
    #[serde(default)]
    pub(super) device_id: u64,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) links: u64,
    #[serde(borrow, default)]
    pub(super) linktarget: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) linktarget_raw: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) extended_attributes: Vec<XattrJson<'a>>,
    #[serde(borrow, default)]
    pub(super) generic_attributes: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) device: u64,
    #[serde(default)]
    pub(super) content: Option<Vec<BlobId>>,
    #[serde(default)]
    pub(super) subtree: Option<BlobId>,
    #[serde(borrow, default)]
    pub(super) error: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct XattrJson<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) value: Option<Cow<'a, str>>,
}

/// The last user and group names: equal neighbours share one allocation.
struct Names {
    user: Arc<str>,
    group: Arc<str>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            user: Arc::from(""),
            group: Arc::from(""),
        }
    }
}

impl Names {
    fn share(last: &mut Arc<str>, name: &str) -> Arc<str> {
        if **last != *name {
            *last = Arc::from(name);
        }
        Arc::clone(last)
    }
}

/// Decodes a tree.
///
/// # Errors
/// The bytes are no tree, or one whose names could not be restored safely.
pub fn decode(json: &[u8]) -> Result<Vec<Node>, TreeError> {
    if json.len() > TREE_BYTES_MAX {
        return Err(TreeError::TooLarge(json.len()));
    }
    match scan::nodes(json) {
        Some(nodes) => nodes.finish(),
        None => decode_any(json),
    }
}

/// As [`decode`], of JSON in any form.
pub(super) fn decode_any(json: &[u8]) -> Result<Vec<Node>, TreeError> {
    let tree: TreeJson = serde_json::from_slice(json)?;
    tree.nodes.unwrap_or_default().finish()
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn node(raw: NodeJson<'_>, names: &mut Names) -> Result<Node, TreeError> {
    let name = unquote(&raw.name)?;
    if !is_valid_name(&name) {
        return Err(TreeError::InvalidName(lossy(&name)));
    }
    let target = match &raw.linktarget_raw {
        Some(text) => BASE64
            .decode(&**text)
            .map_err(|_undecodable| TreeError::InvalidBase64(lossy(&name)))?,
        None => raw.linktarget.as_bytes().to_vec(),
    };
    let (kind, unknown_kind) = match &*raw.kind {
        "file" => (EntryKind::File { size: raw.size }, None),
        "dir" => (EntryKind::Directory, None),
        "symlink" => (
            EntryKind::Symlink {
                target: target.clone(),
            },
            None,
        ),
        "dev" => (EntryKind::BlockDevice { device: raw.device }, None),
        "chardev" => (EntryKind::CharacterDevice { device: raw.device }, None),
        "fifo" => (EntryKind::Fifo, None),
        "socket" => (EntryKind::Socket, None),
        other => (EntryKind::Socket, Some(Box::from(other))),
    };
    if kind == EntryKind::Directory && raw.subtree.is_none() {
        return Err(TreeError::NoSubtree(lossy(&name)));
    }
    let times = [&raw.mtime, &raw.atime, &raw.ctime];
    let [modified, accessed, changed] = [time(times[0])?, time(times[1])?, time(times[2])?];
    let are_ours = [&modified, &accessed, &changed]
        .iter()
        .all(|time| time.is_ours);
    let times = [modified.time, accessed.time, changed.time];
    let metadata = metadata(&raw, &name, times, names)?;
    let mut foreign = foreign(&raw, &kind, &metadata, unknown_kind, target);
    if !are_ours && times_differ(&raw, times) {
        let texts = [&*raw.mtime, &*raw.atime, &*raw.ctime];
        foreign.times = Some(texts.map(Box::from));
    }
    let foreign = (!foreign.is_empty()).then(|| Box::new(foreign));
    Ok(Node {
        entry: Entry {
            name,
            kind,
            metadata,
        },
        content: raw.content.map(Arc::from).unwrap_or_default(),
        subtree: raw.subtree,
        foreign,
    })
}

fn metadata(
    raw: &NodeJson<'_>,
    name: &[u8],
    [modified, accessed, changed]: [Timestamp; 3],
    names: &mut Names,
) -> Result<Metadata, TreeError> {
    let mut mode = raw.mode & 0o777;
    for (bit, unix) in [
        (bits::SET_UID, 0o4000),
        (bits::SET_GID, 0o2000),
        (bits::STICKY, 0o1000),
    ] {
        if raw.mode & bit != 0 {
            mode |= unix;
        }
    }
    let xattrs = raw.extended_attributes.iter().map(|attribute| {
        let value = BASE64
            .decode(attribute.value.as_deref().unwrap_or_default())
            .map_err(|_undecodable| TreeError::InvalidBase64(lossy(name)))?;
        Ok(Xattr {
            name: attribute.name.as_bytes().to_vec(),
            value,
        })
    });
    Ok(Metadata {
        mode,
        uid: raw.uid,
        gid: raw.gid,
        user: Names::share(&mut names.user, &raw.user),
        group: Names::share(&mut names.group, &raw.group),
        modified,
        accessed,
        changed,
        inode: raw.inode,
        device_id: raw.device_id,
        links: raw.links,
        xattrs: xattrs.collect::<Result<_, TreeError>>()?,
    })
}

/// Keeps what our own encoder would not write the same.
fn foreign(
    raw: &NodeJson<'_>,
    kind: &EntryKind,
    metadata: &Metadata,
    unknown_kind: Option<Box<str>>,
    target: Vec<u8>,
) -> Foreign {
    let is_file = matches!(kind, EntryKind::File { .. });
    let is_link = matches!(kind, EntryKind::Symlink { .. });
    let is_device = matches!(
        kind,
        EntryKind::BlockDevice { .. } | EntryKind::CharacterDevice { .. }
    );
    Foreign {
        generic_attributes: raw.generic_attributes.map(|value| Box::from(value.get())),
        error: raw.error.clone().into_owned(),
        times: None,
        mode: (raw.mode != go_mode(kind, metadata)).then_some(raw.mode),
        kind: unknown_kind.or_else(|| (type_word(kind) != raw.kind).then(|| Box::from(&*raw.kind))),
        size: if is_file { 0 } else { raw.size },
        device: if is_device { 0 } else { raw.device },
        link_target: if is_link {
            Box::default()
        } else {
            target.into_boxed_slice()
        },
    }
}

/// Whether a text is not what our own encoder would write for its time.
fn times_differ(raw: &NodeJson<'_>, times: [Timestamp; 3]) -> bool {
    let texts = [&*raw.mtime, &*raw.atime, &*raw.ctime];
    let mut buffer = Vec::with_capacity(32);
    texts.iter().zip(times).any(|(text, time)| {
        buffer.clear();
        push_time(&mut buffer, time);
        text.as_bytes() != buffer
    })
}

struct Time {
    time: Timestamp,
    /// Whether the text is certainly what our own encoder writes.
    is_ours: bool,
}

fn time(text: &str) -> Result<Time, TreeError> {
    if let Some(time) = utc_time(text.as_bytes()) {
        // No trailing zeros in a fraction, and a day that every month has.
        let (date, fraction) = text.split_at(19);
        let is_short = fraction == "Z" || !fraction.ends_with("0Z");
        let is_ours = is_short && date.get(8..10).is_some_and(|day| day <= "28");
        return Ok(Time { time, is_ours });
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Time {
            time: time.into(),
            is_ours: false,
        }),
        Err(_not_a_time) => Err(TreeError::InvalidTime(text.to_owned())),
    }
}

/// The common form `2024-02-29T12:34:56.123Z`, several times faster than the general parser; none
/// for any other form.
fn utc_time(text: &[u8]) -> Option<Timestamp> {
    let (date, fraction) = text.split_first_chunk::<19>()?;
    let number = |range: std::ops::Range<usize>| {
        date[range].iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| date[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let nanoseconds = match fraction {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let mut value = 0;
            for place in 0..9 {
                let digit = digits.get(place).copied().unwrap_or(b'0');
                value = value * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
            }
            value
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp {
        seconds,
        nanoseconds,
    })
}

/// The inverse of `civil_from_days` (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `days_from_civil`).
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = (month + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
