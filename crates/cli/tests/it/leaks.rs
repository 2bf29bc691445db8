//! E1 and E2: no secret shows in anything a command prints, and what is written is the owner's.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::cli_env::CliEnv;

const CANARY: &str = "correct-horse-battery-canary";
const NEW: &str = "another-secret-for-the-canary";

/// The forms in which a secret could show: raw, base64 at three offsets, hex, in a URL.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let mut forms = vec![secret.to_owned()];
    for pad in 0..3 {
        let padded = [vec![b'x'; pad], secret.as_bytes().to_vec()].concat();
        // What depends on the neighbours is left out at both ends.
        let text = encode(&padded);
        forms.push(text[4..text.len() - 4].to_owned());
    }
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.to_uppercase());
    forms.push(hex);
    forms.push(secret.replace('-', "%2D"));
    forms
}

fn require_silent(what: &str, output: &[u8]) {
    let text = String::from_utf8_lossy(output);
    for form in [CANARY, NEW].into_iter().flat_map(forms) {
        assert!(!text.contains(&form), "{what} shows {form}: {text}");
    }
}

#[test]
fn no_command_shows_a_secret_whatever_becomes_of_it() {
    let mut env = CliEnv::with_data();
    env.set_password(CANARY);
    let _other = std::fs::remove_dir_all(env.path("repo"));
    env.succeed(&["init"]);
    env.back_up();
    env.write("new", &format!("{NEW}\n"));
    env.write("wrong", "wrong\n");
    let source = format!("files:{}", env.path("data").display());
    let commands: [&[&str]; 24] = [
        &["init"],
        &["discover", "--source", &source],
        &["backup", "--source", &source],
        &["backup", "--source", "files:/does/not/exist"],
        &["points"],
        &["show", "latest"],
        &["ls", "latest"],
        &["cat", "latest:/nothing"],
        &["diff", "latest", "latest"],
        &["find", "numbers"],
        &["restore", "latest", "--target", "out"],
        &["restore", "latest", "--target", "out"],
        &["check", "--read-data"],
        &["repair", "index", "--dry-run"],
        &["repair", "packs", "--dry-run"],
        &["repair", "snapshots", "--dry-run"],
        &["forget", "--keep-last", "1"],
        &["prune", "--dry-run"],
        &["key", "list"],
        &["key", "add", "--new-password-file", "new"],
        &["key", "export", "escrow"],
        &["audit"],
        &["export", "--all", "--git", "out.git"],
        &["drift", "--source", "kubernetes:nowhere"],
    ];
    let mut variants = 0;
    for args in commands {
        for extra in [&[][..], &["--json"], &["--verbose"], &["--help"]] {
            for password in [Some(CANARY), None] {
                let mut command = env.command(&[args, extra].concat());
                if password.is_none() {
                    // A wrong one, and the right one where it does not count.
                    command
                        .env_remove("REFLOAT_PASSWORD")
                        .env("REFLOAT_PASSWORD_FILE", "wrong")
                        .env("UNRELATED", CANARY);
                }
                command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
                let output = command.output().unwrap();
                let what = format!("{args:?} {extra:?}");
                require_silent(&what, &output.stdout);
                require_silent(&what, &output.stderr);
                variants += 1;
            }
        }
    }
    require_silent("the export", &std::fs::read(env.path("escrow")).unwrap());
    assert!(variants >= 192, "{variants}");
}

#[test]
fn the_deleter_key_shows_nowhere_and_is_the_owners() {
    let env = CliEnv::with_data();
    let _other = std::fs::remove_dir_all(env.path("repo"));
    env.succeed(&["init", "--require-deleter-key", "deleter"]);
    env.back_up();
    env.back_up();
    let key = std::fs::read_to_string(env.path("deleter")).unwrap();
    let secret = key.trim_end().rsplit(':').next().unwrap().to_owned();
    assert!(secret.len() > 40, "{} characters", secret.len());
    let mode = std::fs::metadata(env.path("deleter"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let with_key = ["--deleter-key", "deleter"];
    let commands: [&[&str]; 6] = [
        &["forget", "--keep-last", "1", "--yes"],
        &["prune", "--max-unused", "0%", "--yes"],
        &["repair", "locks"],
        &["repair", "index", "--dry-run"],
        &["key", "list"],
        &["key", "export", "escrow"],
    ];
    for args in commands {
        for extra in [&[][..], &["--json"], &["--verbose"]] {
            let mut command = env.command(&[args, &with_key, extra].concat());
            command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
            let output = command.output().unwrap();
            for stream in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(stream);
                for form in forms(&secret).into_iter().chain([secret.clone()]) {
                    assert!(!text.contains(&form), "{args:?} {extra:?} shows the key");
                }
            }
        }
    }
    // A damaged key file is told without its text.
    env.write("damaged", &format!("refloat-deleter-key-1:!{secret}"));
    let (code, shown) = env.outcome(&["prune", "--yes", "--deleter-key", "damaged"]);
    assert!(code != 0 && !shown.contains(&secret), "{code}");
    let stored = walk(&env.path("repo"));
    assert!(stored.len() > 5, "{stored:?}");
    for path in stored.iter().chain([&env.path("escrow")]) {
        let bytes = std::fs::read(path).unwrap();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn the_password_is_in_no_argument_of_what_runs() {
    let mut env = CliEnv::with_repository();
    env.write("password", "secret words\n");
    env.set_password("");
    let waiting = {
        std::fs::create_dir(env.path("endless")).unwrap();
        let large = std::fs::File::create(env.path("endless/large")).unwrap();
        large.set_len(8 << 40).unwrap();
        let source = format!("files:{}", env.path("endless").display());
        let mut command =
            env.command(&["backup", "--password-file", "password", "--source", &source]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    std::thread::sleep(std::time::Duration::from_millis(400));
    let proc = format!("/proc/{}", waiting.id());
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("{proc}/{file}")).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("secret words"),
            "{file}"
        );
    }
    let mut waiting = waiting;
    waiting.kill().unwrap();
    let _status = waiting.wait().unwrap();
}

#[test]
fn what_is_written_is_the_owners_alone_whatever_the_umask() {
    let env = CliEnv::new();
    env.write("data/a", "text");
    let line = format!(
        "umask 000; \"$1\" init && \"$1\" backup --source files:{} && \"$1\" key export escrow",
        env.path("data").display()
    );
    let status = Command::new("sh")
        .args(["-c", &line, "sh", env!("CARGO_BIN_EXE_refloat")])
        .current_dir(env.path(""))
        .env_clear()
        .env("REFLOAT_REPOSITORY", "repo")
        .env("REFLOAT_PASSWORD", "secret words")
        .env("REFLOAT_LEDGER", "ledger")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mut open = vec![env.path("repo"), env.path("ledger"), env.path("escrow")];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{} has mode {mode:o} for others", path.display());
        seen += 1;
        if metadata.is_dir() {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    assert!(seen > 8, "{seen}");
}
