//! What `find` finds, in several points.

use crate::cli_env::CliEnv;

/// What fits in each point, the newest first, by what stands behind the folder that was saved.
fn found(env: &CliEnv, patterns: &[&str]) -> Vec<Vec<String>> {
    let args: Vec<&str> = ["find"].iter().chain(patterns).copied().collect();
    let report = env.json(&args);
    assert_eq!(report["findings"], serde_json::json!([]));
    let mut points: Vec<(String, Vec<String>)> = Vec::new();
    for entry in report["matches"].as_array().unwrap() {
        let point = entry["snapshot"].as_str().unwrap().to_owned();
        let path = entry["path"].as_str().unwrap();
        let (_, path) = path.split_once("/data/").unwrap();
        match points.last_mut() {
            Some((last, paths)) if *last == point => paths.push(path.to_owned()),
            _ => points.push((point, vec![path.to_owned()])),
        }
    }
    let sorted = |(_, mut paths): (String, Vec<String>)| {
        paths.sort();
        paths
    };
    points.into_iter().map(sorted).collect()
}

#[test]
fn names_and_paths_are_found_in_all_points_and_below_what_does_not_fit() {
    let env = CliEnv::with_repository();
    for file in [
        "etc/app.conf",
        "etc/nested/other.conf",
        "conf.d/x",
        "var/log/app.log",
        "barren/file",
    ] {
        env.write(&format!("data/{file}"), file);
    }
    env.back_up();
    env.write("data/var/new.conf", "new");
    env.back_up();
    let old = ["etc/app.conf", "etc/nested/other.conf"];
    let new = [old.as_slice(), &["var/new.conf"]].concat();
    let log = ["var/log/app.log"];
    for (patterns, in_new, in_old) in [
        (&["*.conf"] as &[&str], &new as &[&str], &old as &[&str]),
        (&["x"], &["conf.d/x"], &["conf.d/x"]),
        (&["conf.d"], &["conf.d"], &["conf.d"]),
        // Of whole paths, and nothing by its name alone.
        (&["*/var/*.log"], &log, &log),
        (&["/app.log"], &[], &[]),
        (&["{no/such,app.log}"], &[], &[]),
        (&["*/data/conf.d"], &["conf.d"], &["conf.d"]),
        // Names and paths; what fits twice is told once.
        (&["app.log", "*/log/*"], &log, &log),
        (
            &["*/log/*", "*.conf"],
            &[
                "etc/app.conf",
                "etc/nested/other.conf",
                "var/log/app.log",
                "var/new.conf",
            ],
            &["etc/app.conf", "etc/nested/other.conf", "var/log/app.log"],
        ),
        // Only in the newer one.
        (&["new.*"], &["var/new.conf"], &[]),
    ] {
        let expected: Vec<_> = [in_new, in_old]
            .into_iter()
            .filter(|p| !p.is_empty())
            .collect();
        assert_eq!(found(&env, patterns), expected, "{patterns:?}");
    }
}
