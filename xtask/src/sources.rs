//! The workspace's text files.
//!
//! Invariant: what git ignores and what builds produce is not looked at.

use std::path::{Path, PathBuf};

use crate::Unreadable;

/// One text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path below the workspace, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether it is Rust code.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    /// The end of its name.
    #[must_use]
    pub fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, end)| end)
    }

    /// Whether nothing of it ships: tests and measurements.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let folders = ["/tests/", "/benches/"];
        folders.iter().any(|folder| self.path.contains(folder)) || self.path.ends_with("/tests.rs")
    }

    /// Lines of code that ship, with their numbers: no comments, nothing from the test module on.
    pub fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line))
            .take_while(|(_, line)| !self.is_test() && line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// All text files of the workspace, sorted by path. What is not UTF-8 is a fixture and left out.
///
/// # Errors
/// A folder or file cannot be read.
pub fn read(root: &Path) -> Result<Vec<Source>, Unreadable> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |cause| Unreadable::Path(folder.clone(), cause);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            if kind.is_dir() && !is_foreign(&path) {
                folders.push(path);
            } else if kind.is_file() {
                sources.extend(source(root, path)?);
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Build output and git's own.
fn is_foreign(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    matches!(name, Some("target" | ".git" | ".cache" | "node_modules"))
}

fn source(root: &Path, path: PathBuf) -> Result<Option<Source>, Unreadable> {
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // An editor's or a neighbour's file that is gone again.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Unreadable::Path(path, cause)),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    let path = path.strip_prefix(root).unwrap_or(&path);
    Ok(Some(Source {
        path: path.to_string_lossy().into_owned(),
        text,
    }))
}
