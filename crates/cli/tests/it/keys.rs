//! `refloat key`.

use crate::cli_env::{CliEnv, assert_cli};

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
