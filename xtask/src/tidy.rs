//! Sizes, names and marks of unfinished work.
//!
//! Invariant: a rule here needs no judgement; what does is left to reviewers.

use std::path::Path;

use crate::Unreadable;
use crate::sources::Source;

/// From here on a file is on the list for review.
pub const REVIEW_LINES: usize = 600;
/// No file is longer.
const LINES_MAX: usize = 800;
/// Clippy's limit for functions, which must be set.
const FUNCTION_LINES_MAX: &str = "too-many-lines-threshold = 70";

const NAMES: [&str; 6] = [
    "util.rs",
    "utils.rs",
    "helpers.rs",
    "common.rs",
    "misc.rs",
    "mod.rs",
];

/// Every file that is too long, badly named, without a first sentence, or unfinished.
///
/// # Errors
/// A manifest cannot be read.
pub fn violations(root: &Path, sources: &[Source]) -> Result<Vec<String>, Unreadable> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust()) {
        found.extend(rust(source).map(|what| format!("{}: {what}", source.path)));
    }
    for source in sources {
        found.extend(machine(root, source).map(|what| format!("{}: {what}", source.path)));
    }
    for source in sources.iter().filter(|s| is_manifest(&s.path)) {
        if !source.text.contains("[lints]\nworkspace = true") {
            found.push(format!("{}: no [lints] workspace = true", source.path));
        }
    }
    let clippy = root.join("clippy.toml");
    match std::fs::read_to_string(&clippy) {
        Ok(text) if text.contains(FUNCTION_LINES_MAX) => {}
        Ok(_) => found.push(format!("clippy.toml: no {FUNCTION_LINES_MAX}")),
        Err(cause) => return Err(Unreadable::Path(clippy, cause)),
    }
    Ok(found)
}

/// Files that a reviewer should look at for their size, the longest first.
#[must_use]
pub fn for_review(sources: &[Source]) -> Vec<String> {
    let mut long: Vec<(usize, &str)> = sources
        .iter()
        .filter(|s| s.is_rust())
        .map(|s| (s.text.lines().count(), s.path.as_str()))
        .filter(|(lines, _)| *lines > REVIEW_LINES)
        .collect();
    long.sort_unstable_by(|a, b| b.cmp(a));
    long.into_iter()
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect()
}

fn rust(source: &Source) -> impl Iterator<Item = String> {
    let lines = source.text.lines().count();
    let name = source.path.rsplit('/').next().unwrap_or(&source.path);
    let long = (lines > LINES_MAX).then(|| format!("{lines} lines, at most {LINES_MAX}"));
    let banned = NAMES
        .contains(&name)
        .then(|| "a name that says nothing".to_owned());
    let first = source.text.lines().next().unwrap_or_default();
    // `tests.rs` stands for an inline `mod tests`, whose name says what it is.
    let silent = (!first.starts_with("//! ") && name != "tests.rs")
        .then(|| "does not begin with //!".to_owned());
    let marks = [
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
        concat!("#[ign", "ore"),
        concat!("too_many", "_lines"),
    ];
    let unfinished = marks
        .into_iter()
        .filter(|mark| source.text.contains(mark))
        .map(|mark| format!("has {mark}"));
    [long, banned, silent]
        .into_iter()
        .flatten()
        .chain(unfinished.collect::<Vec<_>>())
}

/// Paths of the machine that the file was written on.
fn machine(root: &Path, source: &Source) -> Option<String> {
    /// A checkout straight below `/` has a path that could mean anything.
    const COMPONENTS_MIN: usize = 3;
    let here = root.to_str()?;
    let telling = root.components().count() >= COMPONENTS_MIN && source.text.contains(here);
    telling.then(|| format!("names the folder {here} of this machine"))
}

fn is_manifest(path: &str) -> bool {
    path == "xtask/Cargo.toml" || (path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_violation() {
        let check = |path: &str, text: &str| {
            let source = Source {
                path: path.into(),
                text: text.into(),
            };
            rust(&source).collect::<Vec<_>>()
        };
        assert_eq!(
            check("crates/a/src/b.rs", "//! Says what it is.\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            check("crates/a/src/b.rs", "fn f() {}\n"),
            ["does not begin with //!"]
        );
        assert_eq!(
            check("crates/a/src/mod.rs", "//! A.\n"),
            ["a name that says nothing"]
        );
        let long = format!("//! A.\n{}", "\n".repeat(800));
        assert_eq!(
            check("crates/a/src/b.rs", &long),
            ["801 lines, at most 800"]
        );
        let unfinished = format!("//! A.\n{}{}", "to", "do!()");
        assert_eq!(check("crates/a/src/b.rs", &unfinished).len(), 1);
    }

    #[test]
    fn the_machine_is_not_named() {
        let root = Path::new("/somewhere/checkout");
        let check = |text: &str| {
            let source = Source {
                path: "README.md".into(),
                text: text.into(),
            };
            machine(root, &source).is_some()
        };
        assert!(check("cd /somewhere/checkout"));
        assert!(!check("cd checkout"));
    }
}
