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
