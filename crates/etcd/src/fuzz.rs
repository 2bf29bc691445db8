//! F1: no bytes of a database, a log's value or a message make a reader panic, loop or hang.

use std::io::{Read as _, Seek as _};

use refloat_testkit::fuzz::{Target, run};

use crate::bolt::{Bolt, BoltWriter};
use crate::history_hash::HistoryHash;
use crate::mvcc::{BucketKey, KEY_BUCKET, KeyValue, META_BUCKET, Revision};
use crate::stored_value::StoredValue;

/// As small as bbolt's pages get, so that mutations hit structure.
const PAGE_BYTES: u32 = 1024;

/// `mvccpb.KeyValue` with a key, a revision and a value.
fn message(key: &str, revision: u8, value: &[u8]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[tag, length], bytes].concat()
    };
    [
        field(0x0a, key.as_bytes()),
        vec![0x10, 2, 0x18, revision, 0x20, 1],
        field(0x2a, value),
    ]
    .concat()
}

/// A database of two levels of pages.
fn database() -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = BoltWriter::begin(file.try_clone().unwrap(), PAGE_BYTES).unwrap();
    let mut bucket = writer.bucket(KEY_BUCKET.as_bytes());
    for n in 2..40_u8 {
        let mut at = Revision {
            main: n.into(),
            sub: 0,
        }
        .to_key();
        if n % 7 == 0 {
            at.push(b't');
        }
        let value = message(&format!("/registry/k{}", n % 5), n, &[n; 40]);
        bucket.put(&at, &value).unwrap();
    }
    bucket.end().unwrap();
    let mut bucket = writer.bucket(META_BUCKET.as_bytes());
    let at = Revision { main: 9, sub: 0 };
    bucket.put(b"finishedCompactRev", &at.to_key()).unwrap();
    bucket.end().unwrap();
    writer.finish().unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn look_into(bytes: &[u8]) {
    let Ok(bolt) = Bolt::open(bytes.to_vec()) else {
        return;
    };
    if let Ok(history) = HistoryHash::read(&bolt) {
        let _damaged = history.at(history.compacted);
    }
    if let Ok(bucket) = bolt.bucket(KEY_BUCKET) {
        let _absent = bolt.get(&bucket, &Revision { main: 9, sub: 0 }.to_key());
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let protobuf: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0f\x0a\x0d\x0a\x01a\x12\0\x1a\x04shop\"\0\x1a\0\"\0";
    let values: [&[u8]; 4] = [
        protobuf,
        br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#,
        b"k8s:enc:aescbc:v1:key1:xyz",
        b"\xff\0",
    ];
    let revision = Revision { main: 7, sub: 1 };
    let keys = [revision.to_key(), [revision.to_key(), vec![b't']].concat()];
    let targets = [
        Target::new("database and history", [database()], look_into),
        Target::new("message", [message("/registry/a", 3, b"value")], |bytes| {
            let _refused = KeyValue::decode(bytes);
        }),
        Target::new("revision", keys, |bytes| {
            let _refused = BucketKey::parse(bytes);
        }),
        Target::new("stored value", values, |bytes| {
            let value = StoredValue::of(bytes);
            let _kind = value.kind();
            if let StoredValue::Protobuf(envelope) = value {
                let _data = envelope.data();
            }
        }),
    ];
    run("F1 etcd", &targets);
}
