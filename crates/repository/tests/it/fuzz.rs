//! F1, F4, F5: every parser of the format takes any bytes without a panic and without more memory
//! than its limits say; what is valid comes out as it went in.
//!
//! Each target is a plain function of bytes. Its corpus is a few valid inputs, mutated so many times
//! by tier; what once failed is added to the corpus.

use std::time::Instant;

use refloat_model::secret::Secret;
use refloat_repository::codec::Codec;
use refloat_repository::crypto::{Cipher, Key};
use refloat_repository::format::config::Config;
use refloat_repository::format::index::IndexFile;
use refloat_repository::format::key::{KeyFile, KeyOrigin};
use refloat_repository::format::lock::LockFile;
use refloat_repository::format::pack::{PackedBlob, finish_pack, header_length, read_header};
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::format::tree::{decode, encode};
use refloat_repository::{BlobId, BlobKind};
use refloat_testkit::fuzz::mutate;
use refloat_testkit::random::Random;
use refloat_testkit::tier;

struct Tools {
    codec: Codec,
    cipher: Cipher,
}

fn tools() -> Tools {
    let key = Key::random().unwrap();
    Tools {
        codec: Codec::new(Cipher::new(&key).unwrap(), 2),
        cipher: Cipher::new(&key).unwrap(),
    }
}

type Target<'a> = Box<dyn Fn(&[u8]) + 'a>;

/// A parser's name, the parser, and valid inputs.
type Named<'a> = (&'static str, Target<'a>, Vec<Vec<u8>>);

/// Every parser.
fn targets(tools: &Tools) -> Vec<Named<'_>> {
    let mut targets = records();
    targets.extend(sealed(tools));
    targets
}

/// What is JSON.
fn records<'a>() -> Vec<Named<'a>> {
    let json = |value: serde_json::Value| serde_json::to_vec(&value).unwrap();
    let id = |byte: u8| BlobId([byte; 32]).to_string();
    let index = json(
        serde_json::json!({"supersedes": [id(1)], "packs": [{"id": id(2), "blobs": [
        {"id": id(3), "type": "data", "offset": 0, "length": 60, "uncompressed_length": 100},
        {"id": id(4), "type": "tree", "offset": 60, "length": 50}]}]}),
    );
    let snapshot = json(
        serde_json::json!({"time": "2026-11-20T10:00:00+01:00", "tree": id(5),
        "paths": ["/a"], "hostname": "h", "tags": ["refloat", "point:1"], "strange": {"x": [1]}}),
    );
    let lock = json(
        serde_json::json!({"time": "2026-11-20T10:00:00Z", "exclusive": true,
        "hostname": "h", "username": "u", "pid": 1, "uid": 0, "gid": 0}),
    );
    let config = json(serde_json::json!({"version": 2, "id": id(6),
        "chunker_polynomial": "25b468838dcb75",
        "refloat_chunker": {"kind": "gear-v1", "seed": id(7)}}));
    let tree = br#"{"nodes":[{"name":"a\u00e9\\","type":"file","mode":420,"mtime":"2026-11-20T10:00:00Z","atime":"2026-11-20T10:00:00Z","ctime":"2026-11-20T10:00:00Z","uid":0,"gid":0,"inode":5,"size":3,"content":["0303030303030303030303030303030303030303030303030303030303030303"]},{"name":"d","type":"dir","mode":2147484141,"mtime":"2026-11-20T10:00:00Z","atime":"2026-11-20T10:00:00Z","ctime":"2026-11-20T10:00:00Z","uid":0,"gid":0,"content":null,"subtree":"0404040404040404040404040404040404040404040404040404040404040404"},{"name":"l","type":"symlink","mode":134218239,"mtime":"2026-11-20T10:00:00Z","atime":"2026-11-20T10:00:00Z","ctime":"2026-11-20T10:00:00Z","uid":0,"gid":0,"linktarget":"../x","content":null}]}
"#;
    let key = KeyFile::seal(
        &Key::random().unwrap(),
        &Secret::new("x"),
        KeyOrigin::default(),
    );
    let key = serde_json::to_vec(&key.unwrap()).unwrap();
    vec![
        ("index", parser::<IndexFile>(), vec![index]),
        ("snapshot", parser::<SnapshotFile>(), vec![snapshot]),
        ("lock", parser::<LockFile>(), vec![lock]),
        ("config", parser::<Config>(), vec![config]),
        ("key", parser::<KeyFile>(), vec![key]),
        ("tree and names", Box::new(tree_target), vec![tree.to_vec()]),
    ]
}

/// What lies in packs, or is sealed.
fn sealed(tools: &Tools) -> Vec<Named<'_>> {
    let blobs = [BlobKind::Data, BlobKind::Tree].map(|kind| PackedBlob {
        id: BlobId([8; 32]),
        kind,
        offset: 0,
        length: 40,
        uncompressed_length: Some(90),
    });
    let mut header = Vec::new();
    finish_pack(&tools.cipher, &mut header, &blobs).unwrap();
    header.truncate(header.len() - 4);
    let header = tools.cipher.open(&header).unwrap();
    let zipped = tools.codec.seal_json("text", &"[".repeat(5_000)).unwrap();
    let unpacked = tools.cipher.open(&zipped).unwrap();
    vec![
        (
            "pack header",
            Box::new(|bytes: &[u8]| {
                let mut sealed = tools.cipher.seal(bytes).unwrap();
                let length = (sealed.len() + 4 + 80) as u64;
                drop(read_header(&tools.cipher, &mut sealed, length));
            }),
            vec![header],
        ),
        (
            "pack header length",
            Box::new(|bytes: &[u8]| {
                if let Some(field) = bytes.first_chunk::<4>() {
                    drop(header_length(*field, bytes.len() as u64));
                }
            }),
            vec![vec![0; 40]],
        ),
        (
            "unpacked file",
            Box::new(|bytes: &[u8]| {
                let sealed = tools.cipher.seal(bytes).unwrap();
                if let Ok(opened) = tools.codec.open_file(sealed) {
                    assert!(opened.len() < 1 << 30);
                }
            }),
            vec![unpacked, b"{}".to_vec()],
        ),
        (
            "sealed message",
            Box::new(|bytes: &[u8]| {
                let _refused = tools.cipher.open(bytes);
                let _refused = tools.cipher.authenticate(bytes);
            }),
            vec![tools.cipher.seal(b"hello").unwrap()],
        ),
    ]
}

/// What parses writes the same again, and reads the same again (F5).
fn parser<'a, T>() -> Target<'a>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    Box::new(|bytes: &[u8]| {
        if let Ok(value) = serde_json::from_slice::<T>(bytes) {
            let once = serde_json::to_vec(&value).unwrap();
            let again: T = serde_json::from_slice(&once).unwrap();
            assert_eq!(once, serde_json::to_vec(&again).unwrap());
        }
    })
}

fn tree_target(bytes: &[u8]) {
    if let Ok(nodes) = decode(bytes) {
        let once = encode(&nodes);
        let again = decode(&once).unwrap();
        assert_eq!(once, encode(&again));
        for node in &nodes {
            let name = node.name();
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
        }
    }
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let started = Instant::now();
    let tools = tools();
    let rounds = tier::by_tier(20_000, 2_000_000, 20_000_000);
    let targets = targets(&tools);
    for (number, (name, target, corpus)) in targets.iter().enumerate() {
        for input in corpus {
            target(input);
        }
        for seed in 0..rounds {
            let mut random = Random::new(seed * 100 + number as u64);
            let input = &corpus[random.index(corpus.len())];
            let mutated = mutate(&mut random, input);
            let run = std::panic::AssertUnwindSafe(|| target(&mutated));
            if std::panic::catch_unwind(run).is_err() {
                panic!(
                    "{name}, seed {seed}: {:?}",
                    String::from_utf8_lossy(&mutated)
                );
            }
        }
    }
    let what = format!("{} parsers, {rounds} inputs each", targets.len());
    tier::report("F1 parsers", &what, started);
}

#[test]
fn bombs_are_refused_before_they_take_memory() {
    let tools = tools();
    // Five gigabytes of zeros in a few kilobytes, as a file and as a blob.
    let mut bomb = vec![2];
    let mut encoder = zstd_frames();
    bomb.append(&mut encoder);
    let sealed = tools.cipher.seal(&bomb).unwrap();
    let before = peak_kib();
    assert!(tools.codec.open_file(sealed).is_err());
    let sealed = tools.cipher.seal(&bomb[1..]).unwrap();
    let mut out = Vec::new();
    let opened = tools.codec.open_blob(
        BlobId([0; 32]),
        &mut sealed.clone(),
        Some(1 << 20),
        &mut out,
    );
    assert!(opened.is_err() && out.is_empty());
    let claimed = tools.codec.open_blob(
        BlobId([0; 32]),
        &mut sealed.clone(),
        Some(u32::MAX as usize),
        &mut out,
    );
    assert!(claimed.is_err() && out.is_empty());
    let taken = peak_kib() - before;
    assert!(taken < 3 << 19, "{taken} KiB");
    // A key that asks for 4 TiB.
    let mut key: serde_json::Value = serde_json::to_value(
        KeyFile::seal(
            &Key::random().unwrap(),
            &Secret::new("x"),
            KeyOrigin::default(),
        )
        .unwrap(),
    )
    .unwrap();
    for (n, r, p) in [
        (1_u64 << 40, 8, 1),
        (1 << 15, 1 << 20, 1),
        (1 << 15, 8, 1 << 30),
        (0, 0, 0),
    ] {
        key["N"] = n.into();
        key["r"] = r.into();
        key["p"] = p.into();
        if let Ok(key) = serde_json::from_value::<KeyFile>(key.clone()) {
            let started = Instant::now();
            assert!(key.open(&Secret::new("x")).is_err());
            assert!(started.elapsed().as_secs() < 5);
        }
    }
    // A million levels of brackets.
    let deep = vec![b'['; 1_000_000];
    assert!(decode(&deep).is_err());
    assert!(serde_json::from_slice::<SnapshotFile>(&deep).is_err());
}

/// Five gigabytes of zeros: frames of 128 MiB in run-length blocks, as RFC 8878 writes them.
fn zstd_frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Magic, a window of 128 MiB without a content size.
    bytes.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88]);
    let blocks = 5 * 1024 * 8;
    for block in 0..blocks {
        let is_last = u32::from(block + 1 == blocks);
        // Run-length block of 128 KiB.
        let header = is_last | (1 << 1) | ((128 << 10) << 3);
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
