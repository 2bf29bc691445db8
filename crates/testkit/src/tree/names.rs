//! Names that break programs.
//!
//! Invariant: each name is made for a file and for a folder, so both paths through a program are
//! taken.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::Tree;
use crate::random::Random;

/// Names that need no randomness.
const NASTY: [&[u8]; 34] = [
    b" ",
    b"  leading and trailing  ",
    b"-rf",
    b"--help",
    b"...",
    b"..foo",
    b".hidden",
    b"tab\there",
    b"new\nline",
    b"carriage\rreturn",
    b"back\\slash",
    b"..\\up",
    b"\"double\"",
    b"'single'",
    b"`command`",
    b"$(command)",
    b"$HOME",
    b"%s%n",
    b"*",
    b"?[a-z]{1,2}",
    b"a:b",
    b"C:",
    b"con",
    b"bell\x07escape\x1b[31m",
    b"delete\x7f",
    // Invalid UTF-8: a lone continuation, a lone start, a surrogate, Latin-1, all high bytes.
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"caf\xe9",
    b"\xff\xfe\xfd",
    // The same letter composed and decomposed, and names that differ in case only.
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"case",
    b"CASE",
];

pub(super) fn all(tree: &mut Tree, random: &mut Random) {
    let folder = tree.folder("names");
    let longest = [b'n'; 255].to_vec();
    let longest_wide = "\u{1f40b}".repeat(63).into_bytes();
    let anything: Vec<_> = (0..20).map(|_| random_name(random)).collect();
    let nasty = NASTY.iter().map(|name| name.to_vec());
    for name in nasty.chain([longest, longest_wide]).chain(anything) {
        let label = String::from_utf8_lossy(&name).into_owned();
        let path = folder.join(OsStr::from_bytes(&name));
        // Some file systems take UTF-8 only, or no difference in case.
        tree.privileged(&label, || fs::write(&path, &name));
        let parent = folder.join("as-folders").join(OsStr::from_bytes(&name));
        tree.privileged(&label, || {
            fs::create_dir_all(&parent)?;
            fs::write(parent.join("inside"), &name)
        });
    }
}

/// Any bytes but the two that no name may hold.
fn random_name(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.index(60);
    let mut name = vec![b'r'];
    name.extend(random.bytes(length));
    for byte in &mut name {
        if *byte == 0 || *byte == b'/' {
            *byte = b'_';
        }
    }
    OsString::from_vec(name).into_vec()
}
