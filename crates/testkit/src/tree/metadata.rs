//! Attributes, access lists, modes, owners and times.
//!
//! Invariant: everything stays readable for the user who built it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::Tree;
use crate::random::Random;

fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    // Does not follow symbolic links.
    xattr::set(path, name, value)
}

pub(super) fn attributes(tree: &mut Tree, random: &mut Random) {
    let folder = tree.folder("attributes");
    let file = folder.join("file");
    let inner = folder.join("folder");
    let link = folder.join("link");
    fs::write(&file, b"attributes").unwrap();
    fs::create_dir(&inner).unwrap();
    symlink("file", &link).unwrap();
    // Together below the 4 KiB that ext4 keeps for one file.
    let big = random.bytes(2_000);
    let table: [(&Path, &str, &[u8]); 9] = [
        (&file, "user.text", b"value"),
        (&file, "user.empty", b""),
        (&file, "user.binary", b"\x00\xff\n\x00"),
        (&file, "user.name with \u{e9} and = sign", b"x"),
        (&file, "user.big", &big),
        (&inner, "user.on-folder", b"folder"),
        (&file, "trusted.refloat", b"root only"),
        (&link, "trusted.on-link", b"root only"),
        // cap_net_bind_service=ep, as setcap writes it.
        (
            &file,
            "security.capability",
            b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
    ];
    for (path, name, value) in table {
        tree.privileged(name, || set(path, name, value));
    }
    let listed = folder.join("with-access-list");
    fs::write(&listed, b"access").unwrap();
    let access = access_list(&[(1, 6), (2, 4), (4, 4), (16, 4), (32, 0)]);
    let inherited = access_list(&[(1, 7), (2, 5), (4, 5), (16, 5), (32, 0)]);
    tree.privileged("access list", || {
        set(&listed, "system.posix_acl_access", &access)?;
        set(&inner, "system.posix_acl_default", &inherited)
    });
}

/// A POSIX access list as the kernel takes it: tag and permission; the named user is 4711.
fn access_list(entries: &[(u16, u16)]) -> Vec<u8> {
    const VERSION: u32 = 2;
    const NAMED_USER: u16 = 2;
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permission) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permission.to_le_bytes());
        let id: u32 = if *tag == NAMED_USER { 4_711 } else { u32::MAX };
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

pub(super) fn modes_and_owners(tree: &mut Tree) {
    let folder = tree.folder("modes");
    let is_root = rustix::process::geteuid().is_root();
    for mode in [
        0o000, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644,
    ] {
        if mode & 0o400 == 0 && !is_root {
            tree.left_out.push("unreadable files: not root".to_owned());
            continue;
        }
        let path = folder.join(format!("file-{mode:04o}"));
        fs::write(&path, b"mode").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o500, 0o555, 0o700, 0o755, 0o1777, 0o2775, 0o3700] {
        let path = folder.join(format!("folder-{mode:04o}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"mode").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (user, group) in [
        (1, 1),
        (1_000, 1_000),
        (65_534, 65_534),
        (100_000, 4_000_000_000),
    ] {
        let path = folder.join(format!("owner-{user}-{group}"));
        fs::write(&path, b"owner").unwrap();
        let label = format!("owner {user}:{group}");
        tree.privileged(&label, || chown(&path, Some(user), Some(group)));
    }
}

/// Seconds and nanoseconds that programs get wrong: before the epoch, past 2038, no fraction.
const TIMES: [(i64, i64); 8] = [
    (-1, 999_999_999),
    (-1_000_000_000, 1),
    (0, 0),
    (1, 0),
    (1_600_000_000, 999_999_999),
    (1_700_000_000, 123_456_789),
    (2_147_483_648, 0),
    (4_294_967_295, 500),
];

/// Gives every node a time, folders after what they hold.
pub(super) fn times(root: &Path, random: &mut Random) {
    for path in nodes_below(root) {
        let (seconds, nanoseconds) = TIMES[random.index(TIMES.len())];
        set_time(&path, seconds, nanoseconds);
    }
    set_time(root, 1_500_000_000, 7);
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// All nodes, sorted within their folders, folders after what they hold.
pub(super) fn nodes_below(folder: &Path) -> Vec<PathBuf> {
    let mut children: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    children.sort();
    let mut nodes = Vec::new();
    for child in children {
        if fs::symlink_metadata(&child).unwrap().is_dir() {
            nodes.extend(nodes_below(&child));
        }
        nodes.push(child);
    }
    nodes
}
