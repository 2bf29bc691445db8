//! `refloat forget`.

use std::fs;

use crate::cli_env::{CliEnv, assert_cli};

#[test]
fn the_plan_is_shown_and_wants_a_yes() {
    let env = CliEnv::with_data();
    for _ in 0..3 {
        env.back_up();
    }
    assert_cli!(env, "dry_run", "forget", "--keep-last", "1", "--dry-run");
    assert_cli!(env, "nobody_to_ask", "forget", "--keep-last", "1");
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 3);
    assert_cli!(env, "done", "forget", "--keep-last", "1", "--yes");
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 1);
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

#[test]
fn the_good_copy_outlives_the_emptied_one() {
    let env = CliEnv::with_data();
    env.back_up();
    fs::remove_dir_all(env.path("data")).unwrap();
    fs::create_dir(env.path("data")).unwrap();
    let source = format!("files:{}", env.path("data").display());
    for _ in 0..2 {
        env.code(&["backup", "--host", "testhost", "--source", &source]);
    }
    let forget = env.json(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(
        (&forget["kept"], &forget["dropped"]),
        (&2.into(), &1.into())
    );
    let find = env.json(&["find", "numbers"]);
    assert_eq!(find["matches"].as_array().unwrap().len(), 1);
}
