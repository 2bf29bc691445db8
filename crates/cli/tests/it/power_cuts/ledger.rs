//! `forget POINT` with a ledger beside the repository.
//!
//! Whatever was cut, the ledger is the one of this repository, knows of nothing that is missing but what
//! was to go, and the next command settles it.

use super::*;

const REPOSITORY: &str = "estate/repo";
const LEDGER: &str = "estate/ledger";

/// A command on a repository and a ledger, wherever they are.
fn run(env: &CliEnv, (repository, ledger): (&str, &str), line: &[&str]) -> (i32, String) {
    let mut command = env.command(line);
    let _set = command
        .env("REFLOAT_REPOSITORY", repository)
        .env("REFLOAT_LEDGER", ledger);
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), env.show(&output))
}

/// Three points and the ledger that knows them.
fn estate() -> (CliEnv, String) {
    let env = CliEnv::new();
    fs::create_dir(env.path("estate")).unwrap();
    let succeed = |line: &[&str]| {
        let (code, shown) = run(&env, (REPOSITORY, LEDGER), line);
        assert_eq!(code, 0, "{line:?}: {shown}");
    };
    succeed(&["init"]);
    let source = format!("files:{}", env.path("data").display());
    for turn in 0..3 {
        change(&env, turn);
        succeed(&["backup", "--host", "testhost", "--source", &source]);
    }
    succeed(&["audit"]);
    (env, source)
}

#[test]
fn a_forget_that_is_cut_off_leaves_no_riddle_in_the_ledger() {
    if std::process::Command::new("strace")
        .arg("-V")
        .output()
        .is_err()
    {
        refloat_testkit::skip("strace is not installed: no power cuts");
        return;
    }
    let started = Instant::now();
    let (env, source) = estate();
    let place = storage(&env.path(REPOSITORY));
    let opened = open(&place, PASSWORD).unwrap().into_indexed().unwrap();
    let sound = ZeroLoss::of(&opened);
    let victim = opened.snapshots().unwrap().snapshots[0].0;
    let mut forget = env.command(&["forget", &victim.to_string(), "--yes"]);
    let _set = forget
        .env("REFLOAT_REPOSITORY", REPOSITORY)
        .env("REFLOAT_LEDGER", LEDGER);
    let (recording, output) = Recording::of(&env.path("estate"), &forget).unwrap();
    assert!(output.status.success(), "{}", env.show(&output));
    let states = recording.states(2, 15);
    let mut gone = 0;
    for state in &states {
        let what = format!(
            "forget POINT: cut after call {}, {}",
            state.after, state.last
        );
        let folder = folder();
        state.write(folder.path(), long_ago());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (repository, ledger) = (at("repo"), at("ledger"));
        let then = |line: &[&str]| {
            let (code, shown) = run(&env, (&repository, &ledger), line);
            let recorded = fs::read(folder.path().join("ledger")).unwrap();
            let recorded = String::from_utf8_lossy(&recorded);
            assert_eq!(code, 0, "{what}: {line:?}: {shown}\n{recorded}");
        };
        let place = storage(&folder.path().join("repo"));
        let opened = open(&place, PASSWORD).unwrap().into_indexed().unwrap();
        let is_gone = !ids(&opened).contains(&victim);
        gone += usize::from(is_gone);
        let _report = sound.clone().leaving([victim]).judge(&opened, &what);
        assert!(is_gone || !recording.is_end(state), "{what}: reported");
        then(&["audit"]);
        // The next command settles it.
        then(&["backup", "--host", "testhost", "--source", &source]);
        then(&["audit"]);
    }
    let count = states.len();
    assert!(gone > 0 && gone < count, "{gone} of {count}");
    tier::report(
        "C1, C3 forget POINT and ledger",
        &format!("{count} states"),
        started,
    );
}
