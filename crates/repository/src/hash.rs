//! SHA-256 of one message, and of two at once.
//!
//! The processor's SHA instructions wait for each other: one message leaves their units idle more
//! than half of the time. Two messages, whose instructions interleave, take little longer than
//! one (`docs/adr/0018-two-hashes-at-once.md`).
//!
//! Invariant: the result is SHA-256 whatever the processor, the lengths and the splits are.

mod portable;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

use portable::Portable;

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// The SHA-256 of each of two messages.
#[must_use]
pub fn sha256_of_two(first: &[u8], second: &[u8]) -> [[u8; 32]; 2] {
    let (mut one, mut other) = (Sha256::new(), Sha256::new());
    Sha256::update_two(&mut one, first, &mut other, second);
    [one.finish(), other.finish()]
}

/// A hash in the making.
#[derive(Clone)]
pub struct Sha256(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    ShaNi(sha_ni::State),
    Portable(Portable),
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    /// Of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(state) = sha_ni::State::new() {
            return Self(Kind::ShaNi(state));
        }
        Self(Kind::Portable(Portable::new()))
    }

    /// Goes on with more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::ShaNi(state) => state.update(bytes),
            Kind::Portable(state) => state.update(bytes),
        }
    }

    /// Goes on with two hashes, each with bytes of its own, in little more time than the longer
    /// of the two takes.
    pub fn update_two(first: &mut Self, bytes: &[u8], second: &mut Self, others: &[u8]) {
        match (&mut first.0, &mut second.0) {
            #[cfg(target_arch = "x86_64")]
            (Kind::ShaNi(one), Kind::ShaNi(other)) => {
                sha_ni::State::update_two(one, bytes, other, others);
            }
            _ => {
                first.update(bytes);
                second.update(others);
            }
        }
    }

    /// The hash of all bytes.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::ShaNi(state) => state.finish(),
            Kind::Portable(state) => state.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn published_vectors() {
        let two_blocks: &[u8] = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let hex = |hash: [u8; 32]| crate::id::BlobId(hash).to_string();
        let [abc, long] = sha256_of_two(b"abc", two_blocks);
        assert_eq!(
            hex(abc),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(long),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(
            hex(Sha256::new().finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn all_lengths_and_splits_give_what_the_library_gives() {
        let data = noise(1000);
        for length in 0..300 {
            let (first, second) = (&data[..length], &data[length..length + 3 * (length % 67)]);
            let pair = [sha256(first), sha256(second)];
            assert_eq!(sha256_of_two(first, second), pair, "{length}");
            assert_eq!(sha256_of_two(second, first), [pair[1], pair[0]], "{length}");
            for split in [0, 1, 63, 64, 65, length / 2] {
                let (start, end) = first.split_at(split.min(length));
                let (mut one, mut other) = (Sha256::new(), Sha256::new());
                one.update(start);
                Sha256::update_two(&mut one, end, &mut other, second);
                assert_eq!([one.finish(), other.finish()], pair, "{length}, {split}");
            }
        }
        let long = noise(100_003);
        let pair = [sha256(&long), sha256(&long[7..70_000])];
        assert_eq!(sha256_of_two(&long, &long[7..70_000]), pair);
    }

    #[test]
    fn the_portable_way_gives_the_same() {
        let data = noise(500);
        let mut portable = Sha256(Kind::Portable(Portable::new()));
        let mut other = Sha256::new();
        Sha256::update_two(&mut portable, &data[..200], &mut other, &data);
        portable.update(&data[200..]);
        assert_eq!([portable.finish(), other.finish()], [sha256(&data); 2]);
    }
}
