//! `refloat forget`.

use std::fs;

use crate::cli_env::{CliEnv, assert_cli, tree};

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

#[test]
fn what_nobody_needs_is_pruned_and_the_rest_stays_whole() {
    let env = CliEnv::with_data();
    env.back_up();
    let kept = tree(&env.path("data"));
    env.write("data/sub/big", &"never again ".repeat(50_000));
    env.back_up();
    fs::remove_file(env.path("data/sub/big")).unwrap();
    let source = format!("files:{}", env.path("data").display());
    let shrunken = ["backup", "--host", "testhost", "--source", &source];
    assert_eq!(env.code(&shrunken), 3);
    env.succeed(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(
        env.code(&["prune", "--max-unused", "0%"]),
        1,
        "nobody to ask"
    );
    let plan = env.json(&["prune", "--max-unused", "0%", "--dry-run"]);
    assert!(plan["plan"]["statistics"]["unused_blobs"].as_u64().unwrap() > 0);
    assert_eq!(plan["done"], serde_json::Value::Null);
    let done = env.json(&["prune", "--max-unused", "0%", "--yes"]);
    assert!(
        done["done"]["packs_deleted"].as_u64().unwrap() > 0,
        "{done:#}"
    );
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    let stored = format!("latest:/files/local{}", env.path("data").display());
    env.succeed(&["restore", &stored, "--target", "out"]);
    let modified = |lines: Vec<String>| -> Vec<String> {
        // `sub` itself was changed by the file that came and went.
        lines
            .into_iter()
            .filter(|line| !line.starts_with("sub 4"))
            .collect()
    };
    assert_eq!(modified(tree(&env.path("out"))), modified(kept));
}
