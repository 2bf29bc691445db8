use super::*;
use crate::crypto::Key;

pub fn codec(version: u32) -> Codec {
    Codec::new(Cipher::new(&Key::random().unwrap()).unwrap(), version)
}

fn seal(
    codec: &Codec,
    (id, plaintext): (BlobId, &[u8]),
    compression: Compression,
    out: &mut Vec<u8>,
) -> Result<SealedLength, RepositoryError> {
    let mut hash = Sha256::new();
    hash.update(out);
    let prepared = codec.prepare(id, plaintext, compression)?;
    let expected = prepared.sealed_length();
    let sealed = codec.seal(prepared, out, &mut hash);
    assert_eq!(
        hash.finish(),
        crate::id::sha256(out),
        "the pack's hash must follow its bytes"
    );
    assert!(sealed.as_ref().is_ok_and(|s| s.sealed == expected) || sealed.is_err());
    sealed
}

#[test]
fn blobs_come_back_compressed_only_where_it_helps() {
    let noise: Vec<u8> = (0..300_000_u32)
        .flat_map(|i| crate::id::sha256(&i.to_le_bytes()))
        .collect();
    let text = b"all work and no play makes jack a dull boy ".repeat(30_000);
    for (version, compression, plaintext, compressed) in [
        (2, Compression::Auto, &text, true),
        (2, Compression::Max, &text, true),
        (2, Compression::Off, &text, false),
        (1, Compression::Auto, &text, false),
        (2, Compression::Auto, &noise, false),
        (2, Compression::Auto, &Vec::new(), false),
    ] {
        let codec = codec(version);
        let id = BlobId::of(plaintext);
        let mut out = b"before".to_vec();
        let length = seal(&codec, (id, plaintext), compression, &mut out).unwrap();
        assert_eq!(length.sealed, out.len() - 6);
        assert_eq!(length.uncompressed.is_some(), compressed);
        let mut plain = b"x".to_vec();
        codec
            .open_blob(id, &mut out[6..], length.uncompressed, &mut plain)
            .unwrap();
        assert_eq!(&plain[1..], plaintext);
    }
}

#[test]
fn a_blob_under_a_wrong_id_is_refused_before_upload_and_after_download() {
    let codec = codec(2);
    let mut out = Vec::new();
    let wrong = BlobId([1; 32]);
    let refused = seal(&codec, (wrong, b"content"), Compression::Auto, &mut out);
    assert!(matches!(refused, Err(RepositoryError::VerifyFailed { .. })));
    assert!(out.is_empty());
    let id = BlobId::of(b"content");
    let length = seal(&codec, (id, b"content"), Compression::Auto, &mut out).unwrap();
    let mut plain = Vec::new();
    let refused = codec.open_blob(wrong, &mut out, length.uncompressed, &mut plain);
    assert!(matches!(refused, Err(OpenError::Hash(_))));
    assert!(plain.is_empty());
}

#[test]
fn of_two_blobs_opened_at_once_each_stands_for_itself() {
    let codec = codec(2);
    let noise = crate::id::sha256(b"seed").repeat(40);
    let noise: Vec<u8> = noise
        .iter()
        .zip(0_u32..)
        .map(|(b, i)| b ^ (i * 7) as u8)
        .collect();
    let text = b"all work and no play ".repeat(100);
    let ids = [BlobId::of(&noise), BlobId::of(&text)];
    let mut sealed = [Vec::new(), Vec::new()];
    let raw = seal(&codec, (ids[0], &noise), Compression::Off, &mut sealed[0]).unwrap();
    let packed = seal(&codec, (ids[1], &text), Compression::Auto, &mut sealed[1]).unwrap();
    assert!(raw.uncompressed.is_none() && packed.uncompressed.is_some());
    let open = |ids: [BlobId; 2], damaged: Option<usize>| {
        let mut bytes = sealed.clone();
        if let Some(number) = damaged {
            bytes[number][20] ^= 1;
        }
        let [one, two] = &mut bytes;
        let mut plain = [b"old".to_vec(), b"older".to_vec()];
        let [first, second] = &mut plain;
        let blob = |id, sealed, uncompressed, plain| SealedBlob {
            id,
            sealed,
            uncompressed,
            plain,
        };
        codec
            .open_two([
                blob(ids[0], one, raw.uncompressed, first),
                blob(ids[1], two, packed.uncompressed, second),
            ])
            .map(|opened| opened.map(<[u8]>::to_vec))
    };
    let [first, second] = open(ids, None);
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        (noise.clone(), text.clone())
    );
    let [first, second] = open(ids, Some(0));
    assert!(matches!(first, Err(OpenError::Crypto(_))), "{first:?}");
    assert_eq!(second.unwrap(), text);
    let [first, second] = open(ids, Some(1));
    assert_eq!(first.unwrap(), noise);
    assert!(matches!(second, Err(OpenError::Crypto(_))), "{second:?}");
    // Authentic bytes of another blob.
    let [first, second] = open([ids[0], ids[0]], None);
    assert_eq!(first.unwrap(), noise);
    assert!(matches!(second, Err(OpenError::Hash(found)) if found == ids[1]));
    let [first, second] = open([ids[1], ids[1]], None);
    assert!(matches!(first, Err(OpenError::Hash(found)) if found == ids[0]));
    assert_eq!(second.unwrap(), text);
}

#[test]
fn a_bomb_ends_at_the_stated_length() {
    let codec = codec(2);
    let zeros = vec![0; 64 << 20];
    let mut out = Vec::new();
    let id = BlobId::of(&zeros);
    let length = seal(&codec, (id, &zeros), Compression::Auto, &mut out).unwrap();
    assert!(length.sealed < 10_000);
    let mut plain = Vec::new();
    let refused = codec.open_blob(BlobId::of(&zeros), &mut out.clone(), Some(1000), &mut plain);
    assert!(
        matches!(refused, Err(OpenError::Decompress(_))),
        "{refused:?}"
    );
    let refused = codec.open_blob(BlobId::of(&zeros), &mut out, Some(usize::MAX), &mut plain);
    assert!(
        matches!(refused, Err(OpenError::TooLarge(_))),
        "{refused:?}"
    );
    assert!(plain.capacity() < 2000);
}

#[test]
fn each_level_compresses_as_if_there_were_no_other() {
    use super::scratch::with_scratch;
    // Of a size for which zstd looks for matches of four bytes.
    let text = &include_bytes!("tests.rs")[..6_000];
    let compress = |level| {
        with_scratch(|scratch| {
            scratch.compress(text, level)?;
            Ok(scratch.compressed.clone())
        })
        .unwrap()
    };
    let usual = compress(3);
    for level in [1, 11, 19] {
        let alone = zstd::bulk::compress(text, level).unwrap();
        assert_eq!(compress(level), alone, "{level}");
        assert_eq!(compress(3), usual, "after {level}");
    }
    // Without short matches the blob is another one, and hardly larger.
    let with_short = zstd::bulk::compress(text, 3).unwrap();
    assert_ne!(usual, with_short);
    assert!(usual.len() <= with_short.len() * 102 / 100);
}

#[test]
fn a_blob_of_another_repository_stays_as_it_was_compressed() {
    let (theirs, ours, old) = (codec(2), codec(2), codec(1));
    let text = include_bytes!("tests.rs");
    let id = BlobId::of(text);
    let sealed_by = |codec: &Codec, blob: Prepared<'_>| {
        let (mut out, mut hash) = (Vec::new(), Sha256::new());
        let length = codec.seal(blob, &mut out, &mut hash);
        length.map(|length| (out, length.uncompressed))
    };
    let stored = |compression| {
        let blob = theirs.prepare(id, text, compression).unwrap();
        sealed_by(&theirs, blob).unwrap()
    };
    let usual = stored(Compression::Auto).0.len();
    for (compression, expected) in [
        (Compression::Max, stored(Compression::Max).0.len()),
        (Compression::Fastest, stored(Compression::Fastest).0.len()),
        (Compression::Off, usual),
    ] {
        let (sealed, uncompressed) = stored(compression);
        let (mut memory, mut again) = (sealed.clone(), sealed);
        let decrypted = theirs.decrypt(id, &mut memory, uncompressed).unwrap();
        assert_eq!(decrypted.plaintext_bytes(), text.len());
        let blob = ours
            .prepare_decrypted(&decrypted, Compression::Auto)
            .unwrap();
        assert_eq!(blob.sealed_length(), expected);
        let (mut copy, length) = sealed_by(&ours, blob).unwrap();
        assert_eq!((copy.len(), length), (expected, Some(text.len())));
        let mut back = Vec::new();
        ours.open_blob(id, &mut copy, length, &mut back).unwrap();
        assert_eq!(back, text);
        // Version 1 has no compressed blobs.
        let blob = old
            .prepare_decrypted(&decrypted, Compression::Auto)
            .unwrap();
        let (copy, length) = sealed_by(&old, blob).unwrap();
        assert_eq!((copy.len(), length), (text.len() + OVERHEAD_BYTES, None));
        // What is not the blob that its id says is not stored, however it came; nor what is longer or shorter
        // than stated.
        let another = BlobId::of(b"another");
        let mut wrong = vec![(another, uncompressed)];
        if let Some(stated) = uncompressed {
            wrong.extend([stated - 1, stated + 1, BLOB_BYTES_MAX + 1].map(|n| (id, Some(n))));
        }
        for (id, stated) in wrong {
            let mut memory = again.clone();
            let decrypted = theirs.decrypt(id, &mut memory, stated).unwrap();
            for codec in [&ours, &old] {
                let blob = codec.prepare_decrypted(&decrypted, Compression::Auto);
                let refused = blob.and_then(|blob| sealed_by(codec, blob)).unwrap_err();
                assert!(matches!(refused, RepositoryError::VerifyFailed { .. }));
            }
        }
        again[30] ^= 1;
        let refused = theirs.decrypt(id, &mut again, uncompressed).unwrap_err();
        assert!(matches!(refused, OpenError::Crypto(_)));
    }
    assert!(stored(Compression::Max).0.len() < usual);
    assert!(usual < stored(Compression::Fastest).0.len());
}

#[test]
fn what_cannot_be_verified_leaves_the_hash_of_its_pack_alone() {
    let codec = codec(2);
    let text = b"all work and no play ".repeat(3000);
    for compression in [Compression::Auto, Compression::Off] {
        let id = BlobId::of(&text);
        let mut sealed = Vec::new();
        let length = seal(&codec, (id, &text), compression, &mut sealed).unwrap();
        let before = || {
            let mut hash = Sha256::new();
            hash.update(b"what came before");
            hash
        };
        let refused = |id: BlobId, sealed: &[u8], uncompressed: Option<usize>| {
            let mut pack = before();
            let verified = codec.verify(id, sealed, uncompressed, &mut pack);
            assert_eq!(pack.finish(), before().finish());
            verified.unwrap_err()
        };
        let stated = length.uncompressed;
        for bytes in 0..=40 {
            let error = refused(id, &sealed[..bytes], stated);
            assert!(matches!(error, OpenError::Crypto(_)), "{bytes}: {error}");
        }
        for at in [0, 20, sealed.len() - MAC_BYTES - 1, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x10;
            let error = refused(id, &damaged, stated);
            assert!(matches!(error, OpenError::Crypto(_)), "{at}: {error}");
        }
        let error = refused(BlobId([7; 32]), &sealed, stated);
        assert!(matches!(error, OpenError::Hash(found) if found == id));
        if let Some(stated) = stated {
            for stated in [stated - 1, stated + 1, BLOB_BYTES_MAX + 1] {
                refused(id, &sealed, Some(stated));
            }
        }
        let mut pack = before();
        codec.verify(id, &sealed, stated, &mut pack).unwrap();
        let whole = [b"what came before".as_slice(), &sealed].concat();
        assert_eq!(pack.finish(), crate::id::sha256(&whole));
    }
}

/// The same key stream would be added and taken away, and only others could not read it.
#[test]
fn a_bit_that_flips_in_round_keys_is_caught_before_the_upload() {
    let mut cipher = Cipher::new(&Key::random().unwrap()).unwrap();
    if !cipher.flip_bit_of_round_keys() {
        eprintln!("skipped: this processor has no vector AES, and the library shows no round keys");
        return;
    }
    let codec = Codec::new(cipher, 2);
    let content = b"something worth keeping";
    let mut out = Vec::new();
    let sealed = seal(
        &codec,
        (BlobId::of(content), content),
        Compression::Auto,
        &mut out,
    );
    assert!(matches!(sealed, Err(RepositoryError::VerifyFailed { .. })));
    assert!(out.is_empty());
}

/// Of every kind of length: none, within a piece, pieces, more than a blob usually has; compressed and not.
fn mixed_blobs(codec: &Codec) -> Vec<(BlobId, Vec<u8>, Option<usize>)> {
    let lengths = [0, 1, 70_000, 16_384, 63, 2_000_003, 40_000, 64, 300_001, 5];
    let noise = |length: usize| {
        let mut state = length as u64 | 1 << 40;
        let next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005) | 1;
            (state >> 33) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let text =
        |length: usize| b"no day without a line; ".repeat(length / 23 + 1)[..length].to_vec();
    let both = lengths.map(|length| [noise(length), text(length)]);
    let sealed = both.iter().flatten().map(|plaintext| {
        let (id, mut out) = (BlobId::of(plaintext), Vec::new());
        let length = seal(codec, (id, plaintext), Compression::Auto, &mut out).unwrap();
        (id, out, length.uncompressed)
    });
    sealed.collect()
}

fn verify_all(codec: &Codec, blobs: &[(BlobId, Vec<u8>, Option<usize>)]) -> Result<(), OpenError> {
    let sealed = blobs.iter().map(|(id, sealed, uncompressed)| SealedBytes {
        id: *id,
        sealed,
        uncompressed: *uncompressed,
    });
    codec.verify_all(sealed, &mut LaneMemory::default())
}

#[test]
fn of_many_blobs_proven_at_once_none_is_passed_over() {
    let codec = codec(2);
    let blobs = mixed_blobs(&codec);
    let compressed = blobs.iter().filter(|(_, _, long)| long.is_some()).count();
    assert!((5..blobs.len() - 5).contains(&compressed), "{compressed}");
    for count in 0..=blobs.len() {
        verify_all(&codec, &blobs[..count]).unwrap();
        verify_all(&codec, &blobs[blobs.len() - count..]).unwrap();
    }
    for number in 0..blobs.len() {
        let with = |change: fn(&mut (BlobId, Vec<u8>, Option<usize>))| {
            let mut blobs = blobs.clone();
            change(&mut blobs[number]);
            verify_all(&codec, &blobs).unwrap_err()
        };
        for refused in [
            with(|(_, sealed, _)| sealed[0] ^= 1),
            with(|(_, sealed, _)| *sealed.last_mut().unwrap() ^= 0x80),
            with(|(_, sealed, _)| {
                let middle = sealed.len() / 2;
                sealed[middle] ^= 1;
            }),
            with(|(_, sealed, _)| sealed.truncate(sealed.len() - 1)),
            with(|(_, sealed, _)| sealed.clear()),
        ] {
            assert!(
                matches!(refused, OpenError::Crypto(_)),
                "{number}: {refused}"
            );
        }
        // Authentic bytes of another blob.
        let refused = with(|(id, _, _)| id.0[31] ^= 1);
        assert!(matches!(refused, OpenError::Hash(_)), "{number}: {refused}");
        let refused = with(|(_, _, long)| *long = Some(BLOB_BYTES_MAX + 1));
        assert!(
            matches!(refused, OpenError::TooLarge(_)),
            "{number}: {refused}"
        );
        let refused = with(|(_, _, long)| *long = Some(long.map_or(7, |long| long + 1)));
        let is_right = matches!(refused, OpenError::Length { .. } | OpenError::Decompress(_));
        assert!(is_right, "{number}: {refused}");
    }
}
