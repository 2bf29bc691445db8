use std::sync::Arc;

use refloat_model::entry::{Entry, EntryKind, Metadata, Xattr};
use refloat_model::time::Timestamp;

use super::decode::decode_any;
use super::*;
use crate::format::scan::damaged;

/// A tree as restic 0.19 encodes it, with every field and the ugly cases.
const RESTIC: &str = concat!(
    r#"{"nodes":[{"name":"a\\xff","type":"file","mode":8388973,"mtime":"2024-02-29T12:34:56.12Z","#,
    r#""atime":"2024-02-29T12:34:56.12Z","ctime":"1969-12-31T23:59:59.000000001Z","uid":1000,"gid":0,"#,
    r#""user":"ann","group":"root","inode":42,"device_id":2049,"size":3,"links":2,"#,
    r#""extended_attributes":[{"name":"user.x","value":"AQI="}],"#,
    r#""content":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]},"#,
    r#"{"name":"d","type":"dir","mode":2147484141,"mtime":"2024-05-01T10:00:00+02:00","#,
    r#""atime":"2024-05-01T10:00:00+02:00","ctime":"2024-05-01T10:00:00+02:00","uid":0,"gid":0,"#,
    r#""inode":7,"device_id":2049,"content":null,"#,
    r#""subtree":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},"#,
    r#"{"name":"e","type":"file","mode":420,"mtime":"1970-01-01T00:00:00Z","#,
    r#""atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"content":[]},"#,
    r#"{"name":"l","type":"symlink","mode":134218239,"mtime":"1970-01-01T00:00:00Z","#,
    r#""atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"links":1,"#,
    r#""linktarget":"a\u0026\ufffd","linktarget_raw":"YSb/","content":null},"#,
    r#"{"name":"t","type":"chardev","mode":69206416,"mtime":"1970-01-01T00:00:00Z","#,
    r#""atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":5,"#,
    r#""group":"tty","links":1,"device":1025,"content":null},"#,
    r#"{"name":"w","type":"irregular","mode":524288,"mtime":"1970-01-01T00:00:00Z","#,
    r#""atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"size":9,"#,
    r#""generic_attributes":{"windows.x":"AA=="},"content":null,"error":"odd"}]}"#,
    "\n"
);

#[test]
fn what_restic_encoded_is_encoded_again_byte_for_byte() {
    let nodes = decode(RESTIC.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(encode(&nodes)).unwrap(), RESTIC);
}

#[test]
fn decoded_nodes_say_what_the_json_says() {
    let nodes = decode(RESTIC.as_bytes()).unwrap();
    let a = &nodes[0];
    assert_eq!(a.entry.name, b"a\xff");
    assert_eq!(a.entry.metadata.mode, 0o4555);
    assert_eq!(
        a.entry.metadata.changed,
        Timestamp {
            seconds: -1,
            nanoseconds: 1
        }
    );
    assert_eq!(
        a.entry.metadata.xattrs,
        [Xattr {
            name: b"user.x".to_vec(),
            value: vec![1, 2]
        }]
    );
    assert_eq!(a.foreign, None);
    assert_eq!(nodes[1].entry.metadata.modified.seconds, 1_714_550_400);
    assert_eq!(
        nodes[3].entry.kind,
        EntryKind::Symlink {
            target: b"a&\xff".to_vec()
        }
    );
    assert_eq!(
        nodes[4].entry.kind,
        EntryKind::CharacterDevice { device: 1025 }
    );
    assert_eq!(nodes[4].foreign, None);
    assert_eq!(
        nodes[5].foreign.as_ref().map(|f| f.error.as_str()),
        Some("odd")
    );
}

/// Whatever is written of a time is written again, whether or not it is what we would write.
#[test]
fn odd_times_are_encoded_again_byte_for_byte() {
    for time in [
        "2024-02-28T00:00:00Z",
        "2024-02-29T23:59:50Z",
        "2023-02-30T00:00:00Z",
        "2023-04-31T10:00:00.5Z",
        "2023-12-31T10:00:00Z",
        "2023-12-11T10:00:00.50Z",
        "2023-12-11T10:00:00.0Z",
        "2023-12-11T10:00:00.000000000Z",
        "2023-12-11T10:00:00.000000010Z",
        "2023-12-11T10:00:00.00000001Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "2023-12-11T10:00:00+02:00",
        "2023-12-11T10:00:00.5-09:30",
    ] {
        let json = format!(
            "{{\"nodes\":[{{\"name\":\"f\",\"type\":\"fifo\",\"mode\":33554852,\"mtime\":\"{time}\",\"atime\":\"{time}\",\
             \"ctime\":\"{time}\",\"uid\":0,\"gid\":0,\"content\":null}}]}}\n"
        );
        let nodes = decode(json.as_bytes()).unwrap();
        let again = String::from_utf8(encode(&nodes)).unwrap();
        assert_eq!(again, json);
    }
}

#[test]
fn our_own_nodes_come_back() {
    let kinds = [
        EntryKind::BlockDevice { device: 9 },
        EntryKind::CharacterDevice { device: 1 },
        EntryKind::Fifo,
        EntryKind::File { size: 12 },
        EntryKind::Socket,
        EntryKind::Symlink {
            target: b"../x".to_vec(),
        },
    ];
    let nodes: Vec<Node> = kinds
        .into_iter()
        .enumerate()
        .map(|(index, kind)| {
            let metadata = Metadata {
                mode: 0o7777,
                modified: Timestamp {
                    seconds: 1_700_000_000,
                    nanoseconds: 987_654_321,
                },
                ..Metadata::synthetic(&kind)
            };
            let content: Arc<[BlobId]> = match kind {
                EntryKind::File { .. } => Arc::from([BlobId([3; 32]), BlobId([4; 32])]),
                _ => Arc::default(),
            };
            let name = vec![b'a' + u8::try_from(index).unwrap()];
            Node {
                entry: Entry {
                    name,
                    kind,
                    metadata,
                },
                content,
                subtree: None,
                foreign: None,
            }
        })
        .collect();
    assert_eq!(decode(&encode(&nodes)).unwrap(), nodes);
}

#[test]
fn hostile_trees_are_refused() {
    let node = |name: &str| {
        format!(
            r#"{{"name":"{name}","type":"fifo","mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"content":null}}"#
        )
    };
    let tree = |nodes: &[String]| format!(r#"{{"nodes":[{}]}}"#, nodes.join(","));
    for name in ["", ".", "..", "a/b", "/etc", "a\\\\x00", "a\\\\u0000b"] {
        let result = decode(tree(&[node(name)]).as_bytes());
        assert!(
            matches!(result, Err(TreeError::InvalidName(_))),
            "{name}: {result:?}"
        );
    }
    for (first, second) in [("a", "a"), ("b", "a")] {
        let result = decode(tree(&[node(first), node(second)]).as_bytes());
        assert!(
            matches!(result, Err(TreeError::Unordered(_))),
            "{first} {second}"
        );
    }
    let directory = node("d").replace("fifo", "dir");
    assert!(matches!(
        decode(tree(&[directory]).as_bytes()),
        Err(TreeError::NoSubtree(_))
    ));
    assert!(matches!(decode(b"{"), Err(TreeError::Json(_))));
    let late = node("x").replace("1970-01-01", "1970-13-01");
    assert!(matches!(
        decode(tree(&[late]).as_bytes()),
        Err(TreeError::InvalidTime(_))
    ));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(decode(deep.as_bytes()), Err(TreeError::Json(_))));
}

/// As [`RESTIC`], all of it in the form that is scanned.
fn known_form() -> String {
    let plain = RESTIC
        .replace(r"a\\xff", "aé")
        .replace(r"a\u0026\ufffd", "a&")
        .replace(r#","error":"odd""#, "")
        .replace(r#""generic_attributes":{"windows.x":"AA=="},"#, "");
    let second = r#"{"name":"user.y","value":null}],"#;
    plain.replace(
        r#""value":"AQI="}],"#,
        &format!(r#""value":"AQI="}},{second}"#),
    )
}

/// Whether it is scanned; either way the general parser must say the same.
fn is_scanned(json: &[u8]) -> bool {
    let (read, expected) = (decode(json), decode_any(json));
    let shown = || String::from_utf8_lossy(json);
    assert_eq!(format!("{read:?}"), format!("{expected:?}"), "{}", shown());
    scan::nodes(json).is_some()
}

#[test]
fn a_scanned_tree_is_what_the_general_parser_reads() {
    let known = known_form();
    assert!(is_scanned(known.as_bytes()), "{known}");
    assert!(decode(known.as_bytes()).is_ok());
    assert!(is_scanned(b"{\"nodes\":[]}\n"));
    assert!(is_scanned(b"{\"nodes\":[]}"));
    let mut nodes = decode(known.as_bytes()).unwrap();
    // Without the link, whose target has bytes that are written with escapes.
    let link = nodes.remove(3);
    assert!(is_scanned(&encode(&nodes)), "our own encoder's");
    nodes.insert(3, link);
    assert!(!is_scanned(&encode(&nodes)));
    // With escapes, in another order, or with keys that are new or repeated it is not.
    for (from, to) in [
        ("\"aé\"", "\"a\\u00e9\""),
        ("\"uid\":1000,\"gid\":0", "\"gid\":0,\"uid\":1000"),
        ("\"uid\":1000", "\"uid\":1000,\"new\":[1]"),
        ("\"uid\":1000", "\"uid\":1000,\"uid\":1000"),
        ("\"uid\":1000", "\"uid\": 1000"),
        ("\"uid\":1000", "\"uid\":4294967296"),
        ("{\"nodes\":[", "{\"more\":1,\"nodes\":["),
        ("]}\n", "]}\n\n"),
    ] {
        let changed = known.replacen(from, to, 1);
        assert_ne!(changed, known);
        assert!(!is_scanned(changed.as_bytes()), "{changed}");
    }
}

#[test]
fn a_damaged_tree_is_scanned_as_the_general_parser_reads_it() {
    let known = known_form().into_bytes();
    let scanned = damaged(&known).filter(|json| is_scanned(json)).count();
    // Most changes are within texts and numbers.
    assert!(scanned > known.len(), "{scanned} of {}", known.len());
}
