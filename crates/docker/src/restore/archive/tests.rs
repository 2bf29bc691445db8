use super::*;
use refloat_model::entry::Xattr;
use refloat_model::time::Timestamp;

fn entry(name: &str, kind: EntryKind) -> Entry {
    let metadata = Metadata::synthetic(&kind);
    Entry {
        name: name.into(),
        kind,
        metadata,
    }
}

fn text(text: &'static str) -> Box<dyn Content> {
    Box::new(move || Ok(text.as_bytes()))
}

fn file(name: &str, size: u64) -> Entry {
    entry(name, EntryKind::File { size })
}

/// A tar with one of each kind of entry.
fn one_of_each(long: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = TarSink::new(&mut bytes, "v");
    sink.root(&entry("data", EntryKind::Directory)).unwrap();
    let mut first = file("first", 5);
    first.metadata.modified = Timestamp {
        seconds: 7,
        nanoseconds: 5,
    };
    first.metadata.xattrs = vec![Xattr {
        name: b"user.a".into(),
        value: vec![0, b'x'],
    }];
    (first.metadata.inode, first.metadata.links) = (9, 2);
    let mut second = first.clone();
    second.name = b"second".into();
    sink.file(first, text("hello")).unwrap();
    sink.enter(entry("d", EntryKind::Directory)).unwrap();
    sink.file(file(long, 0), text("")).unwrap();
    sink.file(second, text("hello")).unwrap();
    sink.leave().unwrap();
    sink.node(entry(
        "l",
        EntryKind::Symlink {
            target: b"/x\xff".into(),
        },
    ))
    .unwrap();
    sink.node(entry("null", EntryKind::CharacterDevice { device: 0x103 }))
        .unwrap();
    sink.node(entry("s", EntryKind::Socket)).unwrap();
    let (entries, failures) = sink.finish().unwrap();
    assert_eq!(failures, ["v/s: a socket cannot travel in an archive"]);
    assert_eq!(entries, 7);
    bytes
}

#[test]
fn everything_a_tar_can_say_is_said() {
    let long = "n".repeat(200);
    let bytes = one_of_each(&long);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let pax: Vec<(String, Vec<u8>)> = entry
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.key().unwrap().to_owned(), e.value_bytes().to_vec()))
            .filter(|(key, _)| key != "path")
            .collect();
        let link = entry
            .link_name_bytes()
            .map(|l| l.into_owned())
            .unwrap_or_default();
        let header = entry.header();
        let device = (
            // Empty for all but devices, which this reader takes for an error.
            header.device_major().ok().flatten(),
            header.device_minor().ok().flatten(),
        );
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        seen.push((path, entry.header().entry_type(), link, device, pax));
    }
    let epoch = || vec![("mtime".to_owned(), b"0".to_vec())];
    let late = || {
        vec![
            ("mtime".to_owned(), b"7.000000005".to_vec()),
            ("SCHILY.xattr.user.a".to_owned(), vec![0, b'x']),
        ]
    };
    let none = (None, None);
    let zero =
        |path: &str, kind, link: &[u8], pax| (path.to_owned(), kind, link.to_vec(), none, pax);
    assert_eq!(
        seen,
        [
            zero("v/", EntryType::Directory, b"", epoch()),
            zero("v/first", EntryType::Regular, b"", late()),
            zero("v/d/", EntryType::Directory, b"", epoch()),
            zero(&format!("v/d/{long}"), EntryType::Regular, b"", epoch()),
            zero("v/d/second", EntryType::Link, b"v/first", late()),
            zero("v/l", EntryType::Symlink, b"/x\xff", epoch()),
            (
                "v/null".to_owned(),
                EntryType::Char,
                Vec::new(),
                (Some(1), Some(3)),
                epoch()
            ),
        ]
    );
}

#[test]
fn a_file_shorter_than_announced_ends_the_stream_with_an_error() {
    let mut sink = TarSink::new(io::sink(), "");
    let error = sink.file(file("f", 9), text("short")).unwrap_err();
    assert_eq!(error.to_string(), "4 bytes of a file are missing");
    let mut sink = TarSink::new(io::sink(), "");
    let gone = || Err::<io::Empty, _>(io::Error::other("a blob is missing"));
    sink.file(file("f", 9), Box::new(gone)).unwrap();
    assert_eq!(sink.failures, ["f: a blob is missing"]);
}

#[test]
fn times_before_the_epoch() {
    assert_eq!(pax_time(-2, 250_000_000), "-1.750000000");
    assert_eq!(pax_time(-2, 0), "-2");
    assert_eq!(pax_time(2, 1), "2.000000001");
}
