use poly1305::universal_hash::KeyInit as _;

use super::*;

/// What the library computes, one block after the other.
fn expected(r: &[u8; 16], s: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(r);
    key[16..].copy_from_slice(s);
    poly1305::Poly1305::new((&key).into())
        .compute_unpadded(message)
        .into()
}

/// The key for each of the vectors that this processor has, and for none.
fn keys(r: &[u8; 16]) -> Vec<MacKey> {
    #[cfg(target_arch = "x86_64")]
    {
        let others = [vectors::Powers::of_avx2(&Multiplier::clamped(r)), None];
        let others = others.map(|vectors| {
            let mut key = MacKey::new(r);
            key.vectors = vectors;
            key
        });
        [MacKey::new(r)].into_iter().chain(others).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![MacKey::new(r)]
}

/// Every way in which this machine computes tags, the whole message at once and in pieces.
fn ways(r: &[u8; 16], s: &[u8; 16], message: &[u8]) -> Vec<[u8; 16]> {
    let keys = keys(r);
    let in_pieces = |key: &MacKey, piece_bytes: usize| {
        let mut tag = key.begin(s);
        for piece in message.chunks(piece_bytes) {
            tag.absorb(piece);
        }
        tag.finish()
    };
    let mut tags: Vec<_> = keys.iter().map(|key| key.tag(s, message)).collect();
    for piece_bytes in [16, 48, 128, 144, 400, 1040, 1 << 20] {
        tags.extend(keys.iter().map(|key| in_pieces(key, piece_bytes)));
    }
    tags
}

fn check(r: &[u8; 16], s: &[u8; 16], message: &[u8]) {
    let expected = expected(r, s, message);
    for (way, tag) in ways(r, s, message).into_iter().enumerate() {
        assert_eq!(tag, expected, "way {way}, {} bytes", message.len());
    }
}

#[test]
fn vectors_at_the_edges_of_the_modulus() {
    // RFC 8439, appendix A.3, vectors 7 to 11: sums that reach 2^128, 2^130 - 5 and beyond.
    let bytes = |parts: &[(u8, usize)]| -> Vec<u8> {
        let part = |(byte, count): &(u8, usize)| std::iter::repeat_n(*byte, *count);
        parts.iter().flat_map(part).collect()
    };
    let block = |first: u8, others: u8| -> [u8; 16] {
        bytes(&[(first, 1), (others, 15)]).try_into().unwrap()
    };
    let (zero, full) = ([0; 16], [0xff; 16]);
    let cases = [
        (block(2, 0), zero, full.to_vec(), block(3, 0)),
        (block(2, 0), full, block(2, 0).to_vec(), block(3, 0)),
        (
            block(1, 0),
            zero,
            bytes(&[(0xff, 16), (0xf0, 1), (0xff, 15), (0x11, 1), (0, 15)]),
            block(5, 0),
        ),
        (
            block(1, 0),
            zero,
            bytes(&[(0xff, 16), (0xfb, 1), (0xfe, 15), (1, 16)]),
            zero,
        ),
        (
            block(2, 0),
            zero,
            block(0xfd, 0xff).to_vec(),
            block(0xfa, 0xff),
        ),
    ];
    for (r, s, message, tag) in cases {
        for found in ways(&r, &s, &message) {
            assert_eq!(found, tag, "{message:02x?}");
        }
    }
}

#[test]
fn all_ways_agree_with_the_library_for_every_length() {
    let noise: Vec<u8> = (0..12_000_u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let start = |at: usize| -> [u8; 16] { noise[at..at + 16].try_into().unwrap() };
    let lengths = (0..600).chain([1023, 1024, 4095, 4096, 4097, 11_000]);
    for length in lengths {
        check(&start(length), &start(length + 16), &noise[..length]);
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let full = vec![0xff; 5000];
    for r in [[0xff; 16], [0; 16], [0x0f; 16], [0xfc; 16]] {
        for length in [15, 16, 17, 127, 128, 129, 255, 256, 2048, 4999, 5000] {
            check(&r, &[0xff; 16], &full[..length]);
            check(&r, &[0; 16], &full[..length]);
        }
    }
}

#[test]
#[should_panic(expected = "only the last piece has an odd end")]
fn bytes_behind_an_odd_piece_are_not_passed_over() {
    let key = MacKey::new(&[7; 16]);
    let mut tag = key.begin(&[0; 16]);
    tag.absorb(b"odd");
    tag.absorb(&[0; 16]);
}
