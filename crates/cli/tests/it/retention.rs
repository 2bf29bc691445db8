//! `refloat forget`.

use std::fs;
use std::path::Path;

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
    // The one that was found empty stays until a person says that it is right.
    for (accept, kept, dropped) in [(&[][..], 3, 0), (&["--accept-changes"], 2, 1)] {
        let forget = env.json(&[&["forget", "--keep-last", "1", "--yes"], accept].concat());
        assert_eq!(
            (&forget["kept"], &forget["dropped"]),
            (&kept.into(), &dropped.into())
        );
    }
    let find = env.json(&["find", "numbers"]);
    assert_eq!(find["matches"].as_array().unwrap().len(), 1);
}

#[test]
fn folders_that_were_named_apart_do_not_replace_each_other() {
    let env = CliEnv::with_data();
    let folders = ["a", "b"].map(|name| {
        env.write(&format!("{name}/file"), name);
        format!("files:{}", env.path(name).display())
    });
    for folder in &folders {
        for _ in 0..2 {
            let made = env.json(&["backup", "--host", "testhost", "--source", folder]);
            let told = made["points"][0]["findings"].to_string();
            assert!(!told.contains("no longer there"), "{told}");
        }
    }
    let forget = env.json(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(
        (&forget["kept"], &forget["dropped"]),
        (&2.into(), &2.into())
    );
    let covers: Vec<_> = (0..2)
        .map(|at| forget["groups"][at]["covers"][0].clone())
        .collect();
    for (covers, name) in covers.iter().zip(["a", "b"]) {
        let folder = format!("/files/local{}", env.path(name).display());
        assert_eq!(*covers, folder);
        let found = env.json(&["points"])["points"]
            .as_array()
            .unwrap()
            .iter()
            .any(|point| point["paths"][0] == folder);
        assert!(found, "{folder}");
    }
    for (name, point) in [("a", 0), ("b", 1)] {
        let points = env.json(&["points"]);
        let id = points["points"][point]["id"].as_str().unwrap();
        let file = format!("{id}:/files/local{}/file", env.path(name).display());
        assert_eq!(env.succeed(&["cat", &file]), name);
    }
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
    let shown = env.succeed(&["prune", "--max-unused", "0%", "--dry-run"]);
    assert!(shown.ends_with(" that stay: 0\n"), "{shown:?}");
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

#[test]
fn forgetting_reclaims_the_space_when_asked_to() {
    let env = CliEnv::with_data();
    env.write("data/sub/big", &noise(1));
    env.back_up();
    env.write("data/sub/big", &noise(2));
    let kept = tree(&env.path("data"));
    env.back_up();
    let forget = ["forget", "--keep-last", "1", "--prune"];
    let before = tree(&env.path("repo"));
    assert_eq!(env.code(&forget), 1, "nobody to ask");
    assert_eq!(env.code(&[&forget[..], &["--dry-run"]].concat()), 0);
    assert_eq!(tree(&env.path("repo")), before, "nothing is changed");
    let (full, done) = (
        size(&env.path("repo")),
        env.json(&[&forget[..], &["--yes"]].concat()),
    );
    assert_eq!(done["dropped"], 1);
    assert!(done["prune"]["done"]["bytes_deleted"].as_u64().unwrap() > 0);
    let small = size(&env.path("repo"));
    assert!(small + 100_000 < full, "{full} to {small} bytes");
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    let stored = format!("latest:/files/local{}", env.path("data").display());
    env.succeed(&["restore", &stored, "--target", "out"]);
    assert_eq!(tree(&env.path("out")), kept);
}

#[test]
fn without_a_yes_nothing_is_pruned() {
    let env = CliEnv::with_data();
    env.write("data/sub/big", &noise(1));
    env.back_up();
    env.write("data/sub/big", &noise(2));
    env.back_up();
    env.succeed(&["forget", "--keep-last", "1", "--yes"]);
    let before = tree(&env.path("repo"));
    let output = env.command(&["prune"]).output().unwrap();
    let shown = env.show(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("nobody to ask"), "{shown}");
    assert_eq!(tree(&env.path("repo")), before);
}

/// 200 kB that do not compress to much less.
pub fn noise(seed: u64) -> String {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + u8::try_from((state >> 58) % 64).unwrap())
    };
    (0..200_000).map(|_| next()).collect()
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size_of = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    };
    entries.map(size_of).sum()
}

#[test]
fn points_that_are_named_are_dropped_and_what_is_lost_with_them_is_told() {
    let env = CliEnv::with_data();
    env.write("old/file", "the only copy");
    let old = format!("files:{}", env.path("old").display());
    env.succeed(&[
        "backup",
        "--host",
        "testhost",
        "--source",
        &format!("old={old}"),
    ]);
    env.back_up();
    let points = env.json(&["points"]);
    let id = points["points"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(env.code(&["forget", "latest"]), 2, "an id is wanted");
    assert_eq!(env.code(&["forget", &id, "--keep-last", "1"]), 2);
    assert_eq!(env.code(&["forget", "ffffffff"]), 1);
    let plan = env.json(&["forget", &id, "--dry-run"]);
    assert_eq!(plan["dropped"], 1);
    assert_eq!(plan["unprotected"][0]["source"], "old", "{plan:#}");
    let shown = env.run(&["forget", &id]);
    assert!(shown.starts_with("exit code: 1"), "{shown}");
    assert!(
        shown.contains("no other recovery point holds a good copy of"),
        "{shown}"
    );
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 2);
    env.succeed(&["forget", &id, "--yes"]);
    let left = env.json(&["points"]);
    assert_eq!(left["points"].as_array().unwrap().len(), 1);
    assert_ne!(left["points"][0]["id"], id.as_str());
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

/// Whoever deletes waits for a backup that ends soon, and for no longer than they said.
#[test]
fn a_prune_waits_for_a_backup_as_long_as_it_was_told_to() {
    let env = CliEnv::with_data();
    env.back_up();
    env.write("data/sub/big", &noise(1));
    env.back_up();
    env.succeed(&["forget", "--keep-last", "1", "--yes"]);
    let prune = ["prune", "--max-unused", "0%", "--yes", "--retry-lock"];
    let running = crate::interruption::backup_that_waits(&env);
    let start = std::time::Instant::now();
    let (code, shown) = env.outcome(&[&prune[..], &["0"]].concat());
    assert_eq!(code, 11, "{shown}");
    assert!(shown.contains("refloat repair locks"), "{shown}");
    let (code, _) = env.outcome(&[&prune[..], &["2s"]].concat());
    assert_eq!(code, 11);
    assert!(start.elapsed() >= std::time::Duration::from_secs(2));
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        drop(running);
    });
    let (code, shown) = env.outcome(&[&prune[..], &["5m"]].concat());
    ends.join().unwrap();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

/// What writers left that died, and what is none of the repository's: removed when it is old, and told.
#[test]
fn leftovers_are_removed_by_a_prune_and_foreign_files_are_told_by_check() {
    let env = CliEnv::with_data();
    env.back_up();
    let old = env.path("repo/data/.refloat-tmp-0123456789abcdef");
    let young = env.path("repo/index/.refloat-tmp-0123456789abcdee");
    for path in [&old, &young, &env.path("repo/index/notes")] {
        fs::write(path, "12345").unwrap();
    }
    let days_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(49);
    fs::File::open(&old)
        .unwrap()
        .set_modified(days_ago)
        .unwrap();
    let (code, shown) = env.outcome(&["check"]);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("warning: index/notes: is no file of a repository"),
        "{shown}"
    );
    assert_eq!(
        env.json(&["check"])["foreign"],
        serde_json::json!(["index/notes"])
    );
    env.succeed(&["prune", "--dry-run"]);
    assert!(old.exists());
    let done = env.json(&["prune", "--yes"]);
    assert_eq!(
        done["temporaries"],
        serde_json::json!({"files": 1, "bytes": 5}),
        "{done:#}"
    );
    assert!(!old.exists() && young.exists() && env.path("repo/index/notes").exists());
}
