//! How Go writes strings and times, because tree ids depend on every byte.
//!
//! `encoding/json` escapes `<`, `>`, `&`, U+2028 and U+2029 and replaces invalid UTF-8; node names
//! went through `strconv.Quote` before; times are RFC 3339 with nanoseconds and no trailing zeros.
//!
//! Invariant: [`unquote`] undoes [`quote`] for any bytes.

use refloat_model::time::Timestamp;

/// Appends `text` as a JSON string with quotes, as Go's `encoding/json` does.
pub fn push_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_json_str(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            // Go replaces each invalid byte, not each invalid sequence.
            chunk
                .invalid()
                .iter()
                .for_each(|_| out.extend_from_slice(b"\\ufffd"));
        }
    }
    out.push(b'"');
}

fn push_json_str(out: &mut Vec<u8>, text: &str) {
    let mut clean_from = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let (escape, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0x08 => (b"\\b", 1),
            0x0c => (b"\\f", 1),
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            0..0x20 => (b"", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => continue,
        };
        out.extend_from_slice(&bytes[clean_from..at]);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        clean_from = at + length;
    }
    out.extend_from_slice(&bytes[clean_from..]);
}

/// `strconv.Quote` without the surrounding quotes.
#[must_use]
pub fn quote(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 8);
    // Plain ASCII, by far the most names, needs no look at each character's class.
    if name
        .iter()
        .all(|b| matches!(b, 0x20..0x7f) && !matches!(b, b'"' | b'\\'))
    {
        out.extend_from_slice(name);
        return out;
    }
    for chunk in name.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(&mut out, c));
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out
}

fn quote_char(out: &mut Vec<u8>, c: char) {
    let escape: &[u8] = match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\x07' => b"\\a",
        '\x08' => b"\\b",
        '\x0c' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\x0b' => b"\\v",
        c if is_print(c) => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
        c => {
            let code = u32::from(c);
            let text = match code {
                0..0x20 | 0x7f => format!("\\x{code:02x}"),
                0x80..0x1_0000 => format!("\\u{code:04x}"),
                _ => format!("\\U{code:08x}"),
            };
            out.extend_from_slice(text.as_bytes());
            return;
        }
    };
    out.extend_from_slice(escape);
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
///
/// The standard library prints the same classes, except that it escapes combining marks unless
/// they follow another character.
fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        _ => {
            let pair: String = ['a', c].iter().collect();
            pair.escape_debug().count() == 2
        }
    }
}

/// Text between quotes that `strconv.Unquote` would refuse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid escape in the quoted name {0:?}")]
pub struct InvalidQuote(pub String);

/// `strconv.Unquote` of a text without its quotes.
///
/// # Errors
/// An escape is unknown or cut off.
pub fn unquote(text: &str) -> Result<Vec<u8>, InvalidQuote> {
    if !text.contains(['\\', '"', '\n']) {
        return Ok(text.as_bytes().to_vec());
    }
    let invalid = || InvalidQuote(text.to_owned());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'"' | b'\n' => return Err(invalid()),
            b'\\' => rest = unquote_escape(&mut out, tail).ok_or_else(invalid)?,
            byte => out.push(*byte),
        }
    }
    Ok(out)
}

/// Reads one escape after its backslash; the rest of the text, or none if it is invalid.
fn unquote_escape<'t>(out: &mut Vec<u8>, text: &'t [u8]) -> Option<&'t [u8]> {
    let (kind, tail) = text.split_first()?;
    let code = |digits: &[u8], radix| {
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
    };
    let plain = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => *kind,
        b'x' => {
            let (digits, tail) = tail.split_at_checked(2)?;
            out.push(u8::try_from(code(digits, 16)?).ok()?);
            return Some(tail);
        }
        b'0'..=b'7' => {
            let (digits, tail) = text.split_at_checked(3)?;
            out.push(u8::try_from(code(digits, 8)?).ok()?);
            return Some(tail);
        }
        b'u' | b'U' => {
            let (digits, tail) = tail.split_at_checked(if *kind == b'u' { 4 } else { 8 })?;
            let c = char::from_u32(code(digits, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(tail);
        }
        _ => return None,
    };
    out.push(plain);
    Some(tail)
}

/// Appends a time as Go's `time.Time` marshals it in UTC, clamped to the years 0 to 9999 as
/// restic does.
pub fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    /// 0000-01-01 and 9999-12-31T23:59:59 as seconds since 1970.
    const RANGE: (i64, i64) = (-62_167_219_200, 253_402_300_799);
    let seconds = time.seconds.clamp(RANGE.0, RANGE.1);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let mut digits = |value: i64, width: u32| {
        for place in (0..width).rev() {
            let digit = value / 10_i64.pow(place) % 10;
            out.push(b'0' + u8::try_from(digit).unwrap_or(0));
        }
    };
    digits(year, 4);
    let mut part = |mark: u8, value: i64| {
        out.push(mark);
        out.push(b'0' + u8::try_from(value / 10).unwrap_or(0));
        out.push(b'0' + u8::try_from(value % 10).unwrap_or(0));
    };
    part(b'-', month);
    part(b'-', day);
    part(b'T', second / 3600);
    part(b':', second / 60 % 60);
    part(b':', second % 60);
    if time.nanoseconds > 0 {
        out.push(b'.');
        let mut rest = time.nanoseconds.min(999_999_999);
        let mut place = 100_000_000;
        while rest > 0 {
            out.push(b'0' + u8::try_from(rest / place).unwrap_or(0));
            rest %= place;
            place /= 10;
        }
    }
    out.push(b'Z');
}

/// Days since 1970-01-01 to a proleptic Gregorian date (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_json_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        let check = |name: &[u8], quoted: &str| {
            assert_eq!(String::from_utf8(quote(name)).unwrap(), quoted);
            assert_eq!(unquote(quoted).unwrap(), name);
        };
        check(b"plain name.txt", "plain name.txt");
        check("grüße-日本".as_bytes(), "grüße-日本");
        check(b"tab\there \"q\" \\", "tab\\there \\\"q\\\" \\\\");
        check(b"\x01\x7f\xff\xc3", "\\x01\\x7f\\xff\\xc3");
        check("a\u{301}".as_bytes(), "a\u{301}");
        check(
            "\u{a0}\u{200b}\u{feff}\u{ad}".as_bytes(),
            "\\u00a0\\u200b\\ufeff\\u00ad",
        );
        check("\u{e0001}\u{1f600}".as_bytes(), "\\U000e0001\u{1f600}");
        check("\u{85}".as_bytes(), "\\u0085");
    }

    #[test]
    fn every_byte_string_comes_back() {
        for length in 0..3 {
            for seed in 0..65_536_u32 {
                let name = &seed.to_le_bytes()[..length];
                assert_eq!(
                    unquote(std::str::from_utf8(&quote(name)).unwrap()).unwrap(),
                    name
                );
            }
        }
    }

    #[test]
    fn cut_and_unknown_escapes_are_refused() {
        for text in [
            "\\",
            "\\x1",
            "\\u12",
            "\\q",
            "\\Ufffffff0",
            "\\ud800",
            "\"",
            "\\x+1",
            "\\9",
        ] {
            assert_eq!(unquote(text), Err(InvalidQuote(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn strings_are_escaped_as_encoding_json_does() {
        assert_eq!(
            json(b"a<b>&\"\\\n\x01"),
            r#""a\u003cb\u003e\u0026\"\\\n\u0001""#
        );
        assert_eq!(json("\u{2028}ü\u{2029}".as_bytes()), r#""\u2028ü\u2029""#);
        assert_eq!(json(b"x\xff\xfe"), r#""x\ufffd\ufffd""#);
    }

    #[test]
    fn times_are_rfc_3339_without_trailing_zeros() {
        let check = |seconds, nanoseconds, text: &str| {
            let mut out = Vec::new();
            push_time(
                &mut out,
                Timestamp {
                    seconds,
                    nanoseconds,
                },
            );
            assert_eq!(String::from_utf8(out).unwrap(), text);
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(1_709_210_096, 120_000_000, "2024-02-29T12:34:56.12Z");
        check(-1, 1, "1969-12-31T23:59:59.000000001Z");
        check(i64::MIN, 0, "0000-01-01T00:00:00Z");
        check(i64::MAX, 0, "9999-12-31T23:59:59Z");
    }
}
