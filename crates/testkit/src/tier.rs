//! How much to test: the same programs at every change, every night and before a release.
//!
//! Invariant: the tier changes counts only, never what passes.

/// Which run this is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// Every change.
    P,
    /// Every night.
    N,
    /// Before a release.
    R,
}

/// The tier that `REFLOAT_TEST_TIER` names; P without it.
///
/// # Panics
/// It names none.
#[must_use]
pub fn tier() -> Tier {
    match std::env::var("REFLOAT_TEST_TIER").as_deref() {
        Err(_) | Ok("" | "P") => Tier::P,
        Ok("N") => Tier::N,
        Ok("R") => Tier::R,
        Ok(other) => panic!("REFLOAT_TEST_TIER is {other:?}; write P, N or R"),
    }
}

/// A count by tier.
#[must_use]
pub fn by_tier(p: u64, n: u64, r: u64) -> u64 {
    match tier() {
        Tier::P => p,
        Tier::N => n,
        Tier::R => r,
    }
}

/// The seeds of a random test: so many by tier, or the one of `REFLOAT_TEST_SEED`, to replay it.
///
/// # Panics
/// `REFLOAT_TEST_SEED` is no number.
#[must_use]
pub fn seeds(p: u64, n: u64, r: u64) -> Vec<u64> {
    match std::env::var("REFLOAT_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("REFLOAT_TEST_SEED is a number")],
        Err(_) => (0..by_tier(p, n, r)).collect(),
    }
}

/// Tells how much a suite went through; `docs/testing.md` is written from these lines.
pub fn report(suite: &str, what: &str, started: std::time::Instant) {
    eprintln!(
        "SUITE {suite} ({:?}): {what} in {:.1} s",
        tier(),
        started.elapsed().as_secs_f64()
    );
}
