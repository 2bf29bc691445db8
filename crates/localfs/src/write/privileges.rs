//! What of an entry lends rights on the machine it is restored to.
//!
//! A set-id program, a device node or a file capability that comes out of a recovery point gives
//! whoever can reach it what its owner had on the machine it comes from. Into a folder that
//! somebody looks at, they are restored only if that is wanted.
//!
//! Invariant: what is left out is named.

use std::borrow::Cow;

use refloat_model::entry::{EntryKind, Metadata};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// The attribute that holds a file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// How messages about what is left out end.
pub const LEFT_OUT: &str = "left out, because it was not asked for";

/// Whether set-id bits, device nodes and file capabilities are restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Privileges {
    /// As stored: for volumes and systems, which rely on them.
    #[default]
    Restored,
    /// Left out, and named.
    LeftOut,
}

/// The metadata without what lends rights, and what that is; none if there is nothing. The group
/// bit of a directory only says which group new files get.
pub(super) fn without<'m>(
    metadata: &'m Metadata,
    is_directory: bool,
) -> (Cow<'m, Metadata>, Option<&'static str>) {
    let set_id = !is_directory && metadata.mode & SET_ID != 0;
    let capable = metadata.xattrs.iter().any(|x| x.name == CAPABILITY);
    let what = match (set_id, capable) {
        (false, false) => return (Cow::Borrowed(metadata), None),
        (true, false) => "set-id bits",
        (false, true) => "file capabilities",
        (true, true) => "set-id bits and file capabilities",
    };
    let mut plain = metadata.clone();
    if set_id {
        plain.mode &= !SET_ID;
    }
    plain.xattrs.retain(|xattr| xattr.name != CAPABILITY);
    (Cow::Owned(plain), Some(what))
}

/// Whether an entry is itself such a right.
pub(super) const fn is_device(kind: &EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::BlockDevice { .. } | EntryKind::CharacterDevice { .. }
    )
}
