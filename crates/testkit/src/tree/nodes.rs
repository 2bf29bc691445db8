//! Nodes that are no ordinary files: links, pipes, sockets, devices, odd folders.
//!
//! Invariant: nothing points outside the tree and is followed by this module.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::Tree;

/// The longest target that Linux takes.
const TARGET_BYTES_MAX: usize = 4_095;

pub(super) fn symbolic_links(folder: &Path) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    fs::write(folder.join("target"), b"target").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    let long = "x/".repeat(TARGET_BYTES_MAX / 2) + "x";
    let table: [(&str, &OsStr); 10] = [
        ("to-file", OsStr::new("target")),
        ("to-folder", OsStr::new("folder")),
        ("to-folder-with-slash", OsStr::new("folder/")),
        ("dangling", OsStr::new("nothing/here")),
        ("absolute", OsStr::new("/etc/hostname")),
        ("upwards", OsStr::new("../../../../../../../../etc/passwd")),
        ("to-itself", OsStr::new("to-itself")),
        ("to-its-folder", OsStr::new(".")),
        ("longest", OsStr::new(&long)),
        ("not-utf-8", OsStr::from_bytes(b"\xff\n\xfe")),
    ];
    for (name, target) in table {
        symlink(target, folder.join(name)).unwrap();
    }
}

pub(super) fn hard_links(folder: &Path) {
    fs::create_dir(folder.join("elsewhere")).unwrap();
    let links = [
        ("a-first", "z-last"),
        ("a-first", "elsewhere/also"),
        ("pair", "elsewhere/pair"),
        ("a-symlink", "the-same-symlink"),
        ("a-pipe", "the-same-pipe"),
    ];
    fs::write(folder.join("a-first"), vec![b'h'; 100_000]).unwrap();
    // The same bytes, but no link: must not become one.
    fs::write(folder.join("a-twin"), vec![b'h'; 100_000]).unwrap();
    fs::write(folder.join("pair"), b"").unwrap();
    symlink("a-first", folder.join("a-symlink")).unwrap();
    pipe(&folder.join("a-pipe"));
    for (old, new) in links {
        fs::hard_link(folder.join(old), folder.join(new)).unwrap();
    }
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

pub(super) fn special(tree: &mut Tree) {
    let folder = tree.folder("special");
    pipe(&folder.join("pipe"));
    let mode = Mode::RUSR | Mode::WUSR;
    let table = [
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("high", FileType::CharacterDevice, makedev(4_000, 1_000_000)),
        ("loop", FileType::BlockDevice, makedev(7, 9)),
    ];
    for (name, kind, device) in table {
        let path = folder.join(name);
        tree.privileged(name, || Ok(mknodat(CWD, &path, kind, mode, device)?));
    }
}

pub(super) fn folders(folder: &Path) {
    const DEPTH: usize = 120;
    const WIDTH: usize = 300;
    fs::create_dir(folder.join("empty")).unwrap();
    let deep = (0..DEPTH).fold(folder.join("deep"), |path, level| {
        path.join(format!("{level:03}"))
    });
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"deep").unwrap();
    let wide = folder.join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..WIDTH {
        fs::write(wide.join(number.to_string()), b"").unwrap();
    }
}
