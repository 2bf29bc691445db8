//! SHA-256 with the x86 SHA extensions, one or two messages at a time.
//!
//! Source: FIPS 180-4 for the function; Intel, "Intel SHA Extensions", 2013, for the use of the
//! instructions: the state as ABEF and CDGH, four rounds from four words of the schedule.
//!
//! No vector goes through a closure that is given to the standard library (`map`, `from_fn`): its functions are
//! compiled without the instructions, and what has them is not inlined into them, so each would be a call
//! that hands vectors over in memory.
//!
//! Invariant: a [`State`] exists only where the processor has the instructions that its schedule needs, so
//! going on with it is sound.

use std::arch::x86_64::{
    __cpuid, __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si64, _mm_ror_epi32,
    _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32,
    _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_srli_epi32,
    _mm_ternarylogic_epi32, _mm_unpackhi_epi64,
};
use std::sync::LazyLock;

const BLOCK_BYTES: usize = 64;

type Block = [u8; BLOCK_BYTES];

const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[rustfmt::skip]
const ROUND: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// How new words of the schedule come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Schedule {
    /// By the SHA instructions alone.
    Sha,
    /// Half of it by rotations, which AVX-512 has for vectors of any size. On Intel's processors (one was measured)
    /// the instruction for that half keeps the unit of the rounds busy, and rotations do not (ADR 0018).
    Rotations,
}

/// What new states have; none without the SHA instructions.
static SCHEDULE: LazyLock<Option<Schedule>> = LazyLock::new(|| match Schedule::Sha.is_there() {
    true if is_intel() && Schedule::Rotations.is_there() => Some(Schedule::Rotations),
    true => Some(Schedule::Sha),
    false => None,
});

impl Schedule {
    /// Whether the processor has the instructions.
    fn is_there(self) -> bool {
        let sha = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        let rotations = is_x86_feature_detected!("avx")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl");
        match self {
            Self::Sha => sha,
            Self::Rotations => sha && rotations,
        }
    }
}

fn is_intel() -> bool {
    // Miri does not know the question.
    if cfg!(miri) {
        return false;
    }
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    name.as_flattened() == b"GenuineIntel"
}

/// A hash in the making.
#[derive(Clone)]
pub struct State {
    words: [u32; 8],
    /// The beginning of a block.
    rest: Block,
    rest_bytes: usize,
    bytes: u64,
    schedule: Schedule,
}

impl State {
    /// Of no bytes yet; none if this processor lacks the instructions.
    pub fn new() -> Option<Self> {
        SCHEDULE.map(Self::with)
    }

    /// With a schedule that is there.
    fn with(schedule: Schedule) -> Self {
        Self {
            words: INITIAL,
            rest: [0; BLOCK_BYTES],
            rest_bytes: 0,
            bytes: 0,
            schedule,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let blocks = self.take_blocks(bytes);
        self.schedule.one(&mut self.words, blocks);
    }

    pub fn update_two(first: &mut Self, bytes: &[u8], second: &mut Self, others: &[u8]) {
        let (a, b) = (first.take_blocks(bytes), second.take_blocks(others));
        let both = a.len().min(b.len());
        let (a, rest_a) = a.split_at(both);
        let (b, rest_b) = b.split_at(both);
        let schedule = first.schedule;
        schedule.two([&mut first.words, &mut second.words], a, b);
        schedule.one(&mut first.words, rest_a);
        schedule.one(&mut second.words, rest_b);
    }

    /// Completes the block that was begun, gives the whole blocks that follow, and keeps what
    /// comes after them.
    fn take_blocks<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [Block] {
        self.bytes = self.bytes.wrapping_add(bytes.len() as u64);
        if self.rest_bytes > 0 {
            let room = &mut self.rest[self.rest_bytes..];
            let (fitting, after) = bytes.split_at(room.len().min(bytes.len()));
            room[..fitting.len()].copy_from_slice(fitting);
            self.rest_bytes += fitting.len();
            bytes = after;
            if self.rest_bytes < BLOCK_BYTES {
                return &[];
            }
            self.schedule.one(&mut self.words, &[self.rest]);
        }
        let (blocks, after) = bytes.as_chunks();
        self.rest[..after.len()].copy_from_slice(after);
        self.rest_bytes = after.len();
        blocks
    }

    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.bytes.wrapping_mul(8);
        // A one, zeros up to the last eight bytes of a block, and the length.
        let zeros = (BLOCK_BYTES + 55 - self.rest_bytes) % BLOCK_BYTES;
        let mut padding = [0; 2 * BLOCK_BYTES];
        padding[0] = 0x80;
        padding[1 + zeros..9 + zeros].copy_from_slice(&bits.to_be_bytes());
        self.update(&padding[..9 + zeros]);
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.words) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

impl Schedule {
    fn one(self, words: &mut [u32; 8], blocks: &[Block]) {
        self.feed([words], blocks.iter().map(|block| [block]));
    }

    fn two(self, words: [&mut [u32; 8]; 2], blocks: &[Block], others: &[Block]) {
        self.feed(words, blocks.iter().zip(others).map(|(a, b)| [a, b]));
    }

    /// Reached only with the schedule of a [`State`], whose instructions the processor has.
    fn feed<'b, const N: usize>(
        self,
        words: [&mut [u32; 8]; N],
        blocks: impl Iterator<Item = [&'b Block; N]>,
    ) {
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0018"
        )]
        // SAFETY: `is_there` found the features that these are compiled for.
        unsafe {
            match self {
                Self::Sha => compress(words, blocks),
                Self::Rotations => compress_with_rotations(words, blocks),
            }
        }
    }
}

/// ABEF and CDGH of one message.
#[derive(Clone, Copy)]
struct Lanes {
    abef: __m128i,
    cdgh: __m128i,
}

/// The sixteen steps of a block, written out: as a loop they are not unrolled, which costs a quarter.
macro_rules! each_step {
    ($step:ident => $work:block) => {
        each_step!($step => $work, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    ($step:ident => $work:block, $($number:literal)*) => {$(
        {
            let $step = $number;
            $work
        }
    )*};
}

/// Defines a function that feeds blocks into `N` states, step by step in turn, so that their instructions overlap.
///
/// A macro, since a function has the same features for all of its types, and what is inlined into it may need no
/// others. The SHA instructions have the old encoding: vectors of more than 128 bits among them would cost tens
/// of cycles each time, so the loop may have none (disassembled, it had none).
macro_rules! define_compress {
    ($name:ident, $features:literal, $next_words:ident) => {
        #[target_feature(enable = $features)]
        fn $name<'b, const N: usize>(
            words: [&mut [u32; 8]; N],
            blocks: impl Iterator<Item = [&'b Block; N]>,
        ) {
            let mut states = [load_state(&INITIAL); N];
            for (state, words) in states.iter_mut().zip(&words) {
                *state = load_state(words);
            }
            for blocks in blocks {
                let before = states;
                let mut schedules = [[vector([0; 4]); 4]; N];
                for (schedule, block) in schedules.iter_mut().zip(blocks) {
                    *schedule = load_block(block);
                }
                each_step!(step => {
                    let constants = vector(ROUND[step]);
                    for (state, schedule) in states.iter_mut().zip(&mut schedules) {
                        if step >= 4 {
                            schedule[step % 4] = $next_words(schedule, step);
                        }
                        let current = _mm_add_epi32(schedule[step % 4], constants);
                        *state = four_rounds(*state, current);
                    }
                });
                for (state, before) in states.iter_mut().zip(before) {
                    state.abef = _mm_add_epi32(state.abef, before.abef);
                    state.cdgh = _mm_add_epi32(state.cdgh, before.cdgh);
                }
            }
            for (state, words) in states.into_iter().zip(words) {
                *words = store_state(state);
            }
        }
    };
}

define_compress!(compress, "sha,ssse3,sse4.1", next_words);
define_compress!(
    compress_with_rotations,
    "sha,ssse3,sse4.1,avx,avx512f,avx512vl",
    next_words_by_rotations
);

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds(state: Lanes, words: __m128i) -> Lanes {
    let Lanes { abef, cdgh } = state;
    let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
    let abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(words, 0x0e));
    Lanes { abef, cdgh }
}

/// The four words of the schedule that follow the last sixteen, of which the oldest four are at
/// `step`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn next_words(schedule: &[__m128i; 4], step: usize) -> __m128i {
    let (oldest, second) = (schedule[step % 4], schedule[(step + 1) % 4]);
    let (third, newest) = (schedule[(step + 2) % 4], schedule[(step + 3) % 4]);
    let sum = _mm_add_epi32(
        _mm_sha256msg1_epu32(oldest, second),
        _mm_alignr_epi8(newest, third, 4),
    );
    _mm_sha256msg2_epu32(sum, newest)
}

/// As [`next_words`].
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1,avx,avx512f,avx512vl")]
fn next_words_by_rotations(schedule: &[__m128i; 4], step: usize) -> __m128i {
    /// Of three bits one or all: the exclusive or.
    const ODD: i32 = 0b1001_0110;
    let (oldest, second) = (schedule[step % 4], schedule[(step + 1) % 4]);
    let (third, newest) = (schedule[(step + 2) % 4], schedule[(step + 3) % 4]);
    let words = _mm_alignr_epi8(second, oldest, 4);
    let sigma = _mm_ternarylogic_epi32::<ODD>(
        _mm_ror_epi32::<7>(words),
        _mm_ror_epi32::<18>(words),
        _mm_srli_epi32::<3>(words),
    );
    let sum = _mm_add_epi32(
        _mm_add_epi32(oldest, sigma),
        _mm_alignr_epi8(newest, third, 4),
    );
    _mm_sha256msg2_epu32(sum, newest)
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn vector([a, b, c, d]: [u32; 4]) -> __m128i {
    let [a, b, c, d] = [a, b, c, d].map(u32::cast_signed);
    _mm_set_epi32(d, c, b, a)
}

/// The sixteen big-endian words of a block.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_block(block: &Block) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let (words, _) = block.as_chunks::<8>();
    let mut schedule = [vector([0; 4]); 4];
    for (number, quarter) in schedule.iter_mut().enumerate() {
        let low = i64::from_le_bytes(words[2 * number]);
        let high = i64::from_le_bytes(words[2 * number + 1]);
        *quarter = _mm_shuffle_epi8(_mm_set_epi64x(high, low), swap);
    }
    schedule
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_state([a, b, c, d, e, f, g, h]: &[u32; 8]) -> Lanes {
    Lanes {
        abef: vector([*f, *e, *b, *a]),
        cdgh: vector([*h, *g, *d, *c]),
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store_state(Lanes { abef, cdgh }: Lanes) -> [u32; 8] {
    let [f, e, b, a] = words_of(abef);
    let [h, g, d, c] = words_of(cdgh);
    [a, b, c, d, e, f, g, h]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn words_of(vector: __m128i) -> [u32; 4] {
    let low = _mm_cvtsi128_si64(vector).cast_unsigned();
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)).cast_unsigned();
    [
        low as u32,
        (low >> 32) as u32,
        high as u32,
        (high >> 32) as u32,
    ]
}

/// These need nothing but this file, so that `scripts/check-unsafe` can run them under Miri.
#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: [u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A state with each schedule that is there, whoever made the processor.
    fn states() -> Vec<State> {
        let schedules = [Schedule::Sha, Schedule::Rotations];
        let (there, missing): (Vec<_>, Vec<_>) = schedules.iter().partition(|s| s.is_there());
        if !missing.is_empty() {
            eprintln!("SKIPPED: this processor has no instructions for {missing:?}");
        }
        there.into_iter().copied().map(State::with).collect()
    }

    #[test]
    fn one_and_two_messages_in_any_pieces() {
        for new in states() {
            messages_in_any_pieces(&new);
        }
    }

    fn messages_in_any_pieces(new: &State) {
        // FIPS 180-4's second example, and a million times "a" cut down: 1,000 times.
        let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let many = [b'a'; 1000];
        let expected = [
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3",
        ];
        for split in [0, 1, 55, 56, 63, 64, 65, 128, 500, 1000] {
            let (mut one, mut other) = (new.clone(), new.clone());
            let (start, end) = many.split_at(split);
            State::update_two(&mut one, long, &mut other, start);
            other.update(end);
            assert_eq!(
                [hex(one.finish()), hex(other.finish())],
                expected,
                "{:?}, {split}",
                new.schedule
            );
        }
    }

    #[test]
    fn two_long_messages_of_noise() {
        let mut word = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        })
        .take(20_000)
        .collect();
        // By Python's hashlib.
        let expected = [
            "979f9d1a5af2890de965a478ae1b0169a1c345c1249de7fd1147e7e8df157917",
            "349e1a5a12f9bee3ab553340b62537f31f4a446e5a3a55476142655e26af9858",
        ];
        for state in states() {
            let (mut one, mut other) = (state.clone(), state);
            State::update_two(&mut one, &noise, &mut other, &noise[7..9_001]);
            let schedule = one.schedule;
            let found = [one, other].map(|state| hex(state.finish()));
            assert_eq!(found, expected, "{schedule:?}");
        }
    }
}
