//! `refloat audit`: what somebody with the storage and without the password does is noticed.

use std::fs;
use std::path::Path;

use crate::cli_env::CliEnv;

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .args(["-a", "--"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}

fn files(env: &CliEnv, kind: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(env.path("repo").join(kind)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A place whose commands all record, with two points.
fn recorded() -> (CliEnv, impl Fn(&CliEnv, &[&str]) -> i32) {
    let env = CliEnv::new();
    let with = |env: &CliEnv, args: &[&str]| {
        let mut command = env.command(args);
        let output = command.env("REFLOAT_LEDGER", "ledger").output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(with(&env, &["init"]), 0);
    env.write("data/a", "one\n");
    let source = format!("files:{}", env.path("data").display());
    for text in ["two\n", "three\n"] {
        env.write("data/a", text);
        assert_eq!(
            with(&env, &["backup", "--host", "h", "--source", &source]),
            0
        );
    }
    assert_eq!(with(&env, &["audit"]), 0);
    assert_eq!(with(&env, &["check"]), 0);
    (env, with)
}

#[test]
fn what_our_own_commands_do_is_no_difference() {
    let (env, with) = recorded();
    env.write("second", "another secret\n");
    for args in [
        &["forget", "--keep-last", "1", "--yes"][..],
        &["prune", "--yes"],
        &["key", "add", "--new-password-file", "second"],
        &["audit"],
    ] {
        assert_eq!(with(&env, args), 0, "{args:?}");
    }
    let keys = env.json(&["key", "list"])["keys"].clone();
    let other = keys
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["current"] == false);
    let other = other.unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(with(&env, &["key", "remove", &other]), 0);
    assert_eq!(with(&env, &["audit"]), 0);
    // Another writer, who records nothing, is taken in by the next run that does.
    env.back_up();
    assert_eq!(with(&env, &["audit"]), 0);
}

/// What cannot be recorded is not done.
#[test]
fn nothing_is_deleted_beside_a_ledger_that_cannot_be_written() {
    let (env, with) = recorded();
    fs::write(env.path("ledger"), "of somebody else\n").unwrap();
    let before = files(&env, "snapshots");
    assert_eq!(before.len(), 2);
    assert_ne!(with(&env, &["forget", "--keep-last", "1", "--yes"]), 0);
    assert_eq!(files(&env, "snapshots"), before);
    env.write("second", "another secret\n");
    let keys = files(&env, "keys");
    assert_ne!(
        with(&env, &["key", "add", "--new-password-file", "second"]),
        0
    );
    assert_eq!(files(&env, "keys"), keys);
}

#[test]
fn deletion_rollback_replay_and_exchange_are_noticed() {
    let (env, with) = recorded();
    copy(&env.path("repo"), &env.path("older"));

    // A point is deleted; our own check alone cannot tell.
    let victim = files(&env, "snapshots").remove(0);
    fs::rename(&victim, env.path("victim")).unwrap();
    assert_eq!(env.code(&["check"]), 0);
    assert_eq!(with(&env, &["check"]), 1);
    assert_eq!(with(&env, &["audit"]), 1);
    fs::rename(env.path("victim"), &victim).unwrap();
    assert_eq!(with(&env, &["audit"]), 0);

    // A key is deleted, the config is exchanged for an older one of the same key.
    env.write("second", "another secret\n");
    assert_eq!(
        with(&env, &["key", "add", "--new-password-file", "second"]),
        0
    );
    let old: Vec<_> = files(&env, "keys");
    let added = old.iter().find(|key| {
        !env.path("older/keys")
            .join(key.file_name().unwrap())
            .exists()
    });
    fs::rename(added.unwrap(), env.path("key")).unwrap();
    assert_eq!(env.code(&["check"]), 0);
    assert_eq!(with(&env, &["audit"]), 1);
    fs::rename(env.path("key"), added.unwrap()).unwrap();

    // What was forgotten comes back: an older state is replayed.
    assert_eq!(with(&env, &["forget", "--keep-last", "1", "--yes"]), 0);
    assert_eq!(with(&env, &["audit"]), 0);
    fs::remove_dir_all(env.path("repo")).unwrap();
    copy(&env.path("older"), &env.path("repo"));
    assert_eq!(
        env.code(&["check"]),
        0,
        "the older state is sound in itself"
    );
    assert_eq!(with(&env, &["audit"]), 1);

    // Another repository with the same password is in its place.
    fs::remove_dir_all(env.path("repo")).unwrap();
    assert_eq!(env.code(&["init"]), 0);
    assert_eq!(with(&env, &["audit"]), 1);
}

#[test]
fn a_person_can_accept_and_nobody_can_forge_or_cut_unnoticed() {
    let (env, with) = recorded();
    let output = env
        .command(&["audit", "--json", "--ledger", "ledger"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let head = report["head"].as_str().unwrap().to_owned();
    fs::remove_file(files(&env, "snapshots").remove(0)).unwrap();
    assert_eq!(with(&env, &["audit", "--accept"]), 1, "nobody to ask");
    assert_eq!(with(&env, &["audit", "--accept", "--yes"]), 0);
    assert_eq!(with(&env, &["audit", "--expect-head", &head]), 0);

    let text = fs::read_to_string(env.path("ledger")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    env.write("ledger", &text.replace("accept", "forget"));
    assert_eq!(with(&env, &["audit"]), 1);
    env.write("ledger", &format!("{}\n", lines[1..].join("\n")));
    assert_eq!(with(&env, &["audit"]), 1);
    // Its end is cut: it is valid, but it has no such line any more.
    env.write("ledger", &format!("{}\n", lines[..2].join("\n")));
    assert_eq!(with(&env, &["audit", "--expect-head", &head]), 2);
    // A run that died while it wrote leaves half a line, which the next one overwrites.
    env.write("ledger", &format!("{text}{{\"version\""));
    assert_eq!(with(&env, &["audit"]), 0);
    env.back_up();
    assert_eq!(with(&env, &["audit"]), 0);
    fs::remove_file(env.path("ledger")).unwrap();
    assert_eq!(with(&env, &["audit"]), 1, "there is none");
}

/// A path that was given by mistake: of the file that holds the password, say.
#[test]
fn what_is_no_ledger_is_not_touched() {
    let env = CliEnv::with_data();
    let ledger = |args: &[&str]| {
        let output = env
            .command(args)
            .env("REFLOAT_LEDGER", "mine")
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for text in [
        "secret words",
        "secret words\nmore",
        "{\"version\":1,\"sequence\":7",
    ] {
        env.write("mine", text);
        let source = format!("files:{}", env.path("data").display());
        for args in [&["backup", "--source", &source][..], &["audit"], &["check"]] {
            let (code, shown) = ledger(args);
            assert_ne!(code, 0, "{args:?}");
            assert!(
                shown.contains("ledger") && !shown.contains("secret"),
                "{shown}"
            );
            assert_eq!(fs::read_to_string(env.path("mine")).unwrap(), text);
        }
    }
    // What a run left that died while it began one is no reason to refuse.
    for text in [
        "",
        "{",
        "{\"version\":1,\"sequence\":0,\"previous\":\"\",\"ti",
    ] {
        env.write("mine", text);
        assert_eq!(ledger(&["audit"]).0, 0, "{text}");
        assert_eq!(
            fs::read_to_string(env.path("mine")).unwrap(),
            text,
            "audit writes nothing"
        );
        let source = format!("files:{}", env.path("data").display());
        assert_eq!(ledger(&["backup", "--source", &source]).0, 0, "{text}");
        assert_eq!(ledger(&["audit"]).0, 0, "{text}");
    }
}

#[test]
fn restic_does_not_mind_our_ledger_and_escrow_beside_the_repository() {
    let (env, with) = recorded();
    assert_eq!(with(&env, &["key", "export", "escrow"]), 0);
    for name in ["ledger", "escrow"] {
        copy(&env.path(name), &env.path("repo").join(name));
    }
    let restic = std::process::Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "--no-lock", "-r"])
        .arg(env.path("repo"))
        .env("RESTIC_PASSWORD", "secret words")
        .output();
    let Ok(output) = restic else {
        refloat_testkit::skip("restic is not installed");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

#[test]
fn destroyed_keys_and_config_are_put_back_from_an_export() {
    let env = CliEnv::with_data();
    env.back_up();
    env.succeed(&["key", "export", "escrow"]);
    assert_eq!(
        env.code(&["key", "export", "escrow"]),
        1,
        "it overwrites nothing"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(env.path("escrow")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(env.path("escrow")).unwrap();
    assert!(!text.contains("secret words"));
    for key in files(&env, "keys") {
        fs::remove_file(&key).unwrap();
        fs::write(&key, "zeros").unwrap();
    }
    fs::remove_file(env.path("repo/config")).unwrap();
    assert_ne!(env.code(&["points"]), 0);
    env.succeed(&["key", "import", "escrow"]);
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

#[test]
fn a_removed_key_comes_back_only_with_all() {
    let env = CliEnv::with_data();
    env.write("second", "another secret\n");
    env.succeed(&["key", "add", "--new-password-file", "second"]);
    env.succeed(&["key", "export", "escrow"]);
    let keys = env.json(&["key", "list"])["keys"].clone();
    let other = keys
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["current"] == false);
    let id = other.unwrap()["id"].as_str().unwrap().to_owned();
    env.succeed(&["key", "remove", &id]);
    let shown = env.succeed(&["key", "import", "escrow"]);
    assert!(
        shown.contains(
            "put back 0 keys; the repository opens\nleft out, since it may have been removed: key "
        ),
        "{shown}"
    );
    let report = env.json(&["key", "import", "escrow"]);
    assert_eq!(report["left_out"][0]["id"], id.as_str());
    assert_eq!(
        env.json(&["key", "list"])["keys"].as_array().unwrap().len(),
        1
    );
    env.succeed(&["key", "import", "--all", "escrow"]);
    assert_eq!(
        env.json(&["key", "list"])["keys"].as_array().unwrap().len(),
        2
    );
}
