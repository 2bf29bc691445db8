use std::collections::BTreeMap;
use std::io::Read as _;

use proptest::prelude::*;

use super::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets, page_bytes: u32) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = BoltWriter::begin(file.try_clone().unwrap(), page_bytes).unwrap();
    for (name, entries) in buckets {
        let mut bucket = writer.bucket(name);
        for (key, value) in entries {
            bucket.put(key, value).unwrap();
        }
        bucket.end().unwrap();
    }
    writer.finish().unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Buckets, BoltError> {
    let bolt = Bolt::open(bytes.to_vec())?;
    let mut buckets = Buckets::new();
    for bucket in bolt.buckets()? {
        let mut entries = BTreeMap::new();
        let mut cursor = bolt.entries(&bucket)?;
        while let Some((key, value)) = cursor.next_entry()? {
            entries.insert(key.to_vec(), value.to_vec());
        }
        buckets.insert(bucket.name.clone(), entries);
    }
    Ok(buckets)
}

/// Three levels of pages, overflow, an empty bucket and one of a single entry.
fn rich() -> Buckets {
    let many = (0..9_000_u32).map(|n| {
        let length = if n % 1000 == 7 {
            20_000
        } else {
            (n % 90) as usize
        };
        (n.to_be_bytes().to_vec(), vec![n as u8; length])
    });
    Buckets::from([
        (b"key".to_vec(), many.collect()),
        (b"members".to_vec(), BTreeMap::new()),
        (
            b"meta".to_vec(),
            BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]),
        ),
    ])
}

#[test]
fn what_is_written_is_read() {
    for page_bytes in [512, 4096, 65536] {
        let bytes = write(&rich(), page_bytes);
        assert_eq!(bytes.len() % page_bytes as usize, 0);
        assert!(read(&bytes).unwrap() == rich(), "{page_bytes}");
        let bolt = Bolt::open(bytes).unwrap();
        let bucket = bolt.bucket("key").unwrap();
        for n in [0_u32, 7, 1007, 8999] {
            let key = n.to_be_bytes();
            let value = bolt.get(&bucket, &key).unwrap();
            assert_eq!(
                value,
                rich()[b"key".as_slice()].get(key.as_slice()).cloned()
            );
        }
        assert_eq!(bolt.get(&bucket, b"nobody").unwrap(), None);
    }
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = BoltWriter::begin(file, 4096).unwrap();
    let mut bucket = writer.bucket(b"b");
    bucket.put(b"2", b"").unwrap();
    assert!(bucket.put(b"1", b"").is_err());
    assert!(bucket.put(b"2", b"").is_err());
}

#[test]
fn a_cut_file_is_named_as_cut() {
    let bytes = write(&rich(), 4096);
    for part in 0..40 {
        let cut = bytes.len() * part / 40;
        let error = read(&bytes[..cut]).unwrap_err();
        assert!(
            matches!(error, BoltError::Cut { .. } | BoltError::NoMeta),
            "{cut}: {error}"
        );
    }
}

/// A branch page and its children, made by hand: the pages say what the test wants.
fn branch(children: &[(&[u8], u64)], page_bytes: usize) -> Vec<u8> {
    let table = meta::HEADER_BYTES + children.len() * page::ELEMENT_BYTES;
    let (mut index, mut keys) = (Vec::new(), Vec::new());
    for (number, (key, child)) in children.iter().enumerate() {
        let from = meta::HEADER_BYTES + number * page::ELEMENT_BYTES;
        index.extend(((table + keys.len() - from) as u32).to_le_bytes());
        index.extend((key.len() as u32).to_le_bytes());
        index.extend(child.to_le_bytes());
        keys.extend_from_slice(key);
    }
    let mut page = page::header(2, page::BRANCH, children.len() as u16, 0);
    page.extend(index);
    page.extend(keys);
    page.resize(page_bytes, 0);
    page
}

fn with_root_bucket_page(page: &[u8]) -> Vec<u8> {
    let small = Buckets::from([(
        b"key".to_vec(),
        BTreeMap::from([(b"k".to_vec(), b"v".to_vec())]),
    )]);
    let mut bytes = write(&small, 4096);
    bytes[2 * 4096..3 * 4096].copy_from_slice(page);
    bytes
}

#[test]
fn circles_shared_pages_and_outsiders_end_in_an_error() {
    for (children, expected) in [
        (vec![(b"a".as_slice(), 2)], "it is used twice"),
        (vec![(b"a", 3), (b"b", 3)], "it is used twice"),
        (vec![(b"a", 0)], "there is no such page"),
        (vec![(b"a", u64::MAX)], "there is no such page"),
        (vec![(b"a", 1 << 40)], "there is no such page"),
        (vec![], "it is a branch without pages below"),
    ] {
        let bytes = with_root_bucket_page(&branch(&children, 4096));
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{children:?}: {error}");
        // A look-up ends as well.
        let bolt = Bolt::open(bytes).unwrap();
        let bucket = bolt.bucket("key").unwrap();
        let found = bolt.get(&bucket, b"k");
        assert!(!matches!(found, Ok(Some(_))), "{children:?}: {found:?}");
    }
}

#[test]
fn an_overflow_beyond_the_file_takes_no_memory() {
    let mut page = page::header(2, page::LEAF, 0, u32::MAX);
    page.resize(4096, 0);
    let error = read(&with_root_bucket_page(&page)).unwrap_err();
    assert!(
        error.to_string().contains("ends behind the file"),
        "{error}"
    );
}

#[test]
fn flipped_bytes_of_the_structure_end() {
    let small = Buckets::from([
        (
            b"key".to_vec(),
            (0..300_u32)
                .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 40]))
                .collect(),
        ),
        (b"meta".to_vec(), BTreeMap::new()),
    ]);
    let bytes = write(&small, 512);
    let (mut refused, mut noticed) = (0, 0);
    for offset in (1024..bytes.len()).filter(|o| o % 512 < 48) {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1 << (offset % 8);
        match read(&damaged) {
            Err(_) => refused += 1,
            // Positions of keys and values may be moved to others that are in order as well: the
            // snapshot's hash is what tells those.
            Ok(read) => noticed += usize::from(read != small),
        }
    }
    assert!(refused > 500 && noticed > 100, "{refused} {noticed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mutation_ends(seed in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..60)) {
        let small = Buckets::from([
            (b"key".to_vec(), (0..400_u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 30])).collect()),
            (b"meta".to_vec(), BTreeMap::new()),
        ]);
        let mut bytes = write(&small, 512);
        for (at, byte) in seed {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        // Both meta pages may be spoilt; the pages behind them are what is tried here.
        let good = write(&small, 512);
        bytes[..1024].copy_from_slice(&good[..1024]);
        let _outcome = read(&bytes);
        let _any = read(&bytes[..]);
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(read(&bytes).is_err());
    }
}
