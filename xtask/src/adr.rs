//! Decision records: each with a number of its own, short, and with all four parts.
//!
//! Invariant: a record is never renumbered; a new one supersedes it.

use std::path::Path;

use crate::Unreadable;

const FOLDER: &str = "docs/adr";
const LINES_MAX: usize = 80;
const PARTS: [&str; 4] = [
    "## Context",
    "## Decision",
    "## Alternatives",
    "## Consequences",
];

/// Every record that breaks a rule.
///
/// # Errors
/// The folder or a record cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>, Unreadable> {
    let folder = root.join(FOLDER);
    let failed = |cause| Unreadable::Path(folder.clone(), cause);
    let mut records = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) => return Err(Unreadable::Path(path, cause)),
        };
        records.push((name, text));
    }
    records.sort();
    Ok(judge(&records))
}

fn judge(records: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = 0;
    for (name, text) in records {
        let number = name.split_once('-').and_then(|(number, _)| {
            let number = Some(number).filter(|n| n.len() == 4);
            number?.parse::<u32>().ok()
        });
        // Gaps are numbers that were given to changes which are not merged yet.
        match number.filter(|n| *n > last && name.ends_with(".md")) {
            Some(number) => last = number,
            None => found.push(format!(
                "{FOLDER}/{name}: expected NNNN-title.md, each number once"
            )),
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!(
                "{FOLDER}/{name}: {lines} lines, at most {LINES_MAX}"
            ));
        }
        let missing = PARTS
            .iter()
            .filter(|p| !text.lines().any(|l| l.starts_with(**p)));
        found.extend(missing.map(|part| format!("{FOLDER}/{name}: no {part}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_length_and_missing_parts_are_found() {
        let record = |name: &str, text: String| (name.to_owned(), text);
        let good = PARTS.join("\n\n");
        let none = Vec::<String>::new();
        assert_eq!(judge(&[record("0001-a.md", good.clone())]), none);
        assert_eq!(
            judge(&[
                record("0001-a.md", good.clone()),
                record("0003-c.md", format!("{good}{}", "\n".repeat(80))),
                record(
                    "0003-d.md",
                    "## Context\n## Decision\n## Consequences".into()
                ),
            ]),
            [
                "docs/adr/0003-c.md: 86 lines, at most 80",
                "docs/adr/0003-d.md: expected NNNN-title.md, each number once",
                "docs/adr/0003-d.md: no ## Alternatives",
            ]
        );
    }
}
