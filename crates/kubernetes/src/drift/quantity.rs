//! Amounts as people write them and as the server keeps them: `0.5` and `500m`, `1Gi` and `1024Mi`.
//!
//! Invariant: two amounts are equal only if they are the same number exactly.

use serde_json::Value;

/// Digits that are compared; amounts have fewer.
const DIGITS_MAX: usize = 24;
/// The smallest unit is a billionth.
const SCALE_DIGITS: u32 = 9;

/// Fields below which amounts stand.
const AMOUNTS: [&str; 8] = [
    "limits",
    "requests",
    "hard",
    "capacity",
    "default",
    "defaultRequest",
    "max",
    "min",
];

/// Whether a field of this name holds amounts, or is one.
pub(super) fn is_amount(name: &str) -> bool {
    AMOUNTS.contains(&name) || matches!(name, "sizeLimit" | "divisor")
}

/// Whether two values are the same amount.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    matches!((number(a), number(b)), (Some(a), Some(b)) if a == b)
}

/// In billionths.
fn number(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-' && c != '+')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let factor = factor(suffix)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let places = u32::try_from(fraction.len())
        .ok()
        .filter(|p| *p <= SCALE_DIGITS)?;
    if whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(factor)?;
    let divisor = 10_i128.pow(places);
    (scaled % divisor == 0).then_some(scaled / divisor)
}

/// What a suffix multiplies by, in billionths.
fn factor(suffix: &str) -> Option<i128> {
    let decimal = |exponent: i32| {
        let exponent = u32::try_from(exponent + 9).ok().filter(|e| *e <= 27)?;
        Some(10_i128.pow(exponent))
    };
    let binary = |power: u32| Some(1024_i128.pow(power) * 10_i128.pow(SCALE_DIGITS));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_as_numbers() {
        let of = |text: &str| Value::from(text);
        for (a, b, expected) in [
            (of("0.5"), of("500m"), true),
            (of("1Gi"), of("1024Mi"), true),
            (Value::from(2), of("2"), true),
            (of("1e3"), of("1k"), true),
            (of("1G"), of("1Gi"), false),
            (of("100m"), of("0.2"), false),
            (of("a"), of("a"), false),
            (of(""), of("0"), false),
            (of("99999999999999999999999999"), of("1"), false),
            (of("1e99"), of("1"), false),
        ] {
            assert_eq!(is_same(&a, &b), expected, "{a} {b}");
        }
    }
}
