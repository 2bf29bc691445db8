//! Redis of Debian. Valkey is not in Debian; its client has the same options.

use std::path::Path;

use refloat_database::{
    DumpRejected, Exec, HEAD_BYTES, PlacedContent, StepRejected, SurveyRejected,
};

use crate::playground::{Server, free_port, installed, words};

const PASSWORD: &str = "s3cret'$x";

fn server(options: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let (port, path) = (
        free_port().to_string(),
        folder.path().to_str().unwrap().to_owned(),
    );
    let mut argv = words(&["redis-server", "--port", &port, "--bind", "127.0.0.1"]);
    argv.extend(words(&["--dir", &path, "--requirepass", PASSWORD]));
    argv.extend(words(options));
    Server::new(folder, "redis:7", Vec::new(), &argv)
}

fn cli(server: &Server, arguments: &[&str]) -> String {
    let mut exec: Exec = server.recipe.survey();
    assert_eq!(exec.argv.pop().as_deref(), Some("INFO"));
    exec.argv.extend(words(arguments));
    let finished = server.run(&exec, b"");
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    String::from_utf8(finished.stdout).unwrap()
}

fn fill(server: &Server) {
    let script = "for i = 1, 20000 do redis.call('SET', 'key' .. i, 'value ' .. redis.sha1hex(tostring(i))) end
        redis.call('RPUSH', 'list', 'a', 'b'); redis.call('HSET', 'hash', 'f', '\\0\\n')
        redis.call('SELECT', 3); redis.call('SET', 'elsewhere', '1')";
    cli(server, &["EVAL", script, "0"]);
}

fn content(server: &Server) -> [String; 3] {
    let digest = cli(server, &["DEBUG", "DIGEST"]);
    [
        digest,
        cli(server, &["DBSIZE"]),
        cli(server, &["INFO", "keyspace"]),
    ]
}

/// Does what an adapter does to a stopped server's volume.
fn place(server: &Server, file_name: &str, dump: &[u8]) {
    let restore = server.recipe.restore(&[file_name]).unwrap().remove(0);
    for path in restore
        .removals
        .iter()
        .filter(|path| Path::new(path).exists())
    {
        std::fs::remove_dir_all(path).unwrap();
    }
    for placed in &restore.placed_files {
        let path = Path::new(&placed.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = match &placed.content {
            PlacedContent::Dump => dump,
            PlacedContent::Text(text) => text.as_bytes(),
        };
        std::fs::write(path, bytes).unwrap();
    }
}

fn check_placed(server: &Server, file_name: &str, dump: &[u8]) -> Result<(), StepRejected> {
    let head = &dump[..dump.len().min(HEAD_BYTES)];
    let check = server.recipe.check_placed(file_name, head).unwrap();
    server.restore_step(&check, b"")
}

fn restores_into_another_server(options: &[&str], file_name: &str) {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let fixed = [
        "--enable-debug-command",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
    ];
    let options = [options, &fixed].concat();
    let (mut old, mut new) = (server(&options), server(&options));
    old.start(None);
    fill(&old);
    let dumps = old.dump_all();
    assert_eq!(
        dumps.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        [file_name]
    );
    // The target has run before and has other data in the same place.
    new.start(None);
    cli(&new, &["SET", "stranger", "1"]);
    new.stop();
    place(&new, file_name, &dumps[0].1);
    new.start(None);
    assert_eq!(check_placed(&new, file_name, &dumps[0].1), Ok(()));
    assert_eq!(new.restore_step(&new.recipe.verify(), b""), Ok(()));
    assert_eq!(content(&new), content(&old));
    // And it is the server's own now.
    new.stop();
    new.start(None);
    assert_eq!(content(&new), content(&old));
}

#[test]
fn a_snapshot_is_loaded_by_another_server() {
    restores_into_another_server(&["--save", "3600 1"], "dump.rdb");
}

#[test]
fn a_snapshot_sent_from_disk_has_no_mark_and_is_loaded_too() {
    restores_into_another_server(
        &["--save", "3600 1", "--repl-diskless-sync", "no"],
        "dump.rdb",
    );
}

#[test]
fn a_server_with_an_append_only_file_loads_the_dump_as_its_base() {
    restores_into_another_server(&["--appendonly", "yes"], "appendonly.rdb");
}

#[test]
fn killed_dumps_wrong_passwords_and_dead_servers_are_rejected() {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let mut server = server(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    server.start(None);
    fill(&server);
    let finished = server.run(&server.recipe.survey(), b"");
    let survey = server
        .recipe
        .parse_survey(finished.code, &finished.stdout)
        .unwrap();
    let mut dump = server.recipe.dumps(&survey).remove(0);
    let expected = [
        Err(DumpRejected::ExitStatus { code: 137 }),
        Err(DumpRejected::NoEndMarker {
            expected: "the end-of-file code with its checksum",
        }),
    ];
    for bytes in (1..=50).map(|n| n * n * 120) {
        assert_eq!(
            server.kill_dump_after(&dump, bytes),
            expected,
            "after {bytes}"
        );
    }
    assert!(!format!("{dump:?}").contains(PASSWORD));
    let password = std::mem::take(&mut dump.exec.environment);
    let mut survey = server.recipe.survey();
    survey.environment.clear();
    let finished = server.run(&survey, b"");
    assert_eq!(finished.code, Some(0), "the trap");
    assert_eq!(
        server.recipe.parse_survey(finished.code, &finished.stdout),
        Err(SurveyRejected::NotUnderstood {
            line: "NOAUTH Authentication required.".into()
        })
    );
    let rejected = Err(DumpRejected::ExitStatus { code: 1 });
    assert_eq!(server.dump(&dump).1, rejected);
    dump.exec.environment = password;
    server.kill();
    assert_eq!(server.dump(&dump).1, rejected);
}

#[test]
fn a_server_that_looks_elsewhere_or_is_empty_does_not_pass() {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let mut old = server(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    old.start(None);
    cli(&old, &["SET", "greeting", "hello"]);
    let (_, dump) = old.dump_all().remove(0);
    // As a configuration file would say it: the command does not show it.
    for (elsewhere, file_name) in [
        ("dbfilename shop.rdb", "dump.rdb"),
        ("appendonly yes", "dump.rdb"),
        ("dir /", "dump.rdb"),
        ("appendonly no", "appendonly.rdb"),
        ("appendfilename other.aof", "appendonly.rdb"),
        (
            "rename-command CONFIG \"\"\ndbfilename shop.rdb",
            "dump.rdb",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let conf = folder.path().join("redis.conf");
        std::fs::write(&conf, elsewhere).unwrap();
        let port = free_port().to_string();
        let shown = words(&["redis-server", "--port", &port, "--dir", &path]);
        let mut new = Server::new(folder, "redis:7", Vec::new(), &shown);
        place(&new, file_name, &dump);
        let hidden = words(&["redis-server", conf.to_str().unwrap(), "--port", &port]);
        let dir = words(&["--dir", &path]);
        let dir = if elsewhere == "dir /" { &[][..] } else { &dir };
        new.start_as(&[&hidden, dir].concat(), None);
        assert_eq!(cli(&new, &["DBSIZE"]).trim(), "0", "the trap: {elsewhere}");
        let rejected = check_placed(&new, file_name, &dump);
        assert!(
            matches!(
                rejected,
                Err(StepRejected::ExitStatus { code: Some(1), .. })
            ),
            "{elsewhere}: {rejected:?}"
        );
    }
}
