//! Taking secrets out of texts that other programs wrote.
//!
//! Invariant: a masked text holds no value of the container's environment that could be a secret.

use std::fmt;

/// Values shorter than this would blot out half of every message (`1`, `on`, `root`).
const VALUE_BYTES_MIN: usize = 5;
/// Values of variables with such names are masked whatever their length.
const SECRET_WORDS: &[&str] = &[
    "PASS",
    "SECRET",
    "TOKEN",
    "KEY",
    "PWD",
    "CREDENTIAL",
    "AUTH",
];
/// Variables that are the same everywhere and help in messages.
const PLAIN_NAMES: &[&str] = &["PATH", "HOME", "LANG", "HOSTNAME", "PWD", "TERM"];

/// The secrets of one container.
#[derive(Clone, Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Collects the values of `NAME=value` variables.
    pub(crate) fn of<'a>(environment: impl IntoIterator<Item = &'a str>) -> Self {
        let mut values: Vec<String> = environment
            .into_iter()
            .filter_map(|variable| variable.split_once('='))
            .filter(|(name, value)| !PLAIN_NAMES.contains(name) && is_secret(name, value))
            .map(|(_, value)| value.to_owned())
            .collect();
        // Longer ones first: one secret may be part of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The text with `***` for each secret.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    value.len() >= VALUE_BYTES_MIN
        || (!value.is_empty() && SECRET_WORDS.iter().any(|word| name.contains(word)))
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} values)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_plain_words_stay() {
        let mask = Mask::of([
            "POSTGRES_PASSWORD=pg",
            "URL=postgres://u:hunter2@db/x",
            "OTHER=hunter2",
            "PATH=/usr/bin:/bin",
            "DEBUG=1",
        ]);
        assert_eq!(
            mask.apply("pg_dump: hunter2 at postgres://u:hunter2@db/x, PATH /usr/bin:/bin, 1"),
            "***_dump: *** at ***, PATH /usr/bin:/bin, 1"
        );
        assert_eq!(format!("{mask:?}"), "Mask(3 values)");
    }
}
