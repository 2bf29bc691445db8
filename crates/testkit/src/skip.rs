//! Tests that cannot run here.
//!
//! Invariant: no test is skipped in silence.

/// Says that a test does not run, and why.
///
/// With `REFLOAT_TEST_ALL=1` in the environment nothing may be skipped.
///
/// # Panics
/// `REFLOAT_TEST_ALL` is `1`.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    let is_strict = std::env::var_os("REFLOAT_TEST_ALL").is_some_and(|value| value == "1");
    assert!(!is_strict, "REFLOAT_TEST_ALL=1 forbids skipping: {reason}");
}
