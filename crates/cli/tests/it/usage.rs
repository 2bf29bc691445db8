//! Command lines that would not do what they say are refused before anything is done.

use std::fs;

use crate::cli_env::CliEnv;

/// Ends with 2 and says this.
fn refused(env: &CliEnv, args: &[&str], message: &str) {
    let (code, shown) = env.outcome(args);
    assert_eq!(code, 2, "{args:?}: {shown}");
    assert!(
        shown.contains(&format!("\nerror: {message}\n")),
        "{args:?}: {shown}"
    );
}

#[test]
fn options_of_one_way_to_restore_are_refused_with_the_other() {
    let env = CliEnv::with_data();
    env.back_up();
    env.write("out/readme.txt", "precious");
    let path = format!("latest:/files/local{}", env.path("data").display());
    for (options, name) in [
        (&["--only", "x"] as &[&str], "only"),
        (&["--as", "volume:a=b"], "as"),
        (&["--on-conflict", "skip"], "on-conflict"),
        (&["--on-conflict", "fail"], "on-conflict"),
        (&["--allow", "incomplete"], "allow"),
        (&["--secret", "a=b"], "secret"),
        (&["--leave-stopped"], "leave-stopped"),
        (&["--yes"], "yes"),
        (&["--plan", "x"], "plan"),
        (&["--privileged", "x/*"], "privileged"),
        (&["--gitops", "ignore"], "gitops"),
        (&["--transforms", "x"], "transforms"),
        (&["--plain-tcp"], "plain-tcp"),
        (&["--etcd-token", "x"], "etcd-token"),
        (&["--etcd-bump-revision", "7"], "etcd-bump-revision"),
    ] {
        let mut args = vec!["restore", &path, "--target", "out", "--into-existing"];
        args.extend(options);
        refused(&env, &args, &format!("--{name} has no effect without --to"));
    }
    let kept = fs::read_to_string(env.path("out/readme.txt")).unwrap();
    assert_eq!(kept, "precious");
    for (options, name) in [
        (
            &["--into-existing", "--with-privileges"] as &[&str],
            "into-existing",
        ),
        (&["--with-privileges"], "with-privileges"),
        (&["--no-space-check"], "no-space-check"),
    ] {
        let mut args = vec!["restore", "latest", "--to", "oci:images"];
        args.extend(options);
        refused(
            &env,
            &args,
            &format!("--{name} has no effect without --target"),
        );
    }
}

#[test]
fn options_of_sources_are_refused_without_one() {
    let env = CliEnv::with_data();
    let config = format!(
        "sources: {{home: {{files: {{paths: [{}]}}}}}}\n\
         policies: {{daily: {{select: [{{source: home}}]}}}}\n",
        env.path("data").display()
    );
    env.write("refloat.yaml", &config);
    for (options, name) in [
        (&["--exclude", "*.md"] as &[&str], "exclude"),
        (&["--one-file-system"], "one-file-system"),
        (&["--registry-image", "a:1"], "registry-image"),
        (&["--registry-repository", "a"], "registry-repository"),
        (&["--registry-in-use-only"], "registry-in-use-only"),
        (&["--etcd-user", "root"], "etcd-user"),
        (&["--control-plane", "/x"], "control-plane"),
    ] {
        let message = format!("--{name} has no effect without --source");
        refused(&env, &[&["backup", "daily"], options].concat(), &message);
        refused(&env, &[&["backup"], options].concat(), &message);
        refused(&env, &[&["discover"], options].concat(), &message);
    }
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
}

#[test]
fn options_of_a_kind_of_source_are_refused_without_one_of_it() {
    let env = CliEnv::with_data();
    let files = format!("files:{}", env.path("data").display());
    for (source, options, name, kind) in [
        (
            "docker:",
            &["--exclude", "*.md"] as &[&str],
            "exclude",
            "files:",
        ),
        (
            "docker:",
            &["--one-file-system"],
            "one-file-system",
            "files:",
        ),
        (
            &files,
            &["--registry-image", "a:1"],
            "registry-image",
            "registry:",
        ),
        (
            &files,
            &["--registry-repository", "a"],
            "registry-repository",
            "registry:",
        ),
        (
            &files,
            &["--registry-in-use-only"],
            "registry-in-use-only",
            "registry:",
        ),
    ] {
        let message = format!("--{name} has no effect without a {kind} source");
        refused(
            &env,
            &[&["backup", "--source", source], options].concat(),
            &message,
        );
    }
}

#[test]
fn a_policy_is_no_filter_of_a_point_that_is_named() {
    let env = CliEnv::with_repository();
    refused(
        &env,
        &["export", "latest", "--policy", "nope", "--git", "out"],
        "--policy has no effect without --all",
    );
}

#[test]
fn a_password_is_refused_beside_a_token() {
    let env = CliEnv::with_repository();
    let source = ["backup", "--source", "registry:https://localhost:1"];
    let token = ["--registry-token-command", "echo token"];
    let password = ["--registry-password-file", "secret"];
    assert_eq!(env.code(&[&source[..], &token, &password].concat()), 2);
}

/// Such a point would be taken for what a run did not finish, or for another policy's.
#[test]
fn tags_of_the_engine_and_empty_names_are_refused() {
    let env = CliEnv::with_data();
    let source = format!("files:{}", env.path("data").display());
    let backup = ["backup", "--source", &source];
    for tag in [
        "refloat-partial",
        "refloat",
        "repaired",
        "incomplete",
        "policy:zz",
        "point:00",
        "",
    ] {
        let (code, shown) = env.outcome(&[&backup[..], &["--tag", tag]].concat());
        assert_eq!(code, 2, "{tag}: {shown}");
        assert!(
            shown.contains(&format!("'{tag}' for '--tag <TAG>'")),
            "{shown}"
        );
    }
    assert_eq!(env.code(&[&backup[..], &["--host", ""]].concat()), 2);
    assert_eq!(env.json(&["points"])["points"].as_array().unwrap().len(), 0);
    env.succeed(
        &[
            &backup[..],
            &["--tag", "pointless", "--tag", "before:upgrade"],
        ]
        .concat(),
    );
    let tags = &env.json(&["points"])["points"][0]["tags"];
    assert_eq!(*tags, serde_json::json!(["pointless", "before:upgrade"]));
}

#[test]
fn an_empty_pattern_does_not_leave_out_everything() {
    let env = CliEnv::with_data();
    let source = format!("files:{}", env.path("data").display());
    let backup = ["backup", "--source", &source, "--exclude"];
    let said = "the pattern \"\" is empty\nhint: leave it away; a variable that it comes from may \
                not be set";
    refused(&env, &[&backup[..], &[""]].concat(), said);
    refused(
        &env,
        &[&backup[..], &["*.md", "--exclude", ""]].concat(),
        said,
    );
    let config = format!(
        "sources: {{home: {{files: {{paths: [{}], exclude: [\"\"]}}}}}}\n\
         policies: {{daily: {{select: [{{source: home}}]}}}}\n",
        env.path("data").display()
    );
    env.write("refloat.yaml", &config);
    refused(&env, &["backup", "daily"], said);
}

/// A repository would be made in a folder that nobody looks for.
#[test]
fn a_name_of_the_configuration_is_no_address() {
    let env = CliEnv::new();
    env.write("refloat.yaml", "repositories: {off: {url: /srv/off}}\n");
    let said = "\"off\" is the name of a repository in refloat.yaml, and --repository takes an \
                address\nhint: give its url and its password, or ./off for a folder of this name";
    refused(&env, &["-r", "off", "init"], said);
    assert!(!env.path("off").exists());
    env.succeed(&["-r", "./off", "init"]);
}

#[test]
fn not_waiting_for_a_lock_has_a_unit_or_none() {
    let env = CliEnv::with_repository();
    for none in ["0", "0s", "0m"] {
        env.succeed(&["points", "--retry-lock", none]);
    }
    assert_eq!(env.code(&["points", "--retry-lock", "0x"]), 2);
}

#[test]
fn variables_and_their_meanings_stand_apart() {
    let env = CliEnv::new();
    let help = env.succeed(&["--help"]);
    for line in [
        "  AWS_CONTAINER_AUTHORIZATION_TOKEN  ",
        "  REFLOAT_OTHER_PASSWORD_COMMAND  ",
        "  HOME  ",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_a_document_too() {
    let env = CliEnv::new();
    for (args, command, message) in [
        (
            &["points", "--bogus"] as &[&str],
            "points",
            "unexpected argument '--bogus' found",
        ),
        (&["nope"], "refloat", "unrecognized subcommand 'nope'"),
        (
            &["restore"],
            "restore",
            "the following required arguments were not provided: <--target <FOLDER>|--to \
             <KIND:ADDRESS|NAME>> <POINT[:PATH]>",
        ),
        (
            &["check", "--read-data-subset", "0/5"],
            "check",
            "invalid value '0/5' for '--read-data-subset <PART>': parts are numbered from 1",
        ),
        (
            &["restore", "latest", "--target", "out", "--yes"],
            "restore",
            "--yes has no effect without --to",
        ),
    ] {
        let document = env.json(args);
        assert_eq!(document["command"], command, "{document:#}");
        assert_eq!(document["exit_code"], 2, "{document:#}");
        assert_eq!(document["error"]["kind"], "usage", "{document:#}");
        assert_eq!(document["error"]["message"], message, "{document:#}");
        assert_eq!(env.code(&[args, &["--json"]].concat()), 2);
    }
    let help = env.succeed(&["points", "--help", "--json"]);
    assert!(help.contains("Usage: refloat points"), "{help}");
    let text = env.run(&["nope"]);
    assert!(
        text.starts_with("exit code: 2\n--- stdout\n--- stderr\nerror: "),
        "{text}"
    );
    let not_asked = env.run(&["points", "a", "--", "--json"]);
    assert!(
        not_asked.starts_with("exit code: 2\n--- stdout\n--- stderr\n"),
        "{not_asked}"
    );
}
