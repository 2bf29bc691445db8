//! `refloat.yaml`.

use crate::cli_env::{CliEnv, assert_cli};

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let env = CliEnv::new();
    env.write("refloat.yaml", "repository:\n  ulr: ./backups\n");
    assert_cli!(env, "unknown_key", "points");
    env.write(
        "refloat.yaml",
        "sources:\n  shop: {vault: {context: prod}}\n",
    );
    assert_cli!(env, "not_yet", "points");
}

#[test]
fn policies_of_the_file_are_run_by_name() {
    let env = CliEnv::with_data();
    env.write("key", "secret words\n");
    let data = env.path("data");
    env.write(
        "conf/refloat.yaml",
        &format!(
            "repository: {{url: ../repo, password: {{file: ../key}}}}\n\
             sources: {{srv: {{files: {{paths: [{}], exclude: [\"sub/\"]}}}}}}\n\
             policies:\n  nightly: {{select: [{{source: srv}}], every: 1d, keep: {{last: 1}}}}\n",
            data.display()
        ),
    );
    let run = |args: &[&str]| {
        let mut command = env.command(&["-c", "conf/refloat.yaml"]);
        command
            .args(args)
            .env_remove("REFLOAT_REPOSITORY")
            .env_remove("REFLOAT_PASSWORD");
        env.show(&command.output().unwrap())
    };
    assert!(run(&["points"]).contains("warning: policy nightly: has no recovery point"));
    assert!(run(&["backup", "nightly"]).starts_with("exit code: 0"));
    assert!(run(&["backup"]).starts_with("exit code: 0"));
    let unknown = run(&["backup", "nihgtly"]);
    assert!(unknown.starts_with("exit code: 2"), "{unknown}");
    assert!(
        unknown.contains("hint: did you mean \"nightly\"?"),
        "{unknown}"
    );
    let listed = run(&["ls", "-R", "latest@nightly:/files/srv"]);
    assert!(
        listed.contains("readme.txt") && !listed.contains("numbers"),
        "{listed}"
    );
    assert!(run(&["forget", "--yes"]).contains("1 kept, 1 dropped"));
}

/// Where the file leaves the address to the environment, its options are for that one.
#[test]
fn options_of_the_file_count_for_an_address_from_elsewhere() {
    let env = CliEnv::with_data();
    env.back_up();
    let file = |url: &str, options: &str| {
        env.write(
            "refloat.yaml",
            &format!("repository: {{{url}options: {{{options}}}}}\n"),
        );
    };
    let lock = "object-lock: compliance, object-lock-period: 30d";
    file("", lock);
    let source = format!("files:{}", env.path("data").display());
    let backup = ["backup", "--source", &source];
    let (code, shown) = env.outcome(&backup);
    assert_eq!(code, 2, "{shown}");
    assert!(
        shown.contains("object-lock is an option of s3, and repo would keep"),
        "{shown}"
    );
    file("url: /somewhere/else, ", lock);
    assert_eq!(env.code(&backup), 0, "of another place");
    file("", "limit-download: 1MiB");
    assert_eq!(env.code(&backup), 0);
    let lock = [
        "-o",
        "object-lock=governance",
        "-o",
        "object-lock-period=1d",
    ];
    let code = |args: &[&str]| env.code(&[&lock[..], args].concat());
    assert_eq!(code(&backup), 2);
    assert_eq!(code(&["init"]), 2);
    assert_eq!(code(&["protect"]), 2);
    assert_eq!(code(&["points"]), 0, "who reads is not concerned");
}
