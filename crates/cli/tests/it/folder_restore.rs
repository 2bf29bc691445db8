//! `refloat restore --target`: what is listed, left out and refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::cli_env::CliEnv;

fn stored(env: &CliEnv) -> String {
    format!("latest:/files/local{}", env.path("data").display())
}

#[test]
fn a_dry_run_lists_what_would_change_and_changes_nothing() {
    let env = CliEnv::with_data();
    env.write("data/blocked", "a file");
    env.back_up();
    let stored = stored(&env);
    env.succeed(&["restore", &stored, "--target", "out"]);
    fs::remove_file(env.path("out/readme.txt")).unwrap();
    env.write("out/sub/numbers", "others");
    fs::remove_file(env.path("out/blocked")).unwrap();
    env.write("out/blocked/file", "in the way");
    env.write("out/stranger", "mine");
    let before = crate::cli_env::tree(&env.path("out"));
    let dry = [
        "restore",
        &stored,
        "--target",
        "out",
        "--into-existing",
        "--dry-run",
    ];
    let plan = env.json(&dry);
    let listed: Vec<String> = plan["changes"]["listed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                c["change"].as_str().unwrap(),
                c["path"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            "blocked blocked",
            "create readme.txt",
            "replace sub/numbers"
        ]
    );
    assert_eq!(plan["exit_code"], 3, "what is blocked will fail");
    assert_eq!(plan["changes"]["unchanged"], 2);
    assert_eq!(plan["changes"]["bytes_needed"], 10_006);
    assert_eq!(crate::cli_env::tree(&env.path("out")), before);
    let done = env.json(&dry[..5]);
    assert_eq!(
        (&done["failure_count"], &done["exit_code"]),
        (&1.into(), &3.into()),
        "{done:#}"
    );
    assert_eq!(
        fs::read_to_string(env.path("out/stranger")).unwrap(),
        "mine"
    );
}

#[test]
fn set_id_bits_are_left_out_and_named_unless_asked_for() {
    let env = CliEnv::with_data();
    env.write("data/program", "#!/bin/sh\n");
    let program = env.path("data/program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    env.back_up();
    let stored = stored(&env);
    let plain = env.run(&["restore", &stored, "--target", "plain"]);
    assert!(plain.starts_with("exit code: 3"), "{plain}");
    assert!(
        plain.contains("program: set-id bits: left out") && plain.contains("--with-privileges"),
        "{plain}"
    );
    let mode = |path: &str| fs::metadata(env.path(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("plain/program"), 0o755);
    env.succeed(&["restore", &stored, "--target", "whole", "--with-privileges"]);
    assert_eq!(mode("whole/program"), 0o4755);
}

/// A small file system of its own; unmounted at the end.
struct Room(std::path::PathBuf);

impl Room {
    /// Four MiB at `room`. None, after saying so, for a user who may not mount.
    fn of(env: &CliEnv) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            refloat_testkit::skip("mounting a small file system needs root");
            return None;
        }
        fs::create_dir(env.path("room")).unwrap();
        let room = Self(env.path("room"));
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&room.0)
            .status()
            .unwrap();
        assert!(mounted.success());
        Some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ended = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let env = CliEnv::with_data();
    env.write("data/big", &"0123456789abcdef".repeat(512 * 1024));
    env.back_up();
    let Some(_room) = Room::of(&env) else {
        return;
    };
    let into = ["restore", &stored(&env), "--target", "room/out"];
    let refused = env.run(&into);
    assert!(refused.starts_with("exit code: 1"), "{refused}");
    assert!(
        refused.contains("are needed") && refused.contains("--no-space-check"),
        "{refused}"
    );
    assert!(!env.path("room/out").exists());
    assert_eq!(env.code(&[&into[..], &["--dry-run"]].concat()), 3);
    let full = env.run(&[&into[..], &["--no-space-check"]].concat());
    assert!(
        full.starts_with("exit code: 1") && full.contains("no space left"),
        "{full}"
    );
}

/// The mode and the time of change of a folder, and whether a mark is in it.
fn itself(env: &CliEnv, path: &str) -> (u32, i64, bool) {
    let metadata = fs::metadata(env.path(path)).unwrap();
    let mark = env.path(path).join(".refloat-restoring");
    (metadata.mode() & 0o7777, metadata.mtime(), mark.exists())
}

/// Makes `data` a folder of its own kind, and a point of it.
fn with_own_folder() -> CliEnv {
    let env = CliEnv::with_data();
    env.write("data/big", &"0123456789abcdef".repeat(512 * 1024));
    let data = fs::File::open(env.path("data")).unwrap();
    data.set_permissions(fs::Permissions::from_mode(0o751))
        .unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    data.set_modified(time).unwrap();
    env.back_up();
    env
}

#[test]
fn a_folder_with_nothing_of_its_own_becomes_as_stored_and_others_are_said_to_stay() {
    let env = with_own_folder();
    let stored = stored(&env);
    fs::create_dir(env.path("empty")).unwrap();
    for target in ["new", "empty"] {
        let done = env.succeed(&["restore", &stored, "--target", target]);
        assert_eq!(itself(&env, target), (0o751, 1_000_000_000, false));
        assert!(!done.contains("keeps its own"), "{done}");
    }
    env.write("own/stranger", "mine");
    let own = fs::Permissions::from_mode(0o710);
    fs::set_permissions(env.path("own"), own).unwrap();
    let into = ["restore", &stored, "--target", "own", "--into-existing"];
    let done = env.succeed(&into);
    assert_eq!(itself(&env, "own").0, 0o710);
    assert!(
        done.contains("the folder itself was there and keeps its own owner, mode and times\n"),
        "{done}"
    );
    assert_eq!(env.json(&into)["folder_kept"], true);
    // Neither a single file nor a point as a whole has anything for it.
    for stored in [format!("{stored}/readme.txt").as_str(), "latest"] {
        let into = ["restore", stored, "--target", "own", "--into-existing"];
        assert_eq!(env.json(&into)["folder_kept"], false);
    }
}

#[test]
fn a_folder_whose_restore_was_interrupted_becomes_as_stored_when_it_is_repeated() {
    let env = with_own_folder();
    let Some(_room) = Room::of(&env) else {
        return;
    };
    let stored = stored(&env);
    let into = ["restore", &stored, "--target", "room/out"];
    let full = env.run(&[&into[..], &["--no-space-check"]].concat());
    assert!(full.contains("no space left"), "{full}");
    assert!(itself(&env, "room/out").2, "what is not complete is marked");
    let larger = std::process::Command::new("mount")
        .args(["-o", "remount,size=16m"])
        .arg(env.path("room"))
        .status();
    assert!(larger.unwrap().success());
    let done = env.json(&[&into[..], &["--into-existing"]].concat());
    assert_eq!(
        (&done["exit_code"], &done["folder_kept"]),
        (&0.into(), &false.into())
    );
    assert_eq!(itself(&env, "room/out"), (0o751, 1_000_000_000, false));
    // From now on it has something of its own.
    let own = fs::Permissions::from_mode(0o710);
    fs::set_permissions(env.path("room/out"), own).unwrap();
    let done = env.json(&[&into[..], &["--into-existing"]].concat());
    assert_eq!(done["folder_kept"], true);
    assert_eq!(itself(&env, "room/out").0, 0o710);
}

#[test]
fn a_full_repository_is_told_as_such_whoever_meets_it_first() {
    let env = CliEnv::new();
    let Some(_room) = Room::of(&env) else {
        return;
    };
    env.succeed(&["-r", "room/repo", "init"]);
    let mut seed: u64 = 1;
    let mut args = vec!["-r".to_owned(), "room/repo".to_owned(), "backup".to_owned()];
    for name in ["a", "b", "c", "d"] {
        let noise: String = (0..4_000_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b' ' + u8::try_from((seed >> 57) % 94).unwrap())
            })
            .collect();
        env.write(&format!("{name}/big"), &noise);
        let source = format!("{name}=files:{}", env.path(name).display());
        args.extend(["--source".to_owned(), source]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for _ in 0..5 {
        let full = env.run(&args);
        assert!(full.starts_with("exit code: 1"), "{full}");
        let hint = "make space there and run it again; packs that no index lists yet are not used \
                    then, and go with a `refloat prune` a day later";
        assert!(full.contains(hint), "{full}");
    }
}

#[test]
fn a_file_with_several_names_needs_its_space_once() {
    let env = CliEnv::with_data();
    env.write("data/big", &"0123456789abcdef".repeat(128 * 1024));
    for name in [
        "data/big2",
        "data/sub/big3",
        "data/copy1/big",
        "data/copy2/big",
    ] {
        let name = env.path(name);
        fs::create_dir_all(name.parent().unwrap()).unwrap();
        fs::hard_link(env.path("data/big"), name).unwrap();
    }
    env.back_up();
    let Some(_room) = Room::of(&env) else {
        return;
    };
    let stored = stored(&env);
    env.succeed(&["restore", &stored, "--target", "room/out"]);
    // And where only some of its names are there.
    fs::remove_file(env.path("room/out/sub/big3")).unwrap();
    fs::remove_file(env.path("room/out/big2")).unwrap();
    let into = [
        "restore",
        &stored,
        "--target",
        "room/out",
        "--into-existing",
    ];
    let plan = env.json(&[&into[..], &["--dry-run"]].concat());
    assert_eq!(plan["changes"]["bytes_needed"], 0, "{plan:#}");
    env.succeed(&into);
    assert_eq!(fs::metadata(env.path("room/out/big")).unwrap().nlink(), 5);
}

/// A command as uid 1000, who owns all that is there; none if that cannot be.
fn as_user(env: &CliEnv, args: &[&str]) -> Option<(i32, String)> {
    if !rustix::process::geteuid().is_root() {
        return Some(env.outcome(args));
    }
    let program = env.path("program");
    if !program.exists() {
        fs::copy(env.command(&[]).get_program(), &program).unwrap();
    }
    let all = env.path("");
    let owned = std::process::Command::new("chown")
        .args(["-R", "1000:1000"])
        .arg(&all)
        .status();
    assert!(owned.unwrap().success());
    let given = env.command(args);
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(&program)
        .args(args)
        .current_dir(&all)
        .env_clear();
    for (name, value) in given.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    match command.output() {
        Ok(output) => Some((output.status.code().unwrap_or(-1), env.show(&output))),
        Err(error) => {
            refloat_testkit::skip(&format!("setpriv cannot be run: {error}"));
            None
        }
    }
}

#[test]
fn a_user_repeats_a_restore_of_a_directory_that_may_not_be_entered() {
    let env = CliEnv::with_data();
    let Some((0, _)) = as_user(&env, &["points"]) else {
        return;
    };
    let source = format!("files:{}", env.path("data").display());
    let backed_up = as_user(&env, &["backup", "--host", "testhost", "--source", &source]);
    assert!(matches!(backed_up, Some((0, _))), "{backed_up:?}");
    let stored = stored(&env);
    let into = ["restore", &stored, "--target", "out", "--into-existing"];
    let done = as_user(&env, &into);
    assert!(matches!(done, Some((0, _))), "{done:?}");
    // As a point has it that was made by root.
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(env.path("out/sub"), closed).unwrap();
    let plan = as_user(&env, &[&into[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(plan.0, 0, "{}", plan.1);
    assert!(
        plan.1
            .contains("1 of them may be there: their directories may not be looked into\n"),
        "{}",
        plan.1
    );
    let again = as_user(&env, &into);
    assert!(matches!(again, Some((0, _))), "{again:?}");
    assert!(env.path("out/sub/numbers").exists());
}

#[test]
fn a_user_restores_a_folder_that_may_not_be_written_also_after_an_interruption() {
    let env = CliEnv::with_data();
    let Some((0, _)) = as_user(&env, &["points"]) else {
        return;
    };
    let closed = fs::Permissions::from_mode(0o555);
    fs::set_permissions(env.path("data"), closed).unwrap();
    let source = format!("files:{}", env.path("data").display());
    let backed_up = as_user(&env, &["backup", "--host", "testhost", "--source", &source]);
    assert!(matches!(backed_up, Some((0, _))), "{backed_up:?}");
    let stored = stored(&env);
    let into = ["restore", &stored, "--target", "out", "--into-existing"];
    for interrupted in [false, true] {
        if interrupted {
            fs::write(env.path("out/.refloat-restoring"), "").unwrap();
        }
        let done = as_user(&env, &into);
        assert!(matches!(done, Some((0, _))), "{done:?}");
        let folder = fs::metadata(env.path("out")).unwrap();
        assert_eq!(folder.mode() & 0o7777, 0o555);
        assert!(!env.path("out/.refloat-restoring").exists());
        assert!(env.path("out/sub/numbers").exists());
    }
    for folder in ["out", "data"] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(env.path(folder), open).unwrap();
    }
}

/// Its backup said so; whoever restores it months later was not there.
#[test]
fn what_a_point_lacks_is_told_by_restores_of_it_and_of_nothing_else() {
    let env = CliEnv::with_repository();
    for folder in ["a", "b"] {
        env.write(&format!("{folder}/file"), folder);
    }
    let [a, b] = ["a", "b"].map(|folder| format!("files:{}", env.path(folder).display()));
    let backup = ["backup", "--host", "h", "--source", &a, "--source", &b];
    env.succeed(&backup);
    env.succeed(&["restore", "latest", "--target", "whole"]);
    fs::rename(env.path("b"), env.path("elsewhere")).unwrap();
    assert_eq!(env.code(&backup), 3);
    let points = env.succeed(&["points"]);
    let marked: Vec<bool> = points
        .lines()
        .skip(1)
        .map(|line| line.ends_with(" #incomplete"))
        .collect();
    assert_eq!(marked, [false, true], "{points}");

    let dry = env.json(&["restore", "latest", "--target", "out", "--dry-run"]);
    assert_eq!(dry["exit_code"], 3);
    let (code, shown) = env.outcome(&["restore", "latest", "--target", "out"]);
    assert_eq!(code, 3, "{shown}");
    assert!(shown.contains("INCOMPLETE in"), "{shown}");
    assert!(
        shown.contains(
            " 0 failed\n  the point itself is not whole, or not the one that is meant: see above\n"
        ),
        "{shown}"
    );
    let named = "error: folder [TMP]/b: is not in this point: cannot open [TMP]/b: No such file";
    assert!(shown.contains(named), "{shown}");
    let done = env.json(&["restore", "latest", "--target", "again"]);
    assert_eq!(
        (&done["complete"], &done["failure_count"]),
        (&false.into(), &0.into())
    );
    assert_eq!(done["lacks"].as_array().unwrap().len(), 2, "{done:#}");

    let place = format!("latest:/files/local{}", env.path("a").display());
    let whole = env.json(&["restore", &place, "--target", "part"]);
    assert_eq!(
        (&whole["complete"], &whole["lacks"]),
        (&true.into(), &serde_json::json!([]))
    );
}
