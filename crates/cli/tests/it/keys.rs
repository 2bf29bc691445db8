//! `refloat key`.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use refloat_model::secret::Secret;
use refloat_repository::Repository;
use refloat_repository::format::lock::LockFile;
use refloat_storage::FileKind;
use refloat_storage::local::LocalStorage;

use crate::cli_env::{CliEnv, assert_cli, tree};

#[test]
fn keys_come_and_go_and_one_always_stays() {
    let mut env = CliEnv::with_repository();
    env.write("second", "another secret\n");
    env.succeed(&["key", "add", "--new-password-file", "second"]);
    let keys = env.json(&["key", "list"])["keys"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(keys.len(), 2);
    let in_use = keys.iter().find(|k| k["current"] == true).unwrap()["id"]
        .as_str()
        .unwrap();
    let other = keys.iter().find(|k| k["current"] == false).unwrap()["id"]
        .as_str()
        .unwrap();
    assert_cli!(env, "remove_key_in_use", "key", "remove", in_use);
    assert_cli!(env, "remove_unknown_key", "key", "remove", "zz");
    env.succeed(&["key", "remove", &other[..12]]);
    env.succeed(&["key", "passwd", "--new-password-file", "second"]);
    assert_eq!(env.code(&["points"]), 12, "the old password is gone");
    env.set_password("another secret");
    assert_eq!(env.code(&["points"]), 0);
    assert_eq!(
        env.json(&["key", "list"])["keys"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_password_comes_from_a_descriptor() {
    let mut env = CliEnv::with_repository();
    env.write("password", "secret words\n");
    env.set_password("");
    let with = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", line, "sh", env!("CARGO_BIN_EXE_refloat")])
            .current_dir(env.path(""))
            .env_clear()
            .env("REFLOAT_REPOSITORY", "repo");
        let output = shell.output().unwrap();
        (output.status.code(), env.show(&output))
    };
    for line in [
        "\"$1\" --password-fd 3 points 3< password",
        "cat password | \"$1\" --password-fd 0 points",
    ] {
        let (code, shown) = with(line);
        assert_eq!(code, Some(0), "{shown}");
    }
    let (code, shown) = with("\"$1\" --password-fd 7 points");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("descriptor 7"), "{shown}");
    let (code, shown) = with("\"$1\" --password-fd 1 points");
    assert_eq!(code, Some(2), "{shown}");
}

#[test]
fn keys_are_not_removed_beside_a_running_backup() {
    let env = CliEnv::with_data();
    env.write("second", "another secret\n");
    env.succeed(&["key", "add", "--new-password-file", "second"]);
    let keys = env.json(&["key", "list"]);
    let other = keys["keys"].as_array().unwrap();
    let other = other.iter().find(|k| k["current"] == false).unwrap();
    let other = other["id"].as_str().unwrap().to_owned();
    let running = crate::interruption::backup_that_waits(&env);
    assert_eq!(env.code(&["key", "remove", &other]), 11);
    assert_eq!(
        env.code(&["key", "passwd", "--new-password-file", "second"]),
        11
    );
    drop(running);
    assert_eq!(env.code(&["key", "remove", &other]), 0);
}

#[test]
fn a_lost_config_is_brought_back_and_not_made_anew() {
    let env = CliEnv::with_data();
    env.back_up();
    env.succeed(&["key", "export", "escrow"]);
    std::fs::remove_file(env.path("repo/config")).unwrap();
    let before = tree(&env.path("repo"));
    for command in ["init", "points"] {
        let (code, shown) = env.outcome(&[command]);
        assert_eq!(code, 1, "{shown}");
        assert!(
            shown.contains("[TMP]/repo is lost: files below snapshots are still there\nhint: put it back with `refloat key import FILE`"),
            "{shown}"
        );
    }
    assert_eq!(tree(&env.path("repo")), before);
    env.succeed(&["key", "import", "escrow"]);
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

/// Even a check stops at it.
#[test]
fn a_damaged_config_or_key_names_what_brings_it_back() {
    let env = CliEnv::with_data();
    env.back_up();
    env.succeed(&["key", "export", "escrow"]);
    let key = std::fs::read_dir(env.path("repo/keys")).unwrap().next();
    for file in [env.path("repo/config"), key.unwrap().unwrap().path()] {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, b"not what it was").unwrap();
        let (code, shown) = env.outcome(&["check"]);
        assert_eq!(code, 1, "{shown}");
        assert!(
            shown.contains("\nhint: put it back with `refloat key import FILE`"),
            "{shown}"
        );
        env.succeed(&["key", "import", "escrow"]);
        assert_eq!(env.code(&["check"]), 0);
    }
}

/// A living exclusive lock of somebody who has the password.
fn forge_lock(env: &CliEnv) {
    let storage = Arc::new(LocalStorage::new(env.path("repo")));
    let repository = Repository::open(storage, &Secret::new("secret words")).unwrap();
    let lock = LockFile {
        time: jiff::Timestamp::now(),
        exclusive: true,
        hostname: "thief".to_owned(),
        username: "thief".to_owned(),
        pid: 1,
        uid: 0,
        gid: 0,
        refloat_voucher: None,
    };
    let _key = repository
        .write_json(FileKind::Lock, "a lock", &lock)
        .unwrap();
}

/// A repository with a deleter key: forged locks keep no backup out, and nobody deletes without the key.
#[test]
fn with_a_deleter_key_only_its_holder_keeps_others_out_and_deletes() {
    let env = CliEnv::with_data();
    std::fs::remove_dir_all(env.path("repo")).unwrap();
    env.succeed(&["init", "--require-deleter-key", "deleter"]);
    let mode = std::fs::metadata(env.path("deleter"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    env.back_up();
    env.back_up();
    forge_lock(&env);
    let source = format!("files:{}", env.path("data").display());
    let (code, shown) = env.outcome(&["backup", "--host", "testhost", "--source", &source]);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("warning: 1 lock: exclusive and vouched for by no deleter key"),
        "{shown}"
    );

    env.write("second", "another secret\n");
    env.write("foreign", "refloat-deleter-key-1:AAAA\n");
    let forget = ["forget", "--keep-last", "1", "--yes", "--retry-lock", "0"];
    for (args, key, code, expected) in [
        (
            &forget[..],
            None,
            1,
            "hint: give the key's file with --deleter-key",
        ),
        (
            &["key", "passwd", "--new-password-file", "second"],
            None,
            1,
            "--deleter-key",
        ),
        (&forget, Some("missing"), 1, "cannot read the deleter key"),
        (&forget, Some("foreign"), 1, "holds no deleter key"),
        (&forget, Some("deleter"), 11, "refloat repair locks"),
    ] {
        let key: Vec<&str> = key.map_or(Vec::new(), |file| vec!["--deleter-key", file]);
        let (found, shown) = env.outcome(&[args, &key].concat());
        assert_eq!(found, code, "{args:?} {key:?}: {shown}");
        assert!(shown.contains(expected), "{shown}");
    }
    let listed = env.json(&["repair", "locks", "--dry-run"]);
    assert_eq!(listed["locks"][0]["holder"], "thief@thief (process 1)");
    assert_eq!(listed["locks"][0]["keeps_writers_out"], false);
    let cleared = env.json(&["repair", "locks", "--yes"]);
    assert_eq!(cleared["deleted"], 1);
    let with_key = [&forget[..], &["--deleter-key", "deleter"]].concat();
    let (code, shown) = env.outcome(&with_key);
    assert_eq!(code, 0, "{shown}");
    let mut by_variable = env.command(&["prune", "--max-unused", "0%", "--yes"]);
    let output = by_variable
        .env("REFLOAT_DELETER_KEY", "deleter")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    // Adding takes nothing away, and whoever has the password could do it with any program.
    env.succeed(&["key", "add", "--new-password-file", "second"]);
    let help = env.succeed(&["init", "--help"]);
    let help: Vec<&str> = help.split_whitespace().collect();
    let words = "remove or replace keys, and backups wait for nobody else";
    assert!(help.join(" ").contains(words), "{help:?}");
    // The same key for another repository.
    let again = ["init", "-r", "other", "--require-deleter-key", "deleter"];
    assert_eq!(env.json(&again)["deleter_key"], "deleter");
}
