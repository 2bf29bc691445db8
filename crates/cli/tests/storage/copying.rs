//! From one repository to another, with another password and on another storage.

use std::fs;
use std::path::PathBuf;

use refloat_testkit::servers::RcloneServer;

use crate::cli_env::CliEnv;
use crate::cycle::Remote;

const OTHER: (&str, &str) = ("REFLOAT_OTHER_PASSWORD", "other words");

fn local() -> Remote {
    let mut remote = Remote::new("repo", &[OTHER]);
    let _made = remote.succeed(&["init"]);
    remote
        .variables
        .push(("REFLOAT_OTHER_REPOSITORY", "second".to_owned()));
    remote
}

/// The second repository, as its owner sees it.
fn second(first: &Remote) -> Vec<(&'static str, String)> {
    let mut variables = first.variables.clone();
    variables.push(("REFLOAT_REPOSITORY", "second".to_owned()));
    variables.push(("REFLOAT_PASSWORD", OTHER.1.to_owned()));
    variables.push((OTHER.0, "secret words".to_owned()));
    variables
}

fn json(remote: &Remote, args: &[&str]) -> serde_json::Value {
    let output = remote.command(args).arg("--json").output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", remote.env.show(&output)))
}

#[test]
fn points_are_copied_once_and_deduplicate() {
    let mut first = local();
    first.back_up(1);
    first.back_up(2);
    let own = std::mem::take(&mut first.variables);
    first.variables = own.clone();
    first.variables = second(&first);
    let made = first.succeed(&["init", "--copy-chunker-params", "repo"]);
    assert!(made.contains("made the repository"), "{made}");
    first.variables = own.clone();

    let planned = json(&first, &["copy", "--dry-run"]);
    assert_eq!(planned["copied"].as_array().unwrap().len(), 2);
    let newest = json(&first, &["copy", "--newest", "1"]);
    assert_eq!(newest["copied"].as_array().unwrap().len(), 1);
    assert_eq!(newest["same_chunker"], true);
    assert!(newest["bytes_written"].as_u64().unwrap() > 3_000_000);
    let rest = json(&first, &["copy"]);
    assert_eq!(rest["copied"].as_array().unwrap().len(), 1);
    assert_eq!(rest["present"], 1);
    assert!(
        rest["bytes_written"].as_u64().unwrap() < 100_000,
        "the older point's content is in the newer one: {rest}"
    );
    let nothing = json(&first, &["copy"]);
    assert_eq!(nothing["copied"].as_array().unwrap().len(), 0);
    assert_eq!(nothing["bytes_written"], 0);
    // In a timer a slip would leave the second place as it is for good.
    let (code, shown) = first.run(&["copy", "--policy", "defualt"]);
    assert_eq!(code, 1, "{shown}");
    let none = "no recovery point fits --policy, --host and --tag";
    assert!(shown.contains(none), "{shown}");

    first.variables = second(&first);
    let _sound = first.succeed(&["check", "--read-data"]);
    first.restores_equal("out");
    // And back: what came from there is known there.
    first
        .variables
        .push(("REFLOAT_OTHER_REPOSITORY", "repo".to_owned()));
    let back = json(&first, &["copy"]);
    assert_eq!(back["present"], 2, "{back}");
    let (code, shown) = first.run(&["copy", "--to", "second"]);
    assert_eq!(
        code, 12,
        "the other password does not open this one: {shown}"
    );
}

/// Both are opened at once, and each failure is told of the one that it is of.
#[test]
fn a_password_that_is_wrong_or_missing_is_told_of_its_repository() {
    let mut first = local();
    let own = first.variables.clone();
    first.variables = second(&first);
    let _made = first.succeed(&["init"]);
    let mut refused = |password: &str, other: &str, expected: (i32, &str, &str)| {
        let (code, error, hint) = expected;
        first.variables = own.clone();
        first
            .variables
            .push(("REFLOAT_PASSWORD", password.to_owned()));
        first.variables.push((OTHER.0, other.to_owned()));
        let (found, shown) = first.run(&["copy"]);
        assert_eq!(found, code, "{shown}");
        let lines = [format!("error: {error}"), format!("hint: {hint}")];
        for line in lines {
            assert!(shown.contains(&line), "{line:?} is not in {shown}");
        }
    };
    let wrong = "wrong password, or no key for it, for the repository at [TMP]/";
    let of_first = "passwords come from REFLOAT_PASSWORD,";
    let of_second = "the password of second comes from REFLOAT_OTHER_PASSWORD,";
    let place = |name: &str| format!("{wrong}{name}");
    refused("guess", OTHER.1, (12, &place("repo"), of_first));
    refused("secret words", "guess", (12, &place("second"), of_second));
    refused("guess", "guess", (12, &place("repo"), of_first));
    refused("secret words", "", (1, "no password given", of_second));
    let (code, shown) = first.run(&["copy", "--to", "nowhere"]);
    assert_eq!(code, 10, "{shown}");
}

fn packs(remote: &Remote, repository: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(remote.env.path(&format!("{repository}/data"))).unwrap();
    let folders = folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let files = folders.flatten().map(|file| file.unwrap().path());
    files.collect()
}

/// What is counted as there is whole there, and the rest is told apart.
#[test]
fn what_lacks_something_there_does_not_count_as_present() {
    let mut first = local();
    first.back_up(1);
    let own = first.variables.clone();
    first.variables = second(&first);
    let _made = first.succeed(&["init"]);
    first.variables = own;
    let _copied = first.succeed(&["copy"]);
    let counts = |args: &[&str]| {
        let report = json(&first, args);
        let count = |name: &str| report[name].as_u64().unwrap();
        let findings = report["findings"].as_array().unwrap();
        let errors = findings.iter().filter(|one| one["severity"] == "error");
        let counts = ["present", "completed", "unknown"].map(count);
        (counts, errors.count())
    };
    assert_eq!(counts(&["copy"]), ([1, 0, 0], 0));
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let largest = packs(&first, "second").into_iter().max_by_key(size);
    let largest = largest.unwrap();
    let bytes = fs::read(&largest).unwrap();
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(counts(&["copy", "--dry-run"]), ([0, 1, 0], 0));
    assert_eq!(counts(&["copy"]), ([0, 1, 0], 0));
    assert_eq!(counts(&["copy"]), ([1, 0, 0], 0));
    for pack in packs(&first, "repo") {
        fs::remove_file(pack).unwrap();
    }
    assert_eq!(counts(&["copy", "--dry-run"]), ([0, 0, 1], 1));
    let (code, shown) = first.run(&["copy"]);
    assert_eq!(code, 3, "{shown}");
    assert!(
        shown.contains("1 point there may lack something"),
        "{shown}"
    );
}

/// Two policies: one whose copy is far away, one that also names a repository that is not there.
fn configure(env: &CliEnv, far: &str) {
    env.write(
        "refloat.yaml",
        &format!(
            "repository: {{url: repo, password: {{file: key}}}}\n\
             repositories:\n  \
             offsite:\n    url: {far}\n    password: {{file: offsite-key}}\n    \
             options: {{user: {}, password: {{file: storage-key}}, connections: 4}}\n  \
             absent: {{url: ./absent, password: {{file: key}}}}\n\
             sources: {{srv: {{files: {{paths: [{}]}}}}}}\n\
             policies:\n  \
             nightly: {{select: [{{source: srv}}], copy-to: [offsite]}}\n  \
             broken: {{select: [{{source: srv}}], copy-to: [absent, offsite]}}\n",
            RcloneServer::LOGIN.0,
            env.path("data").display()
        ),
    );
}

#[test]
fn a_policy_brings_its_copies_up_to_date() {
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let env = CliEnv::with_data();
    env.write("key", "secret words\n");
    env.write("offsite-key", "offsite words\n");
    env.write("storage-key", &format!("{}\n", RcloneServer::LOGIN.1));
    let far = format!("rest:http://127.0.0.1:{}/r/", server.port);
    configure(&env, &far);
    let run = |args: &[&str]| {
        let mut command = env.command(args);
        command
            .env_remove("REFLOAT_REPOSITORY")
            .env_remove("REFLOAT_PASSWORD");
        command.output().unwrap()
    };
    let at_far = |args: &[&str]| {
        let mut command = env.command(args);
        command
            .env("REFLOAT_REPOSITORY", &far)
            .env("REFLOAT_PASSWORD", "offsite words")
            .env("REFLOAT_STORAGE_USER", RcloneServer::LOGIN.0)
            .env("REFLOAT_STORAGE_PASSWORD", RcloneServer::LOGIN.1)
            .env("REFLOAT_CONFIG", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", env.show(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let early = run(&["backup", "nightly"]);
    assert_eq!(early.status.code(), Some(3), "{}", env.show(&early));
    assert!(
        env.show(&early)
            .contains("copy of policy nightly to offsite: failed")
    );
    let _made = at_far(&["init"]);
    // The command gives its password once, as a descriptor does.
    env.write("once", "secret words\n");
    let done = run(&[
        "backup",
        "nightly",
        "--password-command",
        "cat once && rm once",
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", env.show(&done));
    let listed = at_far(&["points"]);
    assert_eq!(
        listed.matches("nightly").count(),
        2,
        "the missed one too: {listed}"
    );
    let _sound = at_far(&["check", "--read-data"]);
    let broken = run(&["backup", "broken", "--json"]);
    assert_eq!(broken.status.code(), Some(3));
    let document: serde_json::Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!(document["points"].as_array().unwrap().len(), 1);
    assert_eq!(document["copies"][0]["to"], "offsite");
    assert_eq!(document["copies_failed"][0]["to"], "absent");
    assert_eq!(
        document["copies_failed"][0]["error"]["kind"],
        "no-repository"
    );
}
