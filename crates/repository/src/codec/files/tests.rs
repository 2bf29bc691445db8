use super::*;
use crate::codec::tests::codec;
use crate::format::index::{IndexBlob, IndexFile, IndexPack};
use crate::format::pack::BlobKind;
use crate::id::{BlobId, PackId};

/// Longer than the window, and than what is gathered.
fn index() -> IndexFile {
    let blob = |number: u32| IndexBlob {
        id: BlobId::of(&number.to_le_bytes()),
        kind: BlobKind::Data,
        offset: number,
        length: 7,
        uncompressed_length: None,
    };
    let pack = IndexPack {
        id: PackId([7; 32]),
        blobs: (0..5_000).map(blob).collect(),
    };
    IndexFile {
        supersedes: Vec::new(),
        packs: vec![pack],
    }
}

fn frame(plaintext: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plaintext, 3).unwrap()
}

fn sealed(codec: &Codec, frames: &[&[u8]]) -> Vec<u8> {
    let body = [&[ENCODING_ZSTD], frames.concat().as_slice()].concat();
    codec.cipher.seal(&body).unwrap()
}

#[test]
fn files_come_back_in_both_versions() {
    let json = serde_json::to_vec(&index()).unwrap();
    assert!(json.len() > 5 * GATHERED_BYTES);
    for (version, sizes) in [(1, json.len()..json.len() + 100), (2, 1..json.len() / 2)] {
        let codec = codec(version);
        let sealed = codec.seal_json("an index", &index()).unwrap();
        assert!(sizes.contains(&sealed.len()), "{version}: {}", sealed.len());
        let opened = codec.open_file(sealed).unwrap();
        assert!(opened == json, "{version}");
        assert_eq!(opened.capacity(), json.len(), "{version}");
    }
}

#[test]
fn what_opens_to_something_else_is_no_proof() {
    for version in [1, 2] {
        let codec = codec(version);
        let (sealed, digest) = codec.seal_json_unproven("a list", &[1, 2, 3]).unwrap();
        assert_eq!(digest.bytes, 7);
        assert!(codec.opens_to(sealed.clone(), digest));
        let (other, _) = codec.seal_json_unproven("a list", &[1, 2, 4]).unwrap();
        assert!(!codec.opens_to(other, digest), "{version}: another value");
        let (shorter, _) = codec.seal_json_unproven("a list", &[1, 2]).unwrap();
        assert!(!codec.opens_to(shorter, digest), "{version}: a shorter one");
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1;
            assert!(!codec.opens_to(flipped, digest), "{version}, {byte}");
        }
        assert!(!codec.opens_to(Vec::new(), digest), "{version}: nothing");
    }
}

#[test]
fn what_is_no_json_is_an_error_that_names_it() {
    let by_lists = std::collections::BTreeMap::from([(vec![1], 2)]);
    let refused = codec(2).seal_json("a map", &by_lists).unwrap_err();
    assert_eq!(refused.to_string(), "cannot encode a map");
}

#[test]
fn frames_of_other_writers_open_whether_they_state_their_sizes_or_not() {
    let codec = codec(2);
    let one = frame(b"{\"packs\":");
    let other = frame(b"[]}");
    let expected = b"{\"packs\":[]}".as_slice();
    let in_two = codec.open_file(sealed(&codec, &[&one, &other]));
    assert_eq!(in_two.unwrap(), expected);
    let unsized_frame = zstd::stream::encode_all(expected, 3).unwrap();
    assert_eq!(get_frame_content_size(&unsized_frame).unwrap(), None);
    let opened = codec.open_file(sealed(&codec, &[&unsized_frame]));
    assert_eq!(opened.unwrap(), expected);
    let torn = codec.open_file(sealed(&codec, &[&one[..one.len() - 1]]));
    assert!(matches!(torn, Err(OpenError::Decompress(_))), "{torn:?}");
    let followed = codec.open_file(sealed(&codec, &[&one, b"more"]));
    assert!(
        matches!(followed, Err(OpenError::Decompress(_))),
        "{followed:?}"
    );
}

#[test]
fn a_size_beyond_the_limit_is_refused_as_it_is_stated() {
    let codec = codec(2);
    // A frame of one segment with eight bytes of size, whose first block need not come.
    let stating = |bytes: u64| [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0], &bytes.to_le_bytes()[..]].concat();
    let beyond = BLOB_BYTES_MAX as u64 + 1;
    let refused = codec.open_file(sealed(&codec, &[&stating(beyond)]));
    assert!(
        matches!(refused, Err(OpenError::TooLarge(bytes)) if bytes == beyond),
        "{refused:?}"
    );
    let torn = codec.open_file(sealed(&codec, &[&stating(beyond - 1)]));
    assert!(matches!(torn, Err(OpenError::Decompress(_))), "{torn:?}");
}
