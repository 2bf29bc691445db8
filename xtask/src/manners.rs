//! What libraries do not do: print, exit, read the environment.
//!
//! Invariant: only code that ships is judged; tests may do all of it.

use crate::sources::Source;

/// Crates that are programs or tools for tests.
const FREE: [&str; 3] = ["crates/cli/", "crates/testkit/", "xtask/"];

/// What is looked for, and why not.
const BANNED: [(&str, &str); 8] = [
    ("println!", PRINT),
    ("print!(", PRINT),
    ("eprintln!", PRINT),
    ("eprint!(", PRINT),
    ("std::env", ENVIRONMENT),
    ("env::var", ENVIRONMENT),
    ("process::exit", "only a front-end ends the process"),
    ("process::abort", "only a front-end ends the process"),
];
const PRINT: &str = "only a front-end prints";
const ENVIRONMENT: &str = "only a front-end reads the environment";

/// Every line of a library that behaves like a program.
#[must_use]
pub fn violations(sources: &[Source]) -> Vec<String> {
    let libraries = sources
        .iter()
        .filter(|s| s.is_rust() && s.path.starts_with("crates/"))
        .filter(|s| !FREE.iter().any(|free| s.path.starts_with(free)));
    let mut found = Vec::new();
    for source in libraries {
        for (number, line) in source.shipped_lines() {
            if let Some((what, why)) = BANNED.iter().find(|(what, _)| line.contains(what)) {
                found.push(format!("{}:{number}: {what} - {why}", source.path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn shipped_lines_of_libraries_are_judged_and_nothing_else() {
        let text = "//! std::env is not read.\nfn f() {\n    std::env::var(\"X\");\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn t() { println!(); }\n}\n";
        let found = violations(&[
            source("crates/engine/src/run.rs", text),
            source("crates/cli/src/main.rs", text),
            source("crates/engine/tests/it/main.rs", text),
            source("crates/engine/src/run/tests.rs", text),
        ]);
        assert_eq!(
            found,
            ["crates/engine/src/run.rs:3: std::env - only a front-end reads the environment"]
        );
    }
}
