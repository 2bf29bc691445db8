//! What a directory holds is lost in the repository: everything else is restored, listed and found.

use std::fs;
use std::path::PathBuf;

use crate::cli_env::CliEnv;

fn packs(env: &CliEnv) -> Vec<PathBuf> {
    let folders = fs::read_dir(env.path("repo/data")).unwrap();
    let packs = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    packs.map(|pack| pack.unwrap().path()).collect()
}

/// Three points; the pack is gone that holds the trees of `sub1` and `sub2`, and all of the first
/// point, but nothing else of the others.
fn lost() -> CliEnv {
    let env = CliEnv::with_repository();
    for (name, seed) in [("sub1/f", 1), ("sub2/g", 2)] {
        let mut state: u32 = seed;
        let noise: String = (0..50_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b' ' + u8::try_from((state >> 24) % 94).unwrap())
            })
            .collect();
        env.write(&format!("data/{name}"), &noise);
    }
    env.back_up();
    // Beside it are packs of noise, and one of a few records.
    let trees = packs(&env).into_iter();
    let length = |pack: &PathBuf| pack.metadata().unwrap().len();
    let trees = trees
        .filter(|pack| length(pack) < 20_000)
        .max_by_key(length);
    for sub in ["sub3", "sub4"] {
        env.write(&format!("data/{sub}/h"), "here");
        env.back_up();
    }
    fs::remove_file(trees.unwrap()).unwrap();
    env
}

#[test]
fn a_restore_names_what_is_lost_and_restores_all_else() {
    let env = lost();
    let stored = format!("latest:/files/local{}", env.path("data").display());
    let into = ["restore", &stored, "--target", "out"];
    let plan = env.json(&[&into[..], &["--dry-run"]].concat());
    assert_eq!(plan["exit_code"], 3, "{plan:#}");
    assert_eq!(
        (&plan["unreadable"], &plan["directories"]),
        (&2.into(), &4.into())
    );
    assert_eq!(plan["changes"]["lost"], 2);
    let listed = plan["changes"]["listed"].as_array().unwrap();
    let lost: Vec<&str> = listed
        .iter()
        .filter(|change| change["change"] == "lost")
        .map(|change| change["path"].as_str().unwrap())
        .collect();
    assert_eq!(lost, ["sub1", "sub2"]);
    // Into an empty folder, into one that holds the directories, and above them.
    for (stored, target, prefix) in [
        (stored.as_str(), "out", ""),
        (stored.as_str(), "out", ""),
        ("latest", "whole", &stored["latest:/".len()..]),
    ] {
        let into = ["restore", stored, "--target", target, "--into-existing"];
        let done = env.json(&into);
        assert_eq!(
            (&done["exit_code"], &done["failure_count"]),
            (&3.into(), &2.into()),
            "{done:#}"
        );
        let at = match prefix {
            "" => env.path(target),
            prefix => env.path(target).join(prefix),
        };
        assert_eq!(fs::read_to_string(at.join("sub3/h")).unwrap(), "here");
        for (number, name) in ["sub1", "sub2"].into_iter().enumerate() {
            let failure = &done["failures"][number];
            assert!(
                failure["path"].as_str().unwrap().ends_with(name),
                "{done:#}"
            );
            let reason = failure["reason"].as_str().unwrap();
            assert!(reason.starts_with("what it holds is lost: "), "{reason}");
        }
    }
}

#[test]
fn a_listing_names_what_is_lost_and_goes_on() {
    let env = lost();
    let listed = env.run(&["ls", "-R", "latest"]);
    assert!(listed.starts_with("exit code: 3"), "{listed}");
    assert!(listed.contains("/data/sub3/h\n"), "{listed}");
    for name in ["sub1", "sub2"] {
        let lost = format!("/data/{name}: what it holds cannot be read: ");
        assert!(listed.contains(&lost), "{listed}");
    }
    let listed = env.json(&["ls", "-R", "latest"]);
    assert_eq!(
        listed["findings"].as_array().unwrap().len(),
        2,
        "{listed:#}"
    );
    // Asked for by name there is nothing to go on with.
    let stored = format!("latest:/files/local{}/sub1", env.path("data").display());
    assert_eq!(env.code(&["ls", &stored]), 1);
    let stored = format!("latest:/files/local{}/sub3", env.path("data").display());
    assert_eq!(env.code(&["ls", "-R", &stored]), 0);
}

#[test]
fn a_search_names_what_is_lost_in_each_point_and_goes_on() {
    let env = lost();
    let found = env.json(&["find", "h"]);
    assert_eq!(found["exit_code"], 3, "{found:#}");
    assert_eq!(found["matches"].as_array().unwrap().len(), 3, "{found:#}");
    let findings = found["findings"].as_array().unwrap();
    let lost = |name: &str| {
        let is_of = |finding: &&serde_json::Value| {
            finding["message"]
                .as_str()
                .unwrap()
                .contains(&format!("/data/{name} was not searched: "))
        };
        findings.iter().filter(is_of).count()
    };
    assert_eq!((lost("sub1"), lost("sub2")), (2, 2), "{found:#}");
    // The root of the first point is lost.
    assert_eq!(findings.len(), 5, "{found:#}");
}
