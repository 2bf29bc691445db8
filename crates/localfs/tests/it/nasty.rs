//! A tree with one of everything that a backup can lose.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::manifest::{is_root, set_xattr};

/// `cap_net_raw+ep`, as `security.capability` version 2 stores it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
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

/// An ACL: owner `rw`, user 1234 `rw`, group `r`, mask `rw`, others nothing.
pub fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 6, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// Fills `root`; owners, devices and system attributes only if we are root.
pub fn plant(root: &Path) {
    files(root);
    special(root);
    links(root);
    if is_root() {
        for_root(root);
    }
    times(root);
}

fn files(root: &Path) {
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("plain"), b"plain content").unwrap();
    fs::write(root.join("large"), vec![7; 3_000_001]).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not utf-8 \xff\xfe")), b"1").unwrap();
    fs::write(root.join("line\nbreak"), b"2").unwrap();
    fs::write(root.join("n".repeat(255)), b"3").unwrap();
    fs::create_dir(root.join("empty directory")).unwrap();
    let deep = root.join(vec!["d"; 100].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"deep").unwrap();

    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"island", (1 << 20) + 17).unwrap();
    sparse.write_all_at(&[5; 9000], 40 << 20).unwrap();

    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("read only", 0o400)] {
        fs::write(root.join(name), name).unwrap();
        set_mode(&root.join(name), mode);
    }
    for (name, mode) in [
        ("sticky", 0o1777),
        ("setgid directory", 0o2775),
        ("closed", 0o500),
    ] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("inside"), name).unwrap();
        set_mode(&root.join(name), mode);
    }

    let marked = root.join("with attributes");
    fs::write(&marked, b"x").unwrap();
    set_xattr(&marked, "user.one", b"value \0 with NUL");
    set_xattr(&marked, "user.empty", b"");
    set_xattr(&marked, "user.long", &[9; 2000]);
    let listed = root.join("with acl");
    fs::write(&listed, b"y").unwrap();
    set_xattr(&listed, "system.posix_acl_access", &acl());
    let defaults = root.join("with default acl");
    fs::create_dir(&defaults).unwrap();
    // What is inside must not inherit anything when it is restored.
    fs::write(defaults.join("older than the acl"), b"z").unwrap();
    fs::create_dir(defaults.join("older directory")).unwrap();
    set_xattr(&defaults, "system.posix_acl_default", &acl());
    set_xattr(&defaults, "user.on a directory", b"d");
}

fn special(root: &Path) {
    let fifo = root.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    // Socket addresses are short: bound by a relative path this test cannot have, so by mknod.
    mknodat(
        CWD,
        root.join("socket"),
        FileType::Socket,
        Mode::from_raw_mode(0o755),
        0,
    )
    .unwrap();
    drop(UnixListener::bind(root.join("s")).ok());
}

fn links(root: &Path) {
    symlink("plain", root.join("link")).unwrap();
    symlink("/etc/shadow", root.join("absolute link")).unwrap();
    symlink("../../outside", root.join("link upwards")).unwrap();
    symlink("not there", root.join("dangling")).unwrap();
    symlink("d", root.join("link to directory")).unwrap();
    symlink(OsStr::from_bytes(b"raw \xff target"), root.join("raw link")).unwrap();
    symlink("t".repeat(4095), root.join("long link")).unwrap();
    fs::write(root.join("hard a"), b"shared").unwrap();
    fs::hard_link(root.join("hard a"), root.join("hard b")).unwrap();
    fs::hard_link(root.join("hard a"), root.join("sticky/hard c")).unwrap();
    rustix::fs::linkat(
        CWD,
        root.join("dangling"),
        CWD,
        root.join("same link"),
        AtFlags::empty(),
    )
    .unwrap();
}

fn for_root(root: &Path) {
    let device = |name: &str, kind, device| {
        let mode = Mode::from_raw_mode(0o640);
        mknodat(CWD, root.join(name), kind, mode, device).unwrap();
    };
    device("null", FileType::CharacterDevice, makedev(1, 3));
    device("disk", FileType::BlockDevice, makedev(259, 70_000));
    for name in [
        "plain", "setuid", "setgid", "link", "fifo", "null", "sticky", "closed",
    ] {
        lchown(root.join(name), Some(1234), Some(5678)).unwrap();
    }
    // A change of owner clears these.
    set_mode(&root.join("setuid"), 0o4755);
    set_mode(&root.join("setgid"), 0o2755);
    fs::write(root.join("no rights"), b"root only").unwrap();
    set_mode(&root.join("no rights"), 0);
    let capable = root.join("capable");
    fs::write(&capable, b"elf").unwrap();
    lchown(&capable, Some(1), Some(1)).unwrap();
    set_xattr(&capable, "security.capability", CAPABILITY);
    set_xattr(&root.join("link"), "trusted.on-a-link", b"t");
    set_xattr(&root.join("fifo"), "trusted.on-a-pipe", b"p");
}

fn times(root: &Path) {
    for (number, name) in [
        "plain", "link", "fifo", "sparse", "sticky", "d/d", "hard a", "closed",
    ]
    .into_iter()
    .enumerate()
    {
        let seconds = 1_000_000_000 + i64::try_from(number).unwrap();
        set_times(&root.join(name), seconds, 123_456_789);
    }
    set_times(&root.join("empty"), -1_000_000, 1);
    set_times(&root.join("empty directory"), 4_000_000_000, 999_999_999);
    set_times(root, 1_234_567_890, 42);
}
