//! Fields in which an amount may stand in several ways: `0.5` and `500m`, `1Gi` and `1024Mi`.
//!
//! Invariant: two amounts are equal only if they are the same number exactly.

use serde_json::Value;

use crate::quantity::Quantity;

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
    let amounts = (Quantity::exactly(a), Quantity::exactly(b));
    matches!(amounts, (Some(a), Some(b)) if a == b)
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
