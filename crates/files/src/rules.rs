//! Which entries are left out.
//!
//! Invariant: of all patterns that match an entry, the last one decides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use refloat_localfs::walk::{Candidate, CandidateKind};

use crate::{FilesError, FilesOptions};

/// Compiled patterns and limits.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Matched against paths below the root.
    below: Patterns,
    /// Matched against absolute paths.
    absolute: Patterns,
    file_bytes_max: Option<u64>,
}

/// Patterns that are matched against the same kind of path.
#[derive(Debug)]
struct Patterns {
    set: GlobSet,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    /// Its place among all patterns.
    order: usize,
    verdict: Verdict,
    directories_only: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    LeaveOut,
    Keep,
}

impl Rules {
    pub(crate) fn compile(options: &FilesOptions) -> Result<Self, FilesError> {
        let lines = options
            .exclude_lines
            .iter()
            .map(|line| line.trim_end_matches(['\r', '\n']))
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let (mut below, mut absolute) = (Builder::new(), Builder::new());
        let patterns = options.exclude.iter().map(String::as_str).chain(lines);
        for (order, pattern) in patterns.enumerate() {
            let (verdict, body) = match pattern.strip_prefix('!') {
                Some(body) => (Verdict::Keep, body),
                None => (Verdict::LeaveOut, pattern),
            };
            let plain = body.trim_end_matches('/');
            if plain.is_empty() {
                return Err(FilesError::EmptyPattern(pattern.to_owned()));
            }
            let rule = Rule {
                order,
                verdict,
                directories_only: plain.len() < body.len(),
            };
            if plain.starts_with('/') {
                absolute.add(plain, rule, pattern)?;
            } else if plain.contains('/') {
                below.add(plain, rule, pattern)?;
            } else {
                below.add(&format!("**/{plain}"), rule, pattern)?;
            }
        }
        Ok(Self {
            below: below.build()?,
            absolute: absolute.build()?,
            file_bytes_max: options.exclude_larger_than_bytes,
        })
    }

    /// Whether an entry of the root at the absolute path `root` is left out.
    pub(crate) fn leave_out(&self, root: &Path, candidate: &Candidate<'_>) -> bool {
        if let (CandidateKind::File { size }, Some(max)) = (candidate.kind, self.file_bytes_max)
            && size > max
        {
            return true;
        }
        let path = Path::new(OsStr::from_bytes(candidate.path));
        let is_directory = candidate.kind == CandidateKind::Directory;
        let below = self.below.last_match(path, is_directory);
        // Joining paths allocates, and most people write no absolute pattern.
        let absolute = if self.absolute.rules.is_empty() {
            None
        } else {
            self.absolute.last_match(&root.join(path), is_directory)
        };
        below
            .into_iter()
            .chain(absolute)
            .max_by_key(|rule| rule.order)
            .is_some_and(|rule| rule.verdict == Verdict::LeaveOut)
    }
}

impl Patterns {
    fn last_match(&self, path: &Path, is_directory: bool) -> Option<Rule> {
        if self.rules.is_empty() {
            return None;
        }
        self.set
            .matches(path)
            .into_iter()
            .filter_map(|index| self.rules.get(index).copied())
            .filter(|rule| is_directory || !rule.directories_only)
            .max_by_key(|rule| rule.order)
    }
}

struct Builder {
    set: GlobSetBuilder,
    rules: Vec<Rule>,
}

impl Builder {
    fn new() -> Self {
        Self {
            set: GlobSetBuilder::new(),
            rules: Vec::new(),
        }
    }

    fn add(&mut self, glob: &str, rule: Rule, written: &str) -> Result<(), FilesError> {
        let glob = GlobBuilder::new(glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|source| FilesError::Pattern {
                pattern: written.to_owned(),
                source,
            })?;
        self.set.add(glob);
        self.rules.push(rule);
        Ok(())
    }

    fn build(self) -> Result<Patterns, FilesError> {
        let set = self.set.build().map_err(|source| FilesError::Pattern {
            pattern: "all patterns together".to_owned(),
            source,
        })?;
        Ok(Patterns {
            set,
            rules: self.rules,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(exclude: &[&str], lines: &[&str]) -> Vec<String> {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let options = FilesOptions {
            exclude: strings(exclude),
            exclude_lines: strings(lines),
            exclude_larger_than_bytes: Some(1000),
            ..FilesOptions::default()
        };
        let rules = Rules::compile(&options).unwrap();
        let file = CandidateKind::File { size: 1000 };
        [
            ("a.tmp", file),
            ("logs", CandidateKind::Directory),
            ("logs/a.tmp", file),
            ("logs/a.gz", file),
            ("logs/old/a.gz", file),
            ("x/logs/a.gz", file),
            ("#hash", CandidateKind::Node),
            ("big", CandidateKind::File { size: 1001 }),
        ]
        .into_iter()
        .filter(|(path, kind)| {
            let path = path.as_bytes();
            rules.leave_out(Path::new("/srv/data"), &Candidate { path, kind: *kind })
        })
        .map(|(path, _)| path.to_owned())
        .collect()
    }

    #[test]
    fn patterns_match_as_documented() {
        let check = |pattern: &str, expected: &[&str]| {
            let mut expected = expected.to_vec();
            expected.push("big");
            assert_eq!(left_out(&[pattern], &[]), expected, "{pattern}");
            assert_eq!(left_out(&[], &[pattern]), expected, "line {pattern}");
        };
        check("*.tmp", &["a.tmp", "logs/a.tmp"]);
        check("logs/*.gz", &["logs/a.gz"]);
        check("logs/**/*.gz", &["logs/a.gz", "logs/old/a.gz"]);
        check("**/logs/*.gz", &["logs/a.gz", "x/logs/a.gz"]);
        check("/srv/data/logs/a.*", &["logs/a.tmp", "logs/a.gz"]);
        check("/srv/*/a.tmp", &["a.tmp"]);
        check("/other/a.tmp", &[]);
        check("logs", &["logs"]);
        check("logs/", &["logs"]);
        check("a.tmp/", &[]);
        check(
            "?.{tmp,gz}",
            &[
                "a.tmp",
                "logs/a.tmp",
                "logs/a.gz",
                "logs/old/a.gz",
                "x/logs/a.gz",
            ],
        );
        check("\\#hash", &["#hash"]);
    }

    #[test]
    fn last_match_decides_and_comments_do_not_count() {
        assert_eq!(
            left_out(&["*.tmp", "!/srv/data/a.tmp"], &[]),
            ["logs/a.tmp", "big"]
        );
        assert_eq!(
            left_out(&["!a.tmp", "*.tmp"], &[]),
            ["a.tmp", "logs/a.tmp", "big"]
        );
        assert_eq!(
            left_out(&["*.tmp"], &["# *.gz", "", "  ", "!logs/*\r\n"]),
            ["a.tmp", "big"]
        );
    }

    /// They would leave out everything.
    #[test]
    fn patterns_of_nothing_are_refused() {
        for pattern in ["", "/", "!", "!//"] {
            let options = FilesOptions {
                exclude: vec!["ok".to_owned(), pattern.to_owned()],
                ..FilesOptions::default()
            };
            let error = Rules::compile(&options).unwrap_err();
            assert!(matches!(error, FilesError::EmptyPattern(p) if p == pattern));
        }
    }

    #[test]
    fn invalid_pattern_is_named_as_written() {
        let options = FilesOptions {
            exclude: vec!["ok".to_owned(), "!a[".to_owned()],
            ..FilesOptions::default()
        };
        let error = Rules::compile(&options).unwrap_err();
        assert_eq!(error.to_string(), "\"!a[\" is not a valid pattern");
    }
}
