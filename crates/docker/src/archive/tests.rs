//! Streams, honest and hostile.

use std::collections::BTreeMap;

use refloat_model::entry::{Content as Opener, EntryKind};

use super::*;

/// Keeps paths and contents.
#[derive(Default)]
struct Kept {
    open: Vec<String>,
    paths: BTreeMap<String, String>,
    failures: Vec<String>,
}

impl Kept {
    fn put(&mut self, entry: &Entry, content: &str) {
        let name = String::from_utf8_lossy(&entry.name);
        let path = [self.open.join("/"), name.into_owned()].join("/");
        let shown = match &entry.kind {
            EntryKind::Directory => format!("dir {:o}", entry.metadata.mode),
            EntryKind::Symlink { target } => {
                format!("-> {}", String::from_utf8_lossy(target))
            }
            EntryKind::File { .. } => content.to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(self.paths.insert(path, shown), None, "given twice");
    }
}

impl TreeSink for Kept {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.put(&directory, "");
        self.open
            .push(String::from_utf8_lossy(&directory.name).into_owned());
        Ok(())
    }
    fn leave(&mut self) -> Result<(), SinkError> {
        self.open.pop().expect("open");
        Ok(())
    }
    fn file(&mut self, _: Entry, _: Box<dyn Opener>) -> Result<(), SinkError> {
        panic!("streams only")
    }
    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        self.put(&file, &text);
        Ok(())
    }
    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.put(&entry, "");
        Ok(())
    }
    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }
    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }
    fn fail(&mut self, name: &[u8], reason: String) {
        self.failures
            .push(format!("{}: {reason}", String::from_utf8_lossy(name)));
    }
}

/// Writes a header with the name as it is, however hostile.
fn add(tar: &mut Vec<u8>, kind: tar::EntryType, name: &str, link: &str, content: &str) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o750);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content.as_bytes());
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn push(tar: &[u8]) -> (Kept, Result<Losses, ArchiveError>) {
    let mut kept = Kept::default();
    let tree = TarTree {
        keep: &|path| path != [b"left out".to_vec()],
        fetch: &|path| match path {
            [name] if name == b"a" => Ok(Box::new(&b"alpha"[..])),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    };
    let result = tree.push(tar, b"data", &mut kept, &Cancel::default());
    (kept, result)
}

fn ended(mut tar: Vec<u8>) -> Vec<u8> {
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn a_stream_becomes_a_tree() {
    use tar::EntryType as T;
    let mut tar = Vec::new();
    add(&mut tar, T::Directory, "./", "", "");
    add(&mut tar, T::Regular, "./a", "", "alpha");
    add(&mut tar, T::Directory, "./d/", "", "");
    add(&mut tar, T::Symlink, "./d/up", "../../etc", "");
    add(&mut tar, T::Link, "./d/hard", "a", "");
    add(&mut tar, T::Fifo, "./pipe", "", "");
    add(&mut tar, T::Regular, "./left out", "", "x");
    add(&mut tar, T::Regular, "./new/deep/file", "", "deep");
    let (kept, result) = push(&ended(tar));
    let expected = [
        ("/data", "dir 750"),
        ("data/a", "alpha"),
        ("data/d", "dir 750"),
        ("data/d/hard", "alpha"),
        ("data/d/up", "-> ../../etc"),
        ("data/new", "dir 700"),
        ("data/new/deep", "dir 700"),
        ("data/new/deep/file", "deep"),
        ("data/pipe", "Fifo"),
    ];
    let expected = expected.map(|(path, shown)| (path.to_owned(), shown.to_owned()));
    assert_eq!(kept.paths, BTreeMap::from(expected));
    assert_eq!(
        result.unwrap(),
        Losses {
            hard_links: 1,
            ..Losses::default()
        }
    );
    assert!(kept.open.is_empty() && kept.failures.is_empty());
}

#[test]
fn hostile_names_are_refused_and_reported() {
    use tar::EntryType as T;
    let mut tar = Vec::new();
    for name in ["/etc/passwd", "../up", "a/../../b", "x/./../y"] {
        add(&mut tar, T::Regular, name, "", "evil");
    }
    add(&mut tar, T::Link, "h", "../../etc/shadow", "");
    add(&mut tar, T::Link, "lost", "nowhere", "");
    // A file in the place of the root, and a second root.
    add(&mut tar, T::Regular, "./", "", "evil");
    add(&mut tar, T::Directory, ".", "", "");
    add(&mut tar, T::Regular, "good", "", "good");
    let (kept, result) = push(&ended(tar));
    let paths: Vec<_> = kept.paths.keys().map(String::as_str).collect();
    assert_eq!(paths, ["/data", "data/good"]);
    assert_eq!(
        result.unwrap().refused,
        [
            r#""/etc/passwd": name refused"#,
            r#""../up": name refused"#,
            r#""a/../../b": name refused"#,
            r#""x/./../y": name refused"#,
            r#""h": hard link to "../../etc/shadow" refused"#,
        ]
    );
    assert_eq!(
        kept.failures,
        ["lost: cannot read the file it is a hard link to: entity not found"]
    );
}

#[test]
fn a_stream_without_its_end_is_an_error() {
    let mut tar = Vec::new();
    add(&mut tar, tar::EntryType::Regular, "a", "", "alpha");
    // Cut between entries, as an engine does that fails in the middle and ends politely.
    assert!(matches!(push(&tar).1, Err(ArchiveError::Cut)));
    assert!(matches!(push(&[]).1, Err(ArchiveError::Cut)));
    // Cut inside a file.
    assert!(matches!(push(&tar[..514]).1, Err(ArchiveError::Stream(_))));
    assert!(push(b"<html>").1.is_err());
    assert_eq!(push(&ended(tar)).1.unwrap(), Losses::default());
}

#[test]
fn one_file_is_taken_out_of_its_stream() {
    let mut tar = Vec::new();
    add(&mut tar, tar::EntryType::Regular, "a", "", "alpha");
    let read = |tar: Vec<u8>| {
        let mut text = String::new();
        let mut file = single_file(io::Cursor::new(tar))?;
        file.read_to_string(&mut text).map(|_| text)
    };
    assert_eq!(read(tar.clone()).unwrap(), "alpha");
    tar.truncate(514);
    assert_eq!(read(tar).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut folder = Vec::new();
    add(&mut folder, tar::EntryType::Directory, "a", "", "");
    assert!(read(ended(folder)).is_err());
}
