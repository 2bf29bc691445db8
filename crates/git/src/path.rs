//! Paths of files in a commit.
//!
//! Names come from recovery points, which come from clusters: whoever may make an object there may
//! choose its name. The rules are those that git itself checks files out by, on every system.
//!
//! Invariant: wherever a commit is checked out, a path stays below that folder and out of `.git`.

use crate::error::GitError;

/// A path of a file or a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GitPath(String);

impl GitPath {
    /// Takes a path whose components slashes part.
    ///
    /// # Errors
    /// A component is empty, `.`, `..`, has control characters, or some system takes it for `.git`.
    pub fn new(path: &str) -> Result<Self, GitError> {
        let hostile = |why| GitError::Path {
            path: path.to_owned(),
            why,
        };
        if path.chars().any(char::is_control) {
            return Err(hostile("it has control characters"));
        }
        // Some systems part components by the other slash too.
        for component in path.split(['/', '\\']) {
            if matches!(component, "" | "." | "..") {
                return Err(hostile("it would leave its folder"));
            }
            if is_dot_git(component) {
                return Err(hostile("some systems take part of it for .git"));
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// As git writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a file system takes a name for `.git`: without regard to case, without characters that
/// it ignores (HFS+), without spaces and dots at the end, a stream's name, or as a short name (NTFS).
fn is_dot_git(component: &str) -> bool {
    let seen: String = component
        .chars()
        .filter(|c| {
            !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                         | '\u{206a}'..='\u{206f}' | '\u{feff}')
        })
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let name = seen.split(':').next().unwrap_or_default();
    matches!(name.trim_end_matches([' ', '.']), ".git" | "git~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_folder_or_enter_git_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "a/./b",
            "a\\..\\b",
            ".git/hooks/post-checkout",
            "prod/.GIT/config",
            "prod/.g\u{200c}it/config",
            "prod/.git. ./config",
            "prod/git~1/config",
            "prod/.git::$INDEX_ALLOCATION/x",
            "prod/x\\.git\\config",
            "a\nb",
            "a\0b",
        ] {
            let error = GitPath::new(path).unwrap_err();
            assert!(matches!(error, GitError::Path { .. }), "{path:?}");
        }
    }

    #[test]
    fn what_objects_are_called_is_taken() {
        for path in [
            "prod/rbac.authorization.k8s.io/v1/clusterroles/_cluster/system:node.yaml",
            "prod/core/v1/configmaps/shop/.git.yaml",
            "prod/core/v1/configmaps/shop/..yaml",
            "prod/\"quoted\"/naïve.yaml",
            "%2E./a.yaml",
        ] {
            assert_eq!(GitPath::new(path).unwrap().as_str(), path);
        }
    }
}
