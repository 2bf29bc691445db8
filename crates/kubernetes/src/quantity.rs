//! Quantities as people write them and as the server keeps them: `0.5` and `500m`, `2Gi`, `1e3`.
//!
//! Invariant: sums and comparisons are exact down to a billionth.

use std::iter::Sum;
use std::ops::AddAssign;

use serde_json::Value;

/// An amount, in billionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Quantity(i128);

const NANO: i128 = 1_000_000_000;

impl Quantity {
    pub(crate) fn whole(number: u64) -> Self {
        Self(i128::from(number) * NANO)
    }

    /// Reads a quantity, to the billionth below; none if it is none, or beyond all measure.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::with_rest(text).map(|(quantity, _rest)| quantity)
    }

    /// Reads a text or number; none if it is no quantity.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        Self::parse(&written(value)?)
    }

    /// As [`of`](Self::of); none as well if it has more digits than a billionth.
    pub(crate) fn exactly(value: &Value) -> Option<Self> {
        let (quantity, rest) = Self::with_rest(&written(value)?)?;
        (rest == 0).then_some(quantity)
    }

    /// A quantity, and what is left of it below a billionth.
    fn with_rest(text: &str) -> Option<(Self, i128)> {
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
        let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end)?;
        let scale = scale(suffix)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_negative = whole.starts_with('-');
        let whole = whole.strip_prefix(['-', '+']).unwrap_or(whole);
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
        let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = digits.checked_mul(scale)?;
        let value = scaled / divisor;
        let value = Self(if is_negative { -value } else { value });
        Some((value, scaled % divisor))
    }

    pub(crate) const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count as i128))
    }
}

fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a suffix multiplies by, in billionths.
fn scale(suffix: &str) -> Option<i128> {
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = DECIMAL.iter().position(|s| *s == suffix) {
        return 1_000_i128.checked_pow(u32::try_from(power).ok()?);
    }
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Some(NANO << (10 * (power + 1)));
    }
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    10_i128.checked_pow(u32::try_from(power.checked_add(9)?).ok()?)
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// For people: whole where it is, else in thousandths.
impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if self.0 % NANO != 0 {
            return write!(f, "{}m", self.0 / (NANO / 1_000));
        }
        let all = self.0 / NANO;
        let (mut whole, mut unit) = (all, 0);
        while whole != 0 && whole % 1_024 == 0 && unit + 1 < UNITS.len() {
            (whole, unit) = (whole / 1_024, unit + 1);
        }
        // A round number in tens is seldom meant in powers of two.
        if whole.abs() >= 1 << 20 {
            return write!(f, "{all}");
        }
        write!(f, "{whole}{}", UNITS.get(unit).unwrap_or(&""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        for (text, shown) in [
            ("2", Some("2")),
            ("1500m", Some("1500m")),
            ("0.5", Some("500m")),
            ("1.5Gi", Some("1536Mi")),
            ("1e3", Some("1000")),
            ("2E", Some("2000000000000000000")),
            ("64Ki", Some("64Ki")),
            ("-1", Some("-1")),
            ("100M", Some("100000000")),
            ("", None),
            ("Gi", None),
            ("1x", None),
            ("1e999", None),
            ("99999999999999999999999999999999999999999", None),
            ("1.2.3", None),
        ] {
            let read = Quantity::parse(text).map(|q| q.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
        let sum: Quantity = ["1", "500m"].into_iter().filter_map(Quantity::parse).sum();
        assert_eq!(sum, Quantity::parse("1500m").unwrap());
        assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
    }

    #[test]
    fn quantities_that_are_more_exact_than_a_billionth_are_known_as_such() {
        for (value, expected) in [
            (Value::from("0.000000001"), Some("1n")),
            (Value::from("0.0000000010"), Some("1n")),
            (Value::from("0.0000000001"), None),
            (Value::from(2), Some("2")),
            (Value::from("--1"), None),
            (Value::Null, None),
        ] {
            let read = Quantity::exactly(&value);
            assert_eq!(read, expected.and_then(Quantity::parse), "{value}");
        }
        let rounded = Quantity::of(&Value::from("0.0000000001"));
        assert_eq!(rounded, Some(Quantity::default()));
    }
}
