//! Objects as YAML: readable, deterministic, and read back as exactly the same values.
//!
//! Text is written plain only where no YAML 1.1 or 1.2 reader can take it for something else
//! (`no`, `1e3`, `0x1F`, `12:30` are quoted), as a block where it has lines, and else as a JSON
//! string, which is YAML too.
//!
//! Invariant: `read(write(value)) == value`. Numbers are what the API server itself holds: 64-bit
//! integers and doubles.

use serde_json::{Map, Value};

/// The longest document that is read; objects in etcd are at most 1.5 MiB.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// The longest map key that YAML readers accept without special forms.
const KEY_CHARS_MAX: usize = 1_000;

/// What documents begin with, whatever the alphabet says.
const FIRST_KEYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Text that is no YAML, or not of an object. Without the parser's words, which quote the
/// document and its secrets.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// Not UTF-8.
    #[error("the document is no text")]
    NotText,
    /// Longer than any object.
    #[error("the document has {0} bytes, which no object has")]
    TooLong(usize),
    /// Not understood.
    #[error("the document is no YAML (line {line}, column {column})")]
    Syntax {
        /// From 1; 0 if unknown.
        line: u64,
        /// From 1; 0 if unknown.
        column: u64,
    },
}

/// Writes an object.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => {
            if longest_key(value) > KEY_CHARS_MAX {
                // Nobody can read that comfortably anyway, and JSON is YAML.
                out.push_str(&value.to_string());
                out.push('\n');
                return out;
            }
            for (key, value) in in_order(map) {
                entry(&mut out, key, value, 0);
            }
        }
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

/// The fields of an object in the order in which they are written.
pub(crate) fn in_order(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let first = FIRST_KEYS.iter().filter_map(|key| map.get_key_value(*key));
    let rest = sorted(map).filter(|(key, _)| !FIRST_KEYS.contains(&key.as_str()));
    first.chain(rest)
}

/// Reads an object.
///
/// # Errors
/// The bytes are no YAML document.
pub fn read(bytes: &[u8]) -> Result<Value, YamlError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(YamlError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| YamlError::NotText)?;
    if text.starts_with('{') {
        // The form for what plain YAML cannot hold; exact, and without YAML's limits.
        if let Ok(value) = serde_json::from_str(text) {
            return Ok(value);
        }
    }
    let budget = serde_saphyr::budget! {
        max_events: 20_000_000,
        max_nodes: 10_000_000,
        max_total_scalar_bytes: DOCUMENT_BYTES_MAX,
    };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.location();
        YamlError::Syntax {
            line: location.map_or(0, |l| l.line()),
            column: location.map_or(0, |l| l.column()),
        }
    })
}

fn longest_key(value: &Value) -> usize {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| key.chars().count().max(longest_key(value)))
            .max()
            .unwrap_or(0),
        Value::Array(list) => list.iter().map(longest_key).max().unwrap_or(0),
        _ => 0,
    }
}

/// The order must not depend on how somebody else configured the JSON library.
fn sorted(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.into_iter()
}

fn entry(out: &mut String, key: &str, value: &Value, indent: usize) {
    pad(out, indent);
    text(out, key);
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in sorted(map) {
                entry(out, key, value, indent + 2);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            elements(out, list, indent);
        }
        other => {
            out.push(' ');
            scalar(out, other, indent + 2);
            out.push('\n');
        }
    }
}

/// List elements stand below their key, not further in: as kubectl writes them.
fn elements(out: &mut String, list: &[Value], indent: usize) {
    for value in list {
        pad(out, indent);
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => {
                let mut inner = String::new();
                for (key, value) in sorted(map) {
                    entry(&mut inner, key, value, indent + 2);
                }
                out.push_str(inner.trim_start_matches(' '));
            }
            Value::Array(list) if !list.is_empty() => {
                let mut inner = String::new();
                elements(&mut inner, list, indent + 2);
                out.push_str(inner.trim_start_matches(' '));
            }
            other => {
                scalar(out, other, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(string) if is_block(string) => block(out, string, indent),
        Value::String(string) => text(out, string),
        // Empty maps and lists, numbers, true, false and null are written as JSON writes them.
        other => out.push_str(&other.to_string()),
    }
}

fn text(out: &mut String, string: &str) {
    if is_plain(string) {
        out.push_str(string);
    } else {
        quoted(out, string);
    }
}

/// Words that some reader takes for a truth value, nothing or a number.
const RESERVED: [&str; 12] = [
    "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity",
];

fn is_plain(string: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let inside = |c: char| c.is_ascii_alphanumeric() || " -_./:@=+,()".contains(c);
    string.starts_with(first)
        && string.chars().all(inside)
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && !RESERVED.contains(&string.to_ascii_lowercase().as_str())
}

fn quoted(out: &mut String, string: &str) {
    use std::fmt::Write as _;
    for c in Value::from(string).to_string().chars() {
        if is_printable(c) {
            out.push(c);
        } else {
            // JSON escapes what lies below the space; the rest of what YAML forbids is here, all
            // of it in the first plane. Writing to a String cannot fail.
            let _infallible = write!(out, "\\u{:04x}", u32::from(c));
        }
    }
}

/// What YAML lets stand as it is, without what readers take for a line break or byte order mark.
fn is_printable(c: char) -> bool {
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
                 | '\u{fffe}' | '\u{ffff}')
}

/// Whether text reads better as lines, and can: nothing that a block would change.
fn is_block(string: &str) -> bool {
    let body = string.strip_suffix('\n').unwrap_or(string);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n'])
        && body
            .chars()
            .all(|c| c == '\n' || c == '\t' || is_printable(c))
        && body
            .split('\n')
            .all(|line| !line.starts_with('\t') && (line.is_empty() || !line.trim().is_empty()))
}

fn block(out: &mut String, string: &str, indent: usize) {
    let (header, body) = match string.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", string),
    };
    out.push_str(header);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
    }
}

#[cfg(test)]
mod tests;
