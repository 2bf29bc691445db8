//! A snapshot record that cannot be read: told, in everybody's way, and dropped by name only.

use std::fs;
use std::path::PathBuf;

use crate::cli_env::CliEnv;

fn snapshots(env: &CliEnv) -> Vec<PathBuf> {
    let entries = fs::read_dir(env.path("repo/snapshots")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Three points, of which the record of one is cut to nothing or spoilt.
fn damaged(bytes: &[u8]) -> (CliEnv, String) {
    let env = CliEnv::with_data();
    for turn in 0..3 {
        env.write("data/turn", &format!("turn {turn}\n"));
        env.back_up();
    }
    let victim = snapshots(&env).remove(1);
    fs::remove_file(&victim).unwrap();
    fs::write(&victim, bytes).unwrap();
    (env, name(&victim))
}

#[test]
fn what_cannot_be_read_is_dropped_by_name_and_then_all_is_well() {
    for bytes in [&b""[..], b"half of a record"] {
        let (env, victim) = damaged(bytes);
        let (code, shown) = env.outcome(&["check"]);
        assert_eq!(code, 1);
        let next = format!(
            "or drop it with `refloat forget --unreadable {}`\n",
            &victim[..8]
        );
        assert!(shown.contains(&next), "{shown}");
        assert_eq!(env.code(&["points"]), 3, "one is missing from the list");
        assert_eq!(env.code(&["forget", "--keep-last", "1", "--yes"]), 0);
        assert!(
            snapshots(&env).iter().any(|path| name(path) == victim),
            "no rule drops it"
        );
        let refused = env.run(&["prune", "--yes"]);
        assert!(refused.starts_with("exit code: 1"), "{refused}");
        let short = &victim[..8];
        assert!(
            refused.contains(&format!("--unreadable {short}")),
            "{refused}"
        );

        let plan = env.json(&["forget", "--unreadable", short, "--dry-run"]);
        assert_eq!(
            plan["unreadable"][0]["snapshot"],
            victim.as_str(),
            "{plan:#}"
        );
        assert_eq!(plan["dropped"], serde_json::Value::Null);
        assert_eq!(
            env.code(&["forget", "--unreadable", short]),
            1,
            "nobody to ask"
        );
        assert!(snapshots(&env).iter().any(|path| name(path) == victim));
        let done = env.json(&["forget", "--unreadable", short, "--yes"]);
        assert_eq!(done["dropped"][0], victim.as_str());
        for args in [
            &["points"][..],
            &["prune", "--yes"],
            &["check", "--read-data"],
        ] {
            assert_eq!(env.code(args), 0, "{args:?}");
        }
        assert_eq!(
            env.code(&["forget", "--unreadable", short, "--yes"]),
            1,
            "it is gone"
        );
    }
}

#[test]
fn what_can_be_read_is_not_dropped_so() {
    let (env, _victim) = damaged(b"");
    let sound = name(&snapshots(&env)[0]);
    let refused = env.run(&["forget", "--unreadable", &sound[..8], "--yes"]);
    assert!(refused.starts_with("exit code: 1"), "{refused}");
    assert!(refused.contains("can be read"), "{refused}");
    for wrong in ["all", "ab", "../x", "zzzzzzzz"] {
        assert_eq!(
            env.code(&["forget", "--unreadable", wrong, "--yes"]),
            2,
            "{wrong}"
        );
    }
    assert_eq!(
        env.code(&["forget", "--unreadable", "ffffffffff", "--yes"]),
        1
    );
    assert_eq!(
        env.code(&["forget", "--unreadable", &sound, "--keep-last", "1"]),
        2
    );
    assert_eq!(snapshots(&env).len(), 3);
}

#[test]
fn the_ledger_knows_that_it_was_dropped() {
    let env = CliEnv::new();
    let with = |args: &[&str]| {
        let mut command = env.command(args);
        let output = command.env("REFLOAT_LEDGER", "ledger").output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(with(&["init"]), 0);
    env.write("data/a", "one\n");
    let source = format!("files:{}", env.path("data").display());
    for _ in 0..2 {
        assert_eq!(with(&["backup", "--host", "h", "--source", &source]), 0);
    }
    let victim = snapshots(&env).remove(0);
    fs::remove_file(&victim).unwrap();
    fs::write(&victim, "").unwrap();
    assert_ne!(with(&["check"]), 0);
    assert_eq!(
        with(&["forget", "--unreadable", &name(&victim), "--yes"]),
        0
    );
    assert_eq!(with(&["audit"]), 0);
    assert_eq!(with(&["check"]), 0);
}

#[test]
fn nothing_is_dropped_that_the_ledger_cannot_record() {
    let (env, victim) = damaged(b"");
    env.write("ledger", "of somebody else\n");
    let mut command = env.command(&["forget", "--unreadable", &victim, "--yes"]);
    let output = command.env("REFLOAT_LEDGER", "ledger").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(snapshots(&env).iter().any(|path| name(path) == victim));
}
