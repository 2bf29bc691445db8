//! `skopeo`, the independent reader.
//!
//! Invariant: it runs with an empty configuration of its own.

use std::process::Command;

/// Runs skopeo; its output, or what it complains of. None, and a visible skip, without it.
pub fn skopeo(arguments: &[&str]) -> Option<Result<String, String>> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir"])
        .arg(home.path())
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .output();
    let Ok(output) = output else {
        crate::skip("skopeo is not installed");
        return None;
    };
    Some(if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    })
}
