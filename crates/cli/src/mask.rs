//! Hiding what a recovery point marks as sensitive.
//!
//! Invariant: content of an item marked `sensitive` reaches a terminal, a file or JSON through
//! this program only if the user asked with `--reveal`; a restore is such a request.

/// What stands where a sensitive value was.
pub const MASK: &str = "***";

/// Whether sensitive values are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reveal {
    /// They are masked.
    Masked,
    /// The user asked to see them.
    Asked,
}

impl From<bool> for Reveal {
    fn from(asked: bool) -> Self {
        if asked { Self::Asked } else { Self::Masked }
    }
}

/// Replaces every scalar of a JSON document and every value of `KEY=value` lines; keys, the
/// shape and comments stay, so that a definition can still be read. Other content is one mask.
pub fn content(bytes: &[u8]) -> String {
    if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(bytes)
        && (value.is_object() || value.is_array())
    {
        scalars(&mut value);
        return format!("{value:#}\n");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.lines().all(is_assignment) && !text.is_empty() => {
            text.lines().map(assignment).collect()
        }
        _ => format!("{MASK}\n"),
    }
}

fn scalars(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => map.values_mut().for_each(scalars),
        serde_json::Value::Array(values) => values.iter_mut().for_each(scalars),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
        other => *other = MASK.into(),
    }
}

fn is_assignment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line.starts_with('#')
        || line.split_once('=').is_some_and(|(key, _)| {
            let key = key.trim().trim_start_matches("export ");
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

fn assignment(line: &str) -> String {
    // Comments may hold yesterday's password.
    match line.split_once('=') {
        Some((key, _)) if !line.trim_start().starts_with('#') => format!("{key}={MASK}\n"),
        _ if line.trim().is_empty() => "\n".to_owned(),
        _ => format!("# {MASK}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_definition_or_env_file_is_left() {
        assert_eq!(
            content(br#"{"Env":["PASSWORD=hunter2"],"Ports":{"80":8080},"Tty":true}"#),
            "{\n  \"Env\": [\n    \"***\"\n  ],\n  \"Ports\": {\n    \"80\": \"***\"\n  },\n  \
             \"Tty\": true\n}\n"
        );
        assert_eq!(
            content(b"# old: hunter2=1\nexport A=hunter2\n\nB=x=y\n"),
            "# ***\nexport A=***\n\nB=***\n"
        );
        assert_eq!(content(b"password: hunter2\n"), "***\n");
        assert_eq!(content(b"\"hunter2\""), "***\n");
        assert_eq!(content(&[0xff, 0xfe]), "***\n");
        assert_eq!(content(b""), "***\n");
    }
}
