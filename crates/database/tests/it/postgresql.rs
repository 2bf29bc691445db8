//! PostgreSQL: Debian's server with password login, as strict as the recipe may meet it.

use refloat_database::{DumpRejected, DumpStep, StepRejected, SurveyRejected};

use crate::playground::{Server, free_port, give, installed, tool, words};

const PASSWORD: &str = "s3cret'\"$x \\";
/// A name that is SQL, a connection string, an option and a path.
const ODD: &str = "--a'b\"c /\\=%s x";

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
    give(folder.path(), "postgres");
    let (data, password) = (format!("{path}/data"), format!("--pwfile={path}/password"));
    let initdb = [
        "initdb",
        "--auth=scram-sha-256",
        "--username=boss",
        "--no-sync",
        &password,
        &data,
    ];
    tool(Some("postgres"), &initdb);
    let port = free_port().to_string();
    let argv = words(&[
        "postgres",
        "-D",
        &data,
        "-k",
        &path,
        "-p",
        &port,
        "-c",
        "fsync=off",
    ]);
    let environment = vec![
        format!("PGHOST={path}"),
        "POSTGRES_USER=boss".to_owned(),
        format!("POSTGRES_PASSWORD={PASSWORD}"),
    ];
    let mut server = Server::new(folder, "postgres:15", environment, &argv);
    server.start(Some("postgres"));
    server
}

/// Runs statements and gives the rows, columns separated by `|`.
fn sql(server: &Server, database: &str, statements: &str) -> String {
    // The survey's own command line with other words at its end.
    let mut exec = server.recipe.survey();
    let dbname = exec
        .argv
        .iter()
        .position(|a| a.starts_with("--dbname="))
        .unwrap();
    exec.argv.truncate(dbname);
    let quoted = database.replace('\\', r"\\").replace('\'', r"\'");
    exec.argv.push(format!("--dbname=dbname='{quoted}'"));
    let finished = server.run(&exec, statements.as_bytes());
    assert_eq!(finished.code, Some(0), "{statements}: {}", finished.stderr);
    String::from_utf8(finished.stdout).unwrap()
}

fn fill(server: &Server) {
    sql(
        server,
        "postgres",
        &format!(
            "CREATE ROLE clerk LOGIN PASSWORD 'pen';\nCREATE DATABASE shop OWNER clerk;
             ALTER DATABASE shop SET work_mem = '7MB';\nCREATE DATABASE \"{}\";",
            ODD.replace('"', "\"\"")
        ),
    );
    sql(
        server,
        "shop",
        "CREATE TABLE goods (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, raw bytea);
         INSERT INTO goods (name, raw) SELECT 'ware ' || n || E'\\n\\t\\\\', decode(md5(n::text), 'hex')
         FROM generate_series(1, 20000) n;
         INSERT INTO goods (name) VALUES (E'\\\\.'), (NULL), ('--\n-- PostgreSQL database dump complete\n--');
         GRANT SELECT ON goods TO clerk; SELECT lo_from_bytea(0, 'large');",
    );
    sql(
        server,
        ODD,
        "CREATE TABLE t (i int); INSERT INTO t VALUES (7);",
    );
}

/// Everything that has to come back.
fn content(server: &Server) -> Vec<String> {
    [
        ("shop", "SELECT count(*), md5(string_agg(g::text, '' ORDER BY id)) FROM goods g;"),
        ("shop", "SELECT nextval(pg_get_serial_sequence('goods', 'id')) > 20003;"),
        ("shop", "SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata;"),
        ("shop", "SELECT has_table_privilege('clerk', 'goods', 'SELECT'), current_setting('work_mem');"),
        ("shop", "SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = 'shop';"),
        (ODD, "SELECT i FROM t;"),
        ("postgres", "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin ORDER BY 1;"),
        ("postgres", "SELECT datname, datallowconn FROM pg_database ORDER BY 1;"),
    ]
    .map(|(database, query)| sql(server, database, query))
    .into()
}

fn step(server: &Server, file_name: &str) -> DumpStep {
    let finished = server.run(&server.recipe.survey(), b"");
    let survey = server
        .recipe
        .parse_survey(finished.code, &finished.stdout)
        .unwrap();
    let steps = server.recipe.dumps(&survey);
    steps
        .into_iter()
        .find(|step| step.file_name == file_name)
        .unwrap()
}

#[test]
fn dumps_bring_everything_back_on_fresh_and_on_running_servers() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let (old, new) = (server(), server());
    fill(&old);
    let dumps = old.dump_all();
    let names: Vec<&str> = dumps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "globals.sql",
            "--a'b\"c %2F\\=%25s x.database.sql",
            "postgres.database.sql",
            "shop.database.sql"
        ]
    );
    // A database of the same name that somebody uses.
    sql(&new, "postgres", "CREATE DATABASE shop;");
    sql(&new, "shop", "CREATE TABLE stranger (i int);");
    let session = new.recipe.readiness();
    let mut exec = new.command(&session);
    exec.arg("--dbname=shop")
        .arg("--command=SELECT pg_sleep(600)");
    let mut user = exec.spawn().unwrap();
    assert_eq!(new.restore_all(&dumps), Ok(()));
    user.wait().unwrap();
    assert_eq!(content(&new), content(&old));
    assert_eq!(
        sql(&new, "shop", "SELECT to_regclass('stranger') IS NULL;"),
        "t\n"
    );
    // Again, over what is now there.
    assert_eq!(new.restore_all(&dumps), Ok(()));
    assert_eq!(content(&new), content(&old));
}

#[test]
fn a_cut_or_failed_load_is_rejected_and_undone() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let server = server();
    fill(&server);
    let before = content(&server);
    let (dump, _) = server.dump(&step(&server, "shop.database.sql"));
    let middle = dump.len() / 2;
    let middle = middle + dump[middle..].iter().position(|b| *b == b'\n').unwrap() + 1;
    let load = |dump: &[u8], input_is_cut: bool| {
        let restore = server
            .recipe
            .restore(&["shop.database.sql"])
            .unwrap()
            .remove(0);
        let [aside, load, ..] = &restore.steps[..] else {
            panic!("{restore:?}")
        };
        assert_eq!(server.restore_step(aside, b""), Ok(()));
        let judged = if input_is_cut {
            let finished = server.run(&load.exec, dump);
            assert_eq!(finished.code, Some(0), "the trap: {}", finished.stderr);
            load.judge(finished.code, &finished.stdout, finished.stderr.as_bytes())
        } else {
            server.restore_step(load, dump)
        };
        // Twice, because a run may die between the two.
        for undo in restore.undo.iter().chain(&restore.undo) {
            assert_eq!(server.restore_step(undo, b""), Ok(()));
        }
        judged.unwrap_err()
    };
    // In the middle of the rows: psql takes the end of its input for their end.
    let title = "load database shop".to_owned();
    assert_eq!(
        load(&dump[..middle], true),
        StepRejected::Cut {
            title: title.clone()
        }
    );
    assert_eq!(content(&server), before);
    let broken = [&dump[..middle], b"\n\\.\nSELECT no_such_function();\n"].concat();
    assert_eq!(
        load(&broken, false),
        StepRejected::ExitStatus {
            title,
            code: Some(3)
        }
    );
    assert_eq!(content(&server), before);
}

#[test]
fn a_failed_first_restore_leaves_no_database_behind() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let server = server();
    let restore = server
        .recipe
        .restore(&["new.database.sql"])
        .unwrap()
        .remove(0);
    assert_eq!(server.restore_step(&restore.steps[0], b""), Ok(()));
    let rejected = server.restore_step(&restore.steps[1], b"CREATE DATABASE new;\nSELECT 1/0;\n");
    assert!(rejected.is_err());
    assert_eq!(server.restore_step(&restore.undo[0], b""), Ok(()));
    let databases = sql(
        &server,
        "postgres",
        "SELECT datname FROM pg_database ORDER BY 1;",
    );
    assert_eq!(databases, "postgres\ntemplate0\ntemplate1\n");
}

#[test]
fn commands_for_psql_in_a_dump_are_not_obeyed() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let server = server();
    fill(&server);
    let trace = server.folder.path().join("trace");
    let (dump, _) = server.dump(&step(&server, "shop.database.sql"));
    let text = String::from_utf8(dump).unwrap();
    let command = format!("\n\\! touch {}\nSET statement_timeout", trace.display());
    let hostile = text.replace("\nSET statement_timeout", &command);
    assert_ne!(hostile, text);
    let restore = server
        .recipe
        .restore(&["shop.database.sql"])
        .unwrap()
        .remove(0);
    let rejected = server.restore_step(&restore.steps[1], hostile.as_bytes());
    assert!(
        matches!(rejected, Err(StepRejected::ExitStatus { .. })),
        "{rejected:?}"
    );
    assert!(!trace.exists());
}

#[test]
fn killed_dumps_wrong_passwords_and_dead_servers_are_rejected() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let mut server = server();
    fill(&server);
    let dump = step(&server, "shop.database.sql");
    let expected = [
        Err(DumpRejected::ExitStatus { code: 137 }),
        Err(DumpRejected::NoEndMarker {
            expected: "-- PostgreSQL database dump complete",
        }),
    ];
    for bytes in (1..=50).map(|n| n * n * 120) {
        assert_eq!(
            server.kill_dump_after(&dump, bytes),
            expected,
            "after {bytes}"
        );
    }
    let password = server.environment.pop().unwrap();
    server
        .environment
        .push("POSTGRES_PASSWORD=wrong".to_owned());
    let finished = server.run(&server.recipe.survey(), b"");
    assert_eq!(
        server.recipe.parse_survey(finished.code, &finished.stdout),
        Err(SurveyRejected::ExitStatus { code: Some(2) })
    );
    let rejected = Err(DumpRejected::ExitStatus { code: 1 });
    assert_eq!(server.dump(&dump).1, rejected);
    server.environment.push(password);
    assert_eq!(server.stop_server_after(&dump, 100_000, "QUIT"), rejected);
    assert_eq!(server.dump(&dump).1, rejected);
}

#[test]
fn templates_and_indexes_without_all_their_parts_come_back() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let (old, new) = (server(), server());
    sql(
        &old,
        "postgres",
        "CREATE DATABASE pattern IS_TEMPLATE true;\nCREATE DATABASE parts;",
    );
    sql(&old, "pattern", "CREATE TABLE t AS SELECT 7 i;");
    sql(
        &old,
        "parts",
        "CREATE TABLE whole (i int) PARTITION BY RANGE (i);
         CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (10);
         CREATE INDEX half ON ONLY whole (i); INSERT INTO whole VALUES (3);",
    );
    let dumps = old.dump_all();
    let names: Vec<&str> = dumps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "globals.sql",
            "parts.database.sql",
            "pattern.database.sql",
            "postgres.database.sql"
        ]
    );
    let index = "SELECT relname, indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid
         WHERE relname = 'half'; SELECT i FROM whole;";
    // Again, over what is now there: a template that is set aside must go, too.
    for _ in 0..2 {
        assert_eq!(new.restore_all(&dumps), Ok(()));
        assert_eq!(sql(&new, "parts", index), "half|f\n3\n");
        assert_eq!(sql(&new, "pattern", "SELECT i FROM t;"), "7\n");
        let databases = "SELECT datname, datistemplate FROM pg_database ORDER BY 1;";
        let expected = "parts|f\npattern|t\npostgres|f\ntemplate0|t\ntemplate1|t\n";
        assert_eq!(sql(&new, "postgres", databases), expected);
    }
    // One that was set aside comes back as the template that it was.
    let restore = new.recipe.restore(&["pattern.database.sql"]);
    let restore = restore.unwrap().remove(0);
    assert_eq!(new.restore_step(&restore.steps[0], b""), Ok(()));
    sql(
        &new,
        "postgres",
        "CREATE DATABASE pattern IS_TEMPLATE true;",
    );
    assert_eq!(new.restore_step(&restore.undo[0], b""), Ok(()));
    assert_eq!(sql(&new, "pattern", "SELECT i FROM t;"), "7\n");
}

#[test]
fn an_index_that_was_not_built_to_its_end_is_named() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let server = server();
    sql(
        &server,
        "postgres",
        "CREATE TABLE t AS SELECT 1 i; CREATE INDEX half ON t (i);
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass;",
    );
    assert_eq!(
        server.restore_step(&server.recipe.verify(), b""),
        Err(StepRejected::InvalidIndex {
            title: "ask the server".into()
        })
    );
}

#[test]
fn what_is_not_dumped_or_cannot_be_loaded_is_named() {
    if !installed(&["postgres", "initdb", "pg_dump", "psql"]) {
        return;
    }
    let server = server();
    let place = server.folder.path().join("fast");
    std::fs::create_dir(&place).unwrap();
    give(&place, "postgres");
    sql(
        &server,
        "postgres",
        "CREATE DATABASE shut ALLOW_CONNECTIONS false;
         CREATE DATABASE refloat_aside_0123456789abcdef ALLOW_CONNECTIONS false;",
    );
    let globals = step(&server, "globals.sql");
    assert_eq!(
        server.dump(&globals).1.unwrap().warnings,
        ["database shut takes no connections and is not dumped"]
    );
    let tablespace = format!("CREATE TABLESPACE fast LOCATION '{}';", place.display());
    sql(&server, "postgres", &tablespace);
    let rejected = server.dump(&step(&server, "tablespaces")).1.unwrap_err();
    let why = format!(
        "tablespace fast at {}: a dump that needs one cannot be loaded by a restore; the copies \
         of the volumes are what comes back",
        place.display()
    );
    assert_eq!(rejected, DumpRejected::Refused { why });
}
