//! `refloat repair` and what a damaged repository looks like from outside.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli_env::{CliEnv, tree};

/// Data packs, largest first.
fn packs(env: &CliEnv) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for folder in fs::read_dir(env.path("repo/data")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap();
            found.push((pack.metadata().unwrap().len(), pack.path()));
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    // Packs are stored read-only.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn latest(env: &CliEnv) -> String {
    format!("latest:/files/local{}", env.path("data").display())
}

#[test]
fn an_index_that_is_gone_is_built_anew() {
    let env = CliEnv::with_data();
    env.back_up();
    let kept = tree(&env.path("data"));
    for index in fs::read_dir(env.path("repo/index")).unwrap() {
        fs::remove_file(index.unwrap().path()).unwrap();
    }
    let (code, shown) = env.outcome(&["check"]);
    assert_eq!(code, 1);
    assert!(
        shown.contains("\nnext: `refloat repair index`, or "),
        "{shown}"
    );
    let stored = || -> Vec<String> {
        // Locks come and go, and their folder's time with them.
        let lines = tree(&env.path("repo")).into_iter();
        lines.filter(|line| !line.starts_with("locks ")).collect()
    };
    let before = stored();
    let plan = env.json(&["repair", "index", "--dry-run"]);
    assert!(!plan["plan"]["added_packs"].as_array().unwrap().is_empty());
    assert_eq!(plan["done"], serde_json::Value::Null);
    assert_eq!(env.code(&["repair", "index"]), 1, "nobody to ask");
    assert_eq!(stored(), before, "nothing was changed");
    let done = env.json(&["repair", "index", "--yes"]);
    assert_eq!(done["done"]["indexes_written"], 1, "{done:#}");
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    env.succeed(&["restore", &latest(&env), "--target", "out"]);
    assert_eq!(tree(&env.path("out")), kept);
    let again = env.succeed(&["repair", "index", "--yes"]);
    assert_eq!(again, "the index is as it should be\n");
}

#[test]
fn a_damaged_pack_is_saved_as_far_as_it_goes_and_the_rest_is_named() {
    let env = CliEnv::with_data();
    // The largest pack is of data: without a directory other paths would be lost as well.
    env.write("data/one", &crate::retention::noise(3));
    env.back_up();
    let victim = packs(&env)[0].clone();
    damage(&victim, 3);
    assert_eq!(env.code(&["check"]), 0, "its size is right");
    let (code, shown) = env.outcome(&["check", "--read-data"]);
    assert_eq!(code, 1);
    assert!(
        shown.contains("\nnext: `refloat repair packs`, then"),
        "{shown}"
    );
    let plan = env.json(&["repair", "packs", "--dry-run"]);
    let name = victim.file_name().unwrap().to_str().unwrap();
    assert_eq!(plan["packs"], serde_json::json!([name]));
    assert!(victim.exists());
    let done = env.json(&["repair", "packs", "--yes"]);
    let pack = &done["done"]["packs"][0];
    assert_eq!(pack["lost"].as_array().unwrap().len(), 1, "{done:#}");
    assert_eq!(done["exit_code"], 3, "something is lost");
    let points = env.json(&["points"])["points"].clone();
    assert_eq!(
        done["affected_points"],
        serde_json::json!([points[0]["snapshot"]])
    );
    assert!(!victim.exists());
    let (code, shown) = env.outcome(&["check"]);
    assert_eq!(code, 1, "what is lost is lost");
    assert!(
        shown.contains("for the rest `refloat repair snapshots`"),
        "{shown}"
    );
    let plan = env.json(&["repair", "snapshots", "--dry-run"]);
    let lost = plan["rewrite"][0]["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{plan:#}");
    let done = env.json(&["repair", "snapshots", "--forget", "--yes"]);
    assert_eq!(done["done"][0]["old_is"], "forgotten", "{done:#}");
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    let (code, shown) = env.outcome(&["restore", "latest", "--target", "out"]);
    assert_eq!(code, 3, "it is not what was saved");
    assert!(
        shown.contains(" was repaired: what had been lost of it is left out"),
        "{shown}"
    );
    assert!(!env.path("out").join("one").exists());
    assert_eq!(env.code(&["prune", "--yes"]), 0);
    let again = env.succeed(&["repair", "snapshots", "--yes"]);
    assert_eq!(again, "no recovery point lacks anything\n");
    assert_eq!(
        env.succeed(&["repair", "packs", "--yes"]),
        "no pack that can be read is damaged\n"
    );
}

#[test]
fn a_running_backup_keeps_repairs_out() {
    let env = CliEnv::with_data();
    env.back_up();
    for index in fs::read_dir(env.path("repo/index")).unwrap() {
        fs::remove_file(index.unwrap().path()).unwrap();
    }
    let holder = crate::interruption::backup_that_waits(&env);
    assert_eq!(env.code(&["repair", "index", "--yes"]), 11);
    drop(holder);
    assert_eq!(env.code(&["repair", "index", "--yes"]), 0);
}
