//! What root cannot see: folders that may not be read.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

const USER: u32 = 1000;

#[test]
fn suite_passes_as_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
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
        .arg("source::")
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
    assert!(output.status.success(), "{text}");
    assert!(text.contains("test result: ok. 11 passed"), "{text}");
}
