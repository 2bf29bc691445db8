//! MariaDB of Debian. MySQL itself is not in Debian: its branch of the scripts (`mysqldump` with
//! `--set-gtid-purged`, grant tables as rows) is not run here.

use refloat_database::{DumpRejected, DumpStep, StepRejected, SurveyRejected};

use crate::playground::{Server, free_port, give, installed, tool, words};

const PASSWORD: &str = "s3cret'\"$x \\";
const ODD: &str = "--a'b\"c /\\=%s x";
const PROGRAMS: [&str; 4] = ["mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"];

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let quoted = PASSWORD.replace('\\', r"\\").replace('\'', r"\'");
    let init = format!("ALTER USER root@localhost IDENTIFIED BY '{quoted}';\n");
    std::fs::write(folder.path().join("init.sql"), init).unwrap();
    // What /etc/mysql/conf.d is in a container.
    let client = format!("[client]\nsocket={path}/socket\n");
    std::fs::write(folder.path().join(".my.cnf"), client).unwrap();
    give(folder.path(), "mysql");
    // A server that starts removes the temporary tables of others that have the same folder.
    let (data, temporary) = (format!("--datadir={path}/data"), format!("--tmpdir={path}"));
    let install = [
        "mariadb-install-db",
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        &data,
        &temporary,
    ];
    tool(Some("mysql"), &install);
    let port = free_port();
    let argv = words(&[
        "mariadbd",
        "--no-defaults",
        &data,
        &temporary,
        &format!("--socket={path}/socket"),
        &format!("--init-file={path}/init.sql"),
        "--bind-address=127.0.0.1",
        &format!("--port={port}"),
    ]);
    let environment = vec![
        format!("HOME={path}"),
        format!("MARIADB_ROOT_PASSWORD={PASSWORD}"),
    ];
    let mut server = Server::new(folder, "mariadb:10.11", environment, &argv);
    server.start(Some("mysql"));
    server
}

fn sql(server: &Server, statements: &str) -> String {
    let mut exec = server.recipe.survey();
    let execute = exec.argv.iter().position(|a| a == "--execute").unwrap();
    exec.argv.truncate(execute);
    let finished = server.run(&exec, statements.as_bytes());
    assert_eq!(finished.code, Some(0), "{statements}: {}", finished.stderr);
    String::from_utf8(finished.stdout).unwrap()
}

fn fill(server: &Server) {
    let odd = ODD.replace('`', "``");
    sql(
        server,
        &format!(
            "CREATE DATABASE shop CHARACTER SET latin1; CREATE DATABASE `{odd}`; USE shop;
             CREATE TABLE goods (id int AUTO_INCREMENT PRIMARY KEY, name text CHARACTER SET utf8mb4, raw blob);
             INSERT INTO goods (name, raw) SELECT concat('wäre \\n\\t\\\\', seq), unhex(md5(seq)) FROM seq_1_to_20000;
             INSERT INTO goods (name) VALUES ('-- Dump completed'), (NULL), ('\\0');
             CREATE VIEW few AS SELECT * FROM goods WHERE id < 5;
             CREATE USER clerk@'%' IDENTIFIED BY 'pen'; GRANT SELECT ON shop.* TO clerk@'%';
             CREATE TABLE `{odd}`.t (i int); INSERT INTO `{odd}`.t VALUES (7);
             DELIMITER ;;
             CREATE PROCEDURE twice() BEGIN SELECT 1; SELECT 2; END;;
             CREATE TRIGGER trim BEFORE INSERT ON goods FOR EACH ROW BEGIN SET NEW.name = trim(NEW.name); END;;
             DELIMITER ;
             CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO DELETE FROM goods WHERE id < 0;"
        ),
    );
}

fn content(server: &Server) -> String {
    let odd = ODD.replace('`', "``");
    sql(
        server,
        &format!(
            "SET group_concat_max_len = 100000000;
             SELECT count(*), md5(group_concat(id, coalesce(name, 'null'), coalesce(hex(raw), 'null') ORDER BY id)) FROM shop.goods;
             SELECT count(*) FROM shop.few; CALL shop.twice(); SELECT i FROM `{odd}`.t;
             SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop';
             SELECT event_name FROM information_schema.events;
             SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'shop';
             SHOW GRANTS FOR clerk@'%'; SELECT schema_name FROM information_schema.schemata ORDER BY 1;
             SELECT user, host, is_role FROM mysql.user ORDER BY 1, 2;"
        ),
    )
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
    if !installed(&PROGRAMS) {
        return;
    }
    let (old, new) = (server(), server());
    fill(&old);
    let dumps = old.dump_all();
    let names: Vec<&str> = dumps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "accounts.sql",
            "--a'b\"c %2F\\=%25s x.database.sql",
            "shop.database.sql",
            "test.database.sql"
        ]
    );
    sql(
        &new,
        "CREATE DATABASE shop; CREATE TABLE shop.stranger (i int);",
    );
    assert_eq!(new.restore_all(&dumps), Ok(()));
    assert_eq!(content(&new), content(&old));
    assert_eq!(new.restore_all(&dumps), Ok(()));
    assert_eq!(content(&new), content(&old));
    let tables = sql(
        &new,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1;",
    );
    assert_eq!(tables, "few\ngoods\n");
    // Unchanged data gives the same bytes, which deduplicate.
    assert_eq!(old.dump_all(), dumps);
}

#[test]
fn grants_on_tables_and_views_over_two_databases_come_back() {
    if !installed(&PROGRAMS) {
        return;
    }
    let (old, new) = (server(), server());
    sql(
        &old,
        "CREATE DATABASE alpha; CREATE DATABASE beta; CREATE TABLE beta.t (i int);
         INSERT INTO beta.t VALUES (7); CREATE PROCEDURE beta.p() SELECT 1;
         CREATE USER reader@'%' IDENTIFIED BY 'pen'; GRANT SELECT ON beta.t TO reader@'%';
         GRANT EXECUTE ON PROCEDURE beta.p TO reader@'%';
         CREATE DEFINER = reader@'%' VIEW beta.own AS SELECT * FROM beta.t;
         CREATE DEFINER = reader@'%' VIEW beta.over AS SELECT * FROM beta.own;
         CREATE VIEW alpha.v AS SELECT * FROM beta.t; CREATE TABLE alpha.u (i int);
         CREATE VIEW beta.w AS SELECT * FROM alpha.u;",
    );
    let dumps = old.dump_all();
    assert_eq!(new.restore_all(&dumps), Ok(()));
    let content = "SELECT i FROM alpha.v; SELECT i FROM beta.own; SELECT count(*) FROM beta.w;
         SELECT table_name FROM information_schema.views WHERE table_schema = 'beta' ORDER BY 1;
         SHOW GRANTS FOR reader@'%';";
    assert_eq!(sql(&new, content), sql(&old, content));
    assert_eq!(new.restore_all(&dumps), Ok(()));
    assert_eq!(sql(&new, content), sql(&old, content));
}

#[test]
fn a_cut_or_failed_load_is_rejected() {
    if !installed(&PROGRAMS) {
        return;
    }
    let server = server();
    fill(&server);
    let before = content(&server);
    let (dump, _) = server.dump(&step(&server, "shop.database.sql"));
    let restore = server
        .recipe
        .restore(&["shop.database.sql"])
        .unwrap()
        .remove(0);
    let load = &restore.steps[0];
    let title = "load database shop".to_owned();
    // After a whole statement: the client is content with what it got.
    let find = |from: usize, text: &[u8]| {
        let tail = &dump[from..];
        from + tail
            .windows(text.len())
            .position(|window| window == text)
            .unwrap()
    };
    let end_of_a_statement = find(find(0, b"INSERT INTO"), b";\n") + 2;
    let finished = server.run(&load.exec, &dump[..end_of_a_statement]);
    assert_eq!(finished.code, Some(0), "the trap: {}", finished.stderr);
    assert_eq!(
        load.judge(finished.code, &finished.stdout, finished.stderr.as_bytes()),
        Err(StepRejected::Cut {
            title: title.clone()
        })
    );
    let broken = [&dump[..end_of_a_statement], b"SELECT no_such_column;\n"].concat();
    assert_eq!(
        server.restore_step(load, &broken),
        Err(StepRejected::ExitStatus {
            title,
            code: Some(1)
        })
    );
    // There is no way back; the next whole restore converges.
    assert_eq!(server.restore_step(load, &dump), Ok(()));
    assert_eq!(content(&server), before);
}

#[test]
fn commands_for_the_client_in_a_dump_are_not_obeyed() {
    if !installed(&PROGRAMS) {
        return;
    }
    let server = server();
    let trace = server.folder.path().join("trace");
    let restore = server
        .recipe
        .restore(&["shop.database.sql"])
        .unwrap()
        .remove(0);
    for command in ["\\! touch", "system touch", "SELECT 1 \\! touch"] {
        let hostile = format!("{command} {};\nSELECT 2;\n", trace.display());
        let rejected = server.restore_step(&restore.steps[0], hostile.as_bytes());
        assert!(
            matches!(rejected, Err(StepRejected::ExitStatus { .. })),
            "{rejected:?}"
        );
        assert!(!trace.exists());
    }
}

#[test]
fn killed_dumps_wrong_passwords_and_dead_servers_are_rejected() {
    if !installed(&PROGRAMS) {
        return;
    }
    let mut server = server();
    fill(&server);
    let dump = step(&server, "shop.database.sql");
    let expected = [
        Err(DumpRejected::ExitStatus { code: 137 }),
        Err(DumpRejected::NoEndMarker {
            expected: "-- Dump completed",
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
        .push("MARIADB_ROOT_PASSWORD=wrong".to_owned());
    let finished = server.run(&server.recipe.survey(), b"");
    assert_eq!(
        server.recipe.parse_survey(finished.code, &finished.stdout),
        Err(SurveyRejected::ExitStatus { code: Some(1) })
    );
    let rejected = Err(DumpRejected::ExitStatus { code: 2 });
    assert_eq!(server.dump(&dump).1, rejected);
    server.environment.push(password);
    let lost = Err(DumpRejected::ExitStatus { code: 3 });
    assert_eq!(server.stop_server_after(&dump, 100_000, "KILL"), lost);
    assert_eq!(server.dump(&dump).1, rejected);
}
