//! The suites once more as uid 1000, when they run as root: rights make a difference to all.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::manifest::is_root;

const USER: u32 = 1000;

#[test]
fn suites_pass_as_an_ordinary_user() {
    if !is_root() {
        println!("skipped: this is an ordinary user already");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The binary's own place may be closed to others.
    let binary = base.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let temporary = base.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    chown(&temporary, Some(USER), Some(USER)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(&binary)
        .args([
            "ahead",
            "hostile",
            "race",
            "round_trip::nasty",
            "walk::",
            "writer",
            "--skip",
            "quickly",
        ])
        .env("TMPDIR", &temporary)
        .current_dir("/")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: setpriv cannot be run: {error}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = text
        .lines()
        .find(|line| line.starts_with("test result"))
        .unwrap();
    println!("as uid {USER}: {summary}");
    let passed = summary
        .split(&[' ', ';'][..])
        .filter_map(|word| word.parse::<u32>().ok())
        .next();
    assert!(passed.is_some_and(|count| count >= 25), "{summary}");
}
