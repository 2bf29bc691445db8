//! Reading JSON that is written as we and restic write it: no blanks, no escapes, keys in a known
//! order.
//!
//! Trees and indexes hold millions of entries, and a general parser spends most of its time on
//! finding out which key comes next. Whoever scans tries the known form, and gives what is
//! anything else to the general parser, from its start: a scan decides nothing but speed (ADR 0025).
//!
//! Invariant: what is accepted is JSON, and the general parser would read the same from it.

use crate::id::parse_hex;

/// What is left of a text.
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// None if it is not UTF-8.
    pub(super) fn new(text: &'a [u8]) -> Option<Self> {
        let rest = std::str::from_utf8(text).ok()?;
        Some(Self { rest })
    }

    /// Goes behind this text, if it comes next.
    #[inline]
    pub(super) fn has(&mut self, text: &'static str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// As [`has`](Self::has), where nothing else may come.
    #[inline]
    pub(super) fn expect(&mut self, text: &'static str) -> Option<()> {
        self.has(text).then_some(())
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// A string without escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let rest = self.rest.strip_prefix('"')?;
        let end = rest
            .bytes()
            .position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let (text, rest) = rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    /// An id: a string of 64 digits.
    #[inline]
    pub(super) fn id(&mut self) -> Option<[u8; 32]> {
        let (digits, rest) = self.rest.strip_prefix('"')?.split_at_checked(64)?;
        self.rest = rest.strip_prefix('"')?;
        parse_hex(digits.as_bytes())
    }

    /// A number of decimal digits, as JSON has them: without zeros ahead.
    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (text, rest) = self.rest.split_at_checked(digits)?;
        if text.len() > 1 && text.starts_with('0') {
            return None;
        }
        // With a fraction or an exponent it is another number.
        if rest.starts_with(['.', 'e', 'E']) {
            return None;
        }
        let value = text.bytes().try_fold(0_u64, |value, digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })?;
        self.rest = rest;
        (digits > 0).then_some(value)
    }

    /// As [`number`](Self::number), of at most 32 bits.
    #[inline]
    pub(super) fn number_u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A list between brackets; `element` reads one.
    #[inline]
    pub(super) fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.expect("[")?;
        let mut list = Vec::new();
        if self.has("]") {
            return Some(list);
        }
        loop {
            list.push(element(self)?);
            if self.has("]") {
                return Some(list);
            }
            self.expect(",")?;
        }
    }
}

/// A text with each of its bytes replaced by each of those that mean something in JSON, removed, and there
/// twice, and cut off before it.
#[cfg(test)]
pub(super) fn damaged(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..text.len()).flat_map(move |at| {
        let replaced = b"\"\\,{}[]:0179-.etdaZN \n\t\x1f\x7f\xc3\xff".iter();
        let replaced = replaced.map(move |byte| {
            let mut changed = text.to_vec();
            changed[at] = *byte;
            changed
        });
        let without = [&text[..at], &text[at + 1..]].concat();
        let twice = [&text[..=at], &text[at..]].concat();
        replaced.chain([without, twice, text[..at].to_vec()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan<'a, T>(text: &'a str, read: impl FnOnce(&mut Scanner<'a>) -> Option<T>) -> Option<T> {
        let mut scanner = Scanner::new(text.as_bytes())?;
        let value = read(&mut scanner)?;
        scanner.is_at_end().then_some(value)
    }

    #[test]
    fn numbers_are_those_that_json_has() {
        for text in [
            "0",
            "7",
            "10",
            "18446744073709551615",
            "18446744073709551616",
            "00",
            "01",
            "-1",
            "+1",
            "1.0",
            "1e3",
            "1E3",
            "",
            "x",
            " 1",
            "99999999999999999999999",
        ] {
            let general = serde_json::from_str::<u64>(text).ok();
            let scanned = scan(text, Scanner::number);
            // The general parser takes blanks, too.
            assert_eq!(
                scanned,
                general.filter(|_| !text.starts_with(' ')),
                "{text}"
            );
        }
    }

    #[test]
    fn strings_are_those_without_escapes() {
        for text in [
            r#""""#,
            r#""a""#,
            r#""aé日""#,
            r#""a\"b""#,
            r#""a\nb""#,
            r#""a"#,
            r#"a""#,
            "\"a\u{1}\"",
            "\"a\nb\"",
            "\"\u{7f}\"",
            "",
        ] {
            let general = serde_json::from_str::<String>(text).ok();
            let expected = general.filter(|_| !text.contains('\\'));
            assert_eq!(scan(text, Scanner::string), expected.as_deref(), "{text:?}");
        }
        assert!(Scanner::new(b"\"\xff\"").is_none());
        let id = "ab".repeat(32);
        assert_eq!(scan(&format!("\"{id}\""), Scanner::id), Some([0xab; 32]));
        for wrong in [
            id.clone(),
            format!("\"{id}ab\""),
            format!("\"{}é\"", &id[1..]),
        ] {
            assert_eq!(scan(&wrong, Scanner::id), None, "{wrong}");
        }
    }

    #[test]
    fn lists_end_where_they_should() {
        let read = |text| scan(text, |scanner| scanner.list(Scanner::number));
        assert_eq!(read("[]"), Some(vec![]));
        assert_eq!(read("[1,2]"), Some(vec![1, 2]));
        for wrong in ["", "[", "[1", "[1,", "[1,]", "[,1]", "[1 ,2]", "[1]]", "1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
