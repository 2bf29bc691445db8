//! Hooks, pauses and stops, and that they are undone.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use refloat_docker::Options;
use refloat_docker::definition::{ContainerDefinition, from_bytes};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_model::item::{Inventory, Workload};
use refloat_model::outcome::Consistency;
use refloat_source::Source;
use refloat_testkit::docker::Engine;

use crate::estate::{IMAGE, connect, discover, engine, item, rule, try_capture};
use crate::tree::Tree;

fn run(engine: &Engine, name: &str, labels: &[&str]) {
    let volume = format!("{name}:/data");
    let mut words = vec!["run", "-d", "--name", name, "-v", &volume];
    for label in labels {
        words.extend(["--label", label]);
    }
    words.extend([IMAGE, "sleep", "1000"]);
    engine.docker(words);
}

fn state(engine: &Engine, name: &str) -> String {
    engine.docker(["inspect", "-f", "{{.State.Status}}", name])
}

fn workload<'a>(inventory: &'a Inventory, name: &str) -> &'a Workload {
    inventory.workloads.iter().find(|w| w.name == name).unwrap()
}

#[test]
fn containers_are_held_while_they_are_captured_and_let_go_always() {
    let Some(engine) = engine() else { return };
    run(&engine, "paused", &["refloat.pause=true"]);
    run(&engine, "stopped", &["refloat.stop=true"]);
    run(
        &engine,
        "hooked",
        &[
            "refloat.before=echo before >> /data/log",
            r#"refloat.after=["sh", "-c", "echo after >> /data/log"]"#,
        ],
    );
    run(&engine, "off", &["refloat.stop=true"]);
    engine.docker(["stop", "-t", "0", "off"]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let cancel = Cancel::default();
    for (name, held_state, consistency) in [
        ("paused", "paused", Consistency::Quiesced),
        ("stopped", "exited", Consistency::Quiesced),
        ("hooked", "running", Consistency::Quiesced),
        ("off", "exited", Consistency::Application),
    ] {
        let before = state(&engine, name);
        let held = source.quiesce(workload(&inventory, name), &cancel).unwrap();
        assert_eq!(state(&engine, name), held_state, "{name}");
        let path = format!("/docker/web/volumes/{name}");
        let mut tree = Tree::default();
        let made = try_capture(&source, &inventory, &path, &mut tree).unwrap();
        assert_eq!(made.consistency, consistency, "{name}");
        if name == "hooked" {
            assert_eq!(tree.text("hooked/data/log"), "before\n");
        }
        assert_eq!(held.resume(), [], "{name}");
        assert_eq!(state(&engine, name), before, "{name}");
    }
    assert_eq!(
        engine.docker(["exec", "hooked", "cat", "/data/log"]),
        "before\nafter"
    );

    // Dropping undoes as well.
    drop(
        source
            .quiesce(workload(&inventory, "paused"), &cancel)
            .unwrap(),
    );
    assert_eq!(state(&engine, "paused"), "running");
}

#[test]
fn two_runs_that_hold_the_same_container_leave_it_to_the_first() {
    let Some(engine) = engine() else { return };
    run(&engine, "paused", &["refloat.pause=true"]);
    run(&engine, "stopped", &["refloat.stop=true"]);
    let cancel = Cancel::default();
    let (first, second) = (
        connect(&engine, Options::default()),
        connect(&engine, Options::default()),
    );
    let inventories = [discover(&first), discover(&second)];
    for (name, held_state, after) in [
        ("paused", "paused", Consistency::Quiesced),
        ("stopped", "exited", Consistency::Application),
    ] {
        let hold = |source: &refloat_docker::DockerSource, inventory| {
            source.quiesce(workload(inventory, name), &cancel).unwrap()
        };
        let held = hold(&first, &inventories[0]);
        let late = hold(&second, &inventories[1]);
        let path = format!("/docker/web/volumes/{name}");
        let mut tree = Tree::default();
        let made = try_capture(&second, &inventories[1], &path, &mut tree).unwrap();
        assert_eq!(made.consistency, after, "what it is, {name}");
        let findings = late.resume();
        assert_eq!(state(&engine, name), held_state, "{name}");
        let told = usize::from(name == "paused");
        assert_eq!(findings.len(), told, "{findings:?}");
        assert_eq!(held.resume(), [], "{name}");
        assert_eq!(state(&engine, name), "running", "{name}");
    }
}

#[test]
fn a_hold_that_another_ends_during_the_copy_counts_as_none() {
    let Some(engine) = engine() else { return };
    run(&engine, "paused", &["refloat.pause=true"]);
    run(&engine, "stopped", &["refloat.stop=true"]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let cancel = Cancel::default();
    for (name, end) in [("paused", "unpause"), ("stopped", "start")] {
        let held = source.quiesce(workload(&inventory, name), &cancel).unwrap();
        let mut sink = Meanwhile {
            tree: Tree::default(),
            act: Some(|| drop(engine.docker([end, name]))),
        };
        let volume = item(&inventory, &format!("/docker/web/volumes/{name}"));
        let made = source.capture(volume, &mut sink, &cancel).unwrap();
        assert_eq!(made.consistency, Consistency::Crash, "{name}");
        assert_eq!(held.resume(), [], "{name}");
        assert_eq!(state(&engine, name), "running", "{name}");
    }
}

#[test]
fn what_is_stopped_since_the_look_is_stopped_for_a_while() {
    let Some(engine) = engine() else { return };
    run(&engine, "box", &["refloat.stop=true"]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    engine.docker(["stop", "-t", "0", "box"]);
    let held = source
        .quiesce(workload(&inventory, "box"), &Cancel::default())
        .unwrap();
    let path = "/docker/web/containers/box.json";
    let mut tree = Tree::default();
    let made = try_capture(&source, &inventory, path, &mut tree).unwrap();
    let definition: ContainerDefinition = from_bytes(&tree.node("box.json").content).unwrap();
    assert!(definition.started, "another backup starts it again");
    let told: Vec<&str> = made.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "it was stopped during the backup, by a person or by another backup: a restore starts \
          it all the same"
        ]
    );
    assert_eq!(held.resume(), []);
    assert_eq!(state(&engine, "box"), "exited");
}

#[test]
fn a_failed_command_undoes_what_was_done_and_tells_no_secret() {
    let Some(engine) = engine() else { return };
    let member = "com.docker.compose.project=pair";
    let run = |name: &str, label: &str| {
        engine.docker([
            "run",
            "-d",
            "--name",
            name,
            "--label",
            member,
            "--label",
            label,
            "--label",
            "refloat.after=touch /after",
            "--env",
            "PASSWORD=hunter2",
            IMAGE,
            "sleep",
            "1000",
        ]);
    };
    run("aa", "refloat.before=touch /before");
    run(
        "bb",
        "refloat.before=echo cannot freeze: $PASSWORD >&2; exit 7",
    );
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let result = source.quiesce(workload(&inventory, "pair"), &Cancel::default());
    let error = result.err().expect("the command in bb fails");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    assert!(text.contains("exit status 7: cannot freeze: ***"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    for name in ["aa", "bb"] {
        engine.docker(["exec", name, "test", "-e", "/after"]);
        assert_eq!(state(&engine, name), "running");
    }
}

/// Passes everything on, and does something when the first entry comes.
struct Meanwhile<F: FnOnce()> {
    tree: Tree,
    act: Option<F>,
}

impl<F: FnOnce()> TreeSink for Meanwhile<F> {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        if let Some(act) = self.act.take() {
            act();
        }
        self.tree.enter(directory)
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.tree.leave()
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        self.tree.file(file, content)
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        self.tree.stream(file, content)
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        TreeSink::node(&mut self.tree, entry)
    }

    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError> {
        self.tree.reuse(name)
    }

    fn reuse_content(&mut self, file: &Entry, sha256: &[u8; 32]) -> Result<bool, SinkError> {
        self.tree.reuse_content(file, sha256)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        sha256: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.tree.stream_by_digest(file, sha256, content)
    }

    fn fail(&mut self, name: &[u8], reason: String) {
        self.tree.fail(name, reason);
    }
}

#[test]
fn whoever_stops_starts_or_appears_during_a_copy_wrote_to_it() {
    let Some(engine) = engine() else { return };
    engine.docker(["volume", "create", "data"]);
    let mount = ["-v", "data:/data", IMAGE, "sleep", "1000"];
    engine.docker([&["run", "-d", "--name=up"][..], &mount].concat());
    engine.docker([&["create", "--name=down"][..], &mount].concat());
    let source = connect(&engine, Options::default());
    let copy_while = |act: &dyn Fn()| {
        let inventory = discover(&source);
        let mut sink = Meanwhile {
            tree: Tree::default(),
            act: Some(act),
        };
        let volume = item(&inventory, "/docker/web/volumes/data");
        let made = source.capture(volume, &mut sink, &Cancel::default());
        made.unwrap().consistency
    };
    assert_eq!(copy_while(&|| {}), Consistency::Crash, "it runs");
    let stop = || drop(engine.docker(["stop", "-t", "0", "up"]));
    assert_eq!(
        copy_while(&stop),
        Consistency::Crash,
        "it stopped meanwhile"
    );
    assert_eq!(copy_while(&|| {}), Consistency::Application, "nobody runs");
    let blip = || {
        engine.docker(["start", "down"]);
        engine.docker(["stop", "-t", "0", "down"]);
    };
    assert_eq!(copy_while(&blip), Consistency::Crash, "it ran in between");
    let appear = || drop(engine.docker([&["run", "-d", "--name=new"][..], &mount].concat()));
    assert_eq!(copy_while(&appear), Consistency::Crash, "a new one came");
    engine.docker(["rm", "-f", "up", "new"]);
    let vanish = || drop(engine.docker(["rm", "-f", "down"]));
    assert_eq!(
        copy_while(&vanish),
        Consistency::Crash,
        "nobody can be asked any more"
    );
}

/// Stand-ins for the real programs: the recipe finds them by name.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "Dockerfile",
        "FROM demo/box:1\nCOPY programs /bin/\nCMD [\"postgres\"]\n",
    ),
    ("postgres", "#!/bin/sh\nexec sleep 1000\n"),
    (
        "psql",
        "#!/bin/sh\necho database 73686f70\necho database 637574\necho database 626164\necho end\n",
    ),
    (
        "pg_dumpall",
        "#!/bin/sh\nprintf -- '--\\n-- PostgreSQL database cluster dump complete\\n--\\n\\n'\n",
    ),
    (
        "pg_dump",
        "#!/bin/sh\necho 'CREATE TABLE t ();'\ncase \"$*\" in *cut*) exit 0;; esac\n\
         printf -- '--\\n-- PostgreSQL database dump complete\\n--\\n\\n'\n\
         case \"$*\" in *bad*) echo \"password hunter2 refused\" >&2; exit 3;; esac\n",
    ),
];

fn postgres_stand_in(engine: &Engine) {
    let context = engine.folder().join("postgres");
    std::fs::create_dir_all(context.join("programs")).unwrap();
    for (name, text) in PROGRAMS {
        let folder = if *name == "Dockerfile" {
            context.clone()
        } else {
            context.join("programs")
        };
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    engine.docker([
        "build",
        "-q",
        "-t",
        "postgres:15",
        &context.display().to_string(),
    ]);
}

#[test]
fn dumps_count_only_with_status_and_end_marker() {
    let Some(engine) = engine() else { return };
    postgres_stand_in(&engine);
    engine.docker([
        "run",
        "-d",
        "--name",
        "db",
        "--env",
        "POSTGRES_PASSWORD=hunter2",
        "postgres:15",
    ]);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let path = "/docker/web/dumps/db";
    assert_eq!(rule(item(&inventory, path)), "");
    let mut tree = Tree::default();
    let made = try_capture(&source, &inventory, path, &mut tree).unwrap();
    assert_eq!(made.consistency, Consistency::Application);
    let mut failures = tree.failures.clone();
    failures.sort();
    let [(bad, bad_why), (cut, cut_why)] = failures.as_slice() else {
        panic!("{failures:?} {:?}", tree.paths())
    };
    assert_eq!(
        (bad.as_str(), cut.as_str()),
        ("db/bad.database.sql", "db/cut.database.sql")
    );
    assert_eq!(
        bad_why,
        "the dump command ended with exit status 3; it said: password *** refused"
    );
    assert!(cut_why.starts_with("the dump has no end"), "{cut_why}");
    assert_eq!(
        tree.paths(),
        ["db", "db/globals.sql", "db/shop.database.sql"]
    );
    assert!(
        tree.text("db/shop.database.sql")
            .starts_with("CREATE TABLE t ();\n")
    );

    // Held, or told not to: the volume alone is captured.
    for (name, label, why) in [
        ("held", "refloat.stop=true", "held"),
        ("none", "refloat.dump=none", "no-dump"),
    ] {
        engine.docker(["run", "-d", "--name", name, "--label", label, "postgres:15"]);
        let inventory = discover(&source);
        assert_eq!(
            rule(item(&inventory, &format!("/docker/web/dumps/{name}"))),
            why
        );
    }
}
