//! F1: parsers take any bytes without a panic and without an end to their patience.
//!
//! Each target is a plain function of bytes. Its corpus is a few valid inputs, and what once failed;
//! each is run as it is, then mutated so many times by tier.
//!
//! Invariant: a failure names the seed and the input, and both bring it back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::tier;

/// Inputs of a few kilobytes take milliseconds; whoever takes this long hangs.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
/// What parsers of text stumble over.
const WORDS: [&[u8]; 12] = [
    b"18446744073709551615",
    b"-1",
    b"null",
    b"[[[[[[[[",
    b"\\u0000",
    b"{\"\":",
    b"1e999",
    b"\"\xff\"",
    b"=\"",
    b"@sha256:",
    b"://",
    b"/../",
];

/// A parser of bytes.
type Parse<'a> = Box<dyn Fn(&[u8]) + 'a>;

/// A parser with valid inputs.
pub struct Target<'a> {
    name: &'static str,
    parse: Parse<'a>,
    corpus: Vec<Vec<u8>>,
}

impl<'a> Target<'a> {
    /// A parser of bytes, by the name that reports have, with valid inputs and inputs that once
    /// failed. It asserts what holds of whatever it takes.
    pub fn new<C: Into<Vec<u8>>>(
        name: &'static str,
        corpus: impl IntoIterator<Item = C>,
        parse: impl Fn(&[u8]) + 'a,
    ) -> Self {
        Self {
            name,
            parse: Box::new(parse),
            corpus: corpus.into_iter().map(Into::into).collect(),
        }
    }

    /// A parser of text; bytes that are none become some.
    pub fn text<C: Into<Vec<u8>>>(
        name: &'static str,
        corpus: impl IntoIterator<Item = C>,
        parse: impl Fn(&str) + 'a,
    ) -> Self {
        Self::new(name, corpus, move |bytes| {
            parse(&String::from_utf8_lossy(bytes))
        })
    }

    fn run(&self, input: &[u8], seed: Option<u64>) {
        let shown = || {
            let (name, text) = (self.name, String::from_utf8_lossy(input));
            format!("{name}, seed {seed:?}: {text:?}")
        };
        let started = Instant::now();
        let run = AssertUnwindSafe(|| (self.parse)(input));
        assert!(catch_unwind(run).is_ok(), "{}", shown());
        let took = started.elapsed();
        assert!(took < INPUT_TIME_MAX, "{took:?} for {}", shown());
    }
}

/// Runs every target on its corpus and on mutations of it, and reports how many as `suite`.
///
/// # Panics
/// A parser panicked, or took too long.
pub fn run(suite: &str, targets: &[Target<'_>]) {
    let started = Instant::now();
    let rounds = tier::by_tier(20_000, 2_000_000, 20_000_000);
    for (number, target) in targets.iter().enumerate() {
        for input in &target.corpus {
            target.run(input, None);
        }
        for seed in 0..rounds {
            let mut random = Random::new(seed * 100 + number as u64);
            let input = &target.corpus[random.index(target.corpus.len())];
            target.run(&mutate(&mut random, input), Some(seed));
        }
    }
    let what = format!("{} parsers, {rounds} inputs each", targets.len());
    tier::report(suite, &what, started);
}

/// Changes an input in one to four places.
#[must_use]
pub fn mutate(random: &mut Random, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.index(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + random.index(9)).min(bytes.len()))),
            2 => {
                let piece = random.bytes(8);
                drop(bytes.splice(at..at, piece));
            }
            3 => {
                let word = WORDS[random.index(WORDS.len())].to_vec();
                drop(bytes.splice(at..at, word));
            }
            4 if !bytes.is_empty() => {
                let (from, to) = (random.index(bytes.len()), random.index(bytes.len()));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}
