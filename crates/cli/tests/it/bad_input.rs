//! Every mistake and mishap: one clear error, the right exit code.

use std::fs;

use crate::cli_env::{CliEnv, assert_cli};

#[test]
fn no_repository() {
    let env = CliEnv::new();
    assert_cli!(env, "no_repository", "points");
    assert_eq!(env.json(&["points"])["error"]["kind"], "no-repository");
    assert_eq!(env.code(&["points"]), 10);
}

#[test]
fn wrong_password() {
    let mut env = CliEnv::with_repository();
    env.set_password("guess");
    assert_cli!(env, "wrong_password", "points");
}

#[test]
fn no_password() {
    let mut env = CliEnv::with_repository();
    env.set_password("");
    assert_cli!(env, "no_password", "points");
    assert_cli!(env, "init_without_password", "-r", "other", "init");
    assert!(
        !env.path("other").exists(),
        "nothing is made without a password"
    );
}

#[test]
fn a_repository_is_made_once() {
    let env = CliEnv::new();
    assert_cli!(env, "init", "init");
    assert_cli!(env, "init_again", "init");
}

#[test]
fn places_that_this_version_cannot_use() {
    let env = CliEnv::new();
    assert_cli!(env, "ftp", "-r", "ftp://host/path", "points");
    let refused = env.run(&["-r", "sftp://me:hunter2@host/path", "points"]);
    assert!(refused.starts_with("exit code: 2"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn sources_that_do_not_exist() {
    let env = CliEnv::with_repository();
    assert_cli!(env, "source_vault", "backup", "--source", "vault:prod");
    assert_cli!(env, "source_unknown", "backup", "--source", "dokcer:");
    let missing = format!("files:{}", env.path("gone").display());
    assert_cli!(env, "source_vanished", "backup", "--source", &missing);
    assert_cli!(env, "no_source", "backup");
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
}

#[test]
fn a_socket_that_is_not_there() {
    let env = CliEnv::with_repository();
    let source = format!("docker:unix://{}", env.path("no.sock").display());
    let shown = env.run(&["backup", "--source", &source]);
    assert!(
        shown.starts_with("exit code: 1\n--- stdout\n--- stderr\nerror: cannot connect to"),
        "{shown}"
    );
    assert!(shown.contains("\nhint: "), "{shown}");
}

/// A plan that does not know all of its sources is no whole one.
#[test]
fn a_plan_without_one_of_its_sources_is_incomplete() {
    let env = CliEnv::with_data();
    let docker = format!("docker:unix://{}", env.path("absent.sock").display());
    let files = format!("files:{}", env.path("data").display());
    let both = [
        "backup",
        "--dry-run",
        "--source",
        &files,
        "--source",
        &docker,
    ];
    assert_eq!(env.code(&both), 3);
    let plan = env.json(&both);
    assert_eq!(plan["exit_code"], 3);
    assert_eq!(
        plan["plans"][0]["findings"][0]["severity"], "error",
        "{plan:#}"
    );
    assert_eq!(env.code(&["backup", "--dry-run", "--source", &files]), 0);
}

#[test]
fn points_and_paths_that_do_not_exist() {
    let env = CliEnv::with_data();
    assert_cli!(env, "empty_repository", "show", "latest");
    env.back_up();
    assert_cli!(env, "unknown_point", "show", "ffffffffffff");
    assert_cli!(env, "unreadable_point", "show", "yesterday");
    assert_cli!(env, "unknown_path", "cat", "latest:/nothing/here");
    assert_cli!(env, "path_is_a_directory", "cat", "latest:/files");
    assert_cli!(env, "hostile_path", "cat", "latest:/files/../../etc/passwd");
}

#[test]
fn restores_that_would_overwrite() {
    let env = CliEnv::with_data();
    env.back_up();
    env.write("out/mine", "precious");
    assert_cli!(
        env,
        "restore_into_full_folder",
        "restore",
        "latest",
        "--target",
        "out"
    );
    fs::create_dir(env.path("home")).unwrap();
    assert_cli!(
        env,
        "restore_into_home",
        "restore",
        "latest",
        "--target",
        "home",
        "--into-existing"
    );
    assert_eq!(
        env.code(&["restore", "latest", "--target", "/", "--into-existing"]),
        1
    );
    assert_eq!(
        env.code(&["restore", "latest", "--target", "out", "--into-existing"]),
        0
    );
    assert_eq!(
        fs::read_to_string(env.path("out/mine")).unwrap(),
        "precious"
    );
}

#[test]
fn usage_mistakes_end_with_two() {
    let env = CliEnv::with_repository();
    for args in [
        &["restore", "latest"] as &[&str],
        &["restore", "latest", "--target", "a", "--to", "docker:"],
        &["restore", "latest", "--to", "files:/x"],
        &["restore", "latest:/x", "--to", "docker:"],
        &["backup", "--source", "files:/x", "policy"],
        &["check", "--read-data-subset", "0%"],
        &["forget"],
        &["forget", "--keep-within", "soon"],
        &["nonsense"],
        &["points", "--json", "--quiet", "--verbose"],
        &["--password-file", "a", "--password-command", "b", "points"],
    ] {
        assert_eq!(env.code(args), 2, "{args:?}");
    }
}

#[test]
fn environment_values_that_contradict() {
    let env = CliEnv::with_repository();
    let output = env
        .command(&["points"])
        .env("REFLOAT_PASSWORD_FILE", "x")
        .output()
        .unwrap();
    assert!(
        env.show(&output).starts_with("exit code: 2"),
        "{}",
        env.show(&output)
    );
}

#[test]
fn a_damaged_pack_is_found_and_named() {
    let env = CliEnv::with_data();
    env.back_up();
    let mut packs: Vec<_> = walk(&env.path("repo/data"));
    packs.sort();
    for pack in &packs {
        fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(pack).unwrap();
        bytes[10] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    assert_eq!(env.code(&["check", "--read-data"]), 1);
    assert_eq!(env.json(&["check", "--read-data"])["sound"], false);
    let code = env.code(&["restore", "latest", "--target", "out"]);
    assert!(matches!(code, 1 | 3), "a damaged restore ended with {code}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
