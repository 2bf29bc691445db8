//! Databases from their dumps, into new servers and into running ones.

use std::time::{Duration, Instant};

use refloat_docker::VolumeAccess;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, OnConflict, RestoreRequest};
use refloat_testkit::docker::Engine;

use crate::estate::{engine, only, plan, restore_all, target, words};
use crate::point::Point;

const ROWS: &str = "SELECT count(*) || ' ' || sum(n) FROM t";

fn psql(engine: &Engine, sql: &str) -> String {
    engine.docker([
        "exec", "db", "psql", "-At", "-U", "shop", "-d", "shop", "-c", sql,
    ])
}

fn await_psql(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let ask = [
        "exec",
        "db",
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "shop",
        "-c",
        "SELECT 1",
    ];
    while !engine.try_docker(ask).status.success() {
        assert!(Instant::now() < deadline, "PostgreSQL does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A server whose data is in a volume or a folder of the host.
fn postgres(engine: &Engine, data: &str) {
    postgres_with(engine, &[format!("{data}:/var/lib/postgresql/data")]);
}

fn postgres_with(engine: &Engine, mounts: &[String]) {
    let mut words = vec![
        "run",
        "-d",
        "--name=db",
        "--env=POSTGRES_USER=shop",
        "--env=POSTGRES_PASSWORD=secret",
        "--env=PGPASSWORD=secret",
    ];
    words.extend(mounts.iter().flat_map(|mount| ["-v", mount]));
    words.push("postgres:15");
    engine.docker(words);
    await_psql(engine);
}

fn databases(engine: &Engine) {
    engine.build_demo_images(&["postgres:15", "redis:7"]);
    engine.docker([
        "run",
        "-d",
        "--name=cache",
        "-v",
        "cache-data:/data",
        "redis:7",
        "redis-server",
        "--protected-mode",
        "no",
        "--appendonly",
        "yes",
    ]);
    postgres(engine, "db-data");
    psql(
        engine,
        "CREATE TABLE t AS SELECT generate_series(1, 1000) n",
    );
    psql(
        engine,
        "CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON t TO reader",
    );
    engine.docker(["exec", "cache", "redis-cli", "set", "greeting", "hello"]);
}

#[test]
fn dumps_fill_new_servers_and_come_back_into_running_ones() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    databases(&source);
    let point = Point::capture(&source);
    let target = target(&empty);
    let everything = RestoreRequest::default();
    let planned = plan(&target, &point, &everything);
    assert_eq!(
        words(
            planned
                .steps
                .iter()
                .filter(|step| step.kind != ItemKind::Image)
        ),
        [
            "volume:cache-data create",
            "volume:db-data create",
            "container:cache create",
            "dump:cache create",
            "container:db create",
            "dump:db create",
        ]
    );
    assert!(
        planned
            .steps
            .iter()
            .all(|s| s.kind != ItemKind::Volume || s.bytes == Some(0))
    );
    restore_all(&target, &point, &everything);
    await_psql(&empty);
    assert_eq!(psql(&empty, ROWS), "1000 500500");
    let grants = "SELECT grantee FROM information_schema.table_privileges \
                  WHERE table_name = 't' AND grantee = 'reader'";
    assert_eq!(psql(&empty, grants), "reader");
    let get = ["exec", "cache", "redis-cli", "get", "greeting"];
    assert_eq!(empty.docker(get), "hello");

    // Back into the running servers.
    psql(&empty, "DELETE FROM t WHERE n > 10");
    empty.docker(["exec", "cache", "redis-cli", "set", "greeting", "bye"]);
    let dumps = only(&["dump:db", "dump:cache"]);
    let planned = plan(&target, &point, &dumps);
    assert_eq!(
        words(&planned.steps),
        ["dump:cache replace", "dump:db replace"]
    );
    restore_all(&target, &point, &dumps);
    await_psql(&empty);
    assert_eq!(psql(&empty, ROWS), "1000 500500");
    assert_eq!(empty.docker(get), "hello");
}

#[test]
fn a_damaged_dump_leaves_no_half_database_running_and_the_next_run_loads_it() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    databases(&source);
    let point = Point::capture(&source);
    let mut damaged = point.clone();
    let dump = |path: &&refloat_model::tree_path::TreePath| {
        let path = path.to_string();
        path.starts_with("/docker/web/dumps/db/") && path.contains("shop")
    };
    let dump = damaged.nodes.keys().find(dump).unwrap().clone();
    damaged.damaged.push(dump);
    let target = target(&empty);
    let everything = RestoreRequest::default();
    let report = crate::estate::restore(&target, &damaged, &everything);
    let failed = report.steps.iter().filter(|step| step.error.is_some());
    let failed: Vec<String> = words(failed.map(|step| &step.step));
    assert_eq!(failed, ["container:db create", "dump:db create"]);
    assert_eq!(empty.docker(["ps", "--format", "{{.Names}}"]), "cache");
    // What was loaded is lost before the next run: the journal's word alone does not count.
    empty.docker(["rm", "-f", "cache"]);
    empty.docker(["volume", "rm", "cache-data"]);

    restore_all(&target, &point, &everything);
    await_psql(&empty);
    assert_eq!(psql(&empty, ROWS), "1000 500500");
    let get = ["exec", "cache", "redis-cli", "get", "greeting"];
    assert_eq!(empty.docker(get), "hello");
}

#[test]
fn a_volume_asked_for_by_name_wins_over_the_dump() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    databases(&source);
    let point = Point::capture(&source);
    let target = target(&empty);
    let request = only(&["container:db", "volume:db-data"]);
    let planned = plan(&target, &point, &request);
    let dump = planned
        .steps
        .iter()
        .find(|step| step.kind == ItemKind::Dump)
        .unwrap();
    assert_eq!(
        dump.action,
        Action::Skip {
            why: "its volume was asked for by name".into()
        }
    );
    restore_all(&target, &point, &request);
    await_psql(&empty);
    assert_eq!(psql(&empty, ROWS), "1000 500500");
}

#[test]
fn a_replaced_database_in_use_is_emptied_before_its_dump_is_loaded() {
    for access in [VolumeAccess::Auto, VolumeAccess::Engine] {
        let Some(engine) = engine() else { return };
        databases(&engine);
        let point = Point::capture(&engine);
        let target = target(&engine).with_volume_access(access);
        psql(&engine, "DELETE FROM t WHERE n > 10");
        psql(&engine, "CREATE TABLE later AS SELECT 1 one");
        psql(&engine, "CREATE DATABASE later");
        engine.docker(["exec", "cache", "redis-cli", "set", "later", "1"]);
        let unasked = plan(&target, &point, &RestoreRequest::default());
        assert!(
            !unasked.is_executable(),
            "data is never replaced unasked: {unasked:#?}"
        );
        let request = RestoreRequest {
            on_conflict: OnConflict::Replace,
            ..RestoreRequest::default()
        };
        let planned = plan(&target, &point, &request);
        let said = "its present data is removed; the dump is loaded in its place";
        let said = planned
            .findings
            .iter()
            .filter(|finding| finding.message == said);
        assert_eq!(said.count(), 2, "{planned:#?}");
        restore_all(&target, &point, &request);
        await_psql(&engine);
        assert_eq!(psql(&engine, ROWS), "1000 500500");
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'later'";
        assert_eq!(psql(&engine, tables), "0");
        let others = "SELECT count(*) FROM pg_database WHERE datname = 'later'";
        assert_eq!(psql(&engine, others), "0");
        let keys = ["exec", "cache", "redis-cli", "keys", "*"];
        assert_eq!(engine.docker(keys), "greeting");
    }
}

/// The action for the dump of `db` with `on_conflict`.
fn dump_of_db(engine: &Engine, point: &Point, on_conflict: OnConflict) -> Action {
    let request = RestoreRequest {
        on_conflict,
        ..RestoreRequest::default()
    };
    let steps = plan(&target(engine), point, &request).steps;
    let dump = steps.into_iter().find(|step| step.kind == ItemKind::Dump);
    dump.unwrap().action
}

#[test]
fn newer_data_of_a_server_that_is_gone_is_never_dropped_unasked() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["postgres:15"]);
    let folder = engine.folder().join("pgdata");
    let bound = folder.to_str().unwrap().to_owned();
    // A folder of the host, and a volume of which the point has nothing.
    for data in [bound.as_str(), "db-data"] {
        postgres(&engine, data);
        psql(
            &engine,
            "CREATE TABLE t AS SELECT generate_series(1, 1000) n",
        );
        let mut point = Point::capture(&engine);
        point.items.retain(|i| i.item.kind != ItemKind::Volume);
        psql(&engine, "CREATE TABLE newer AS SELECT 7 n");
        psql(&engine, "DELETE FROM t");
        let kept = Action::Skip {
            why: "the data of its server is kept".into(),
        };
        assert_eq!(dump_of_db(&engine, &point, OnConflict::Fail), kept);
        engine.docker(["stop", "db"]);
        engine.docker(["rm", "db"]);

        let there = if data == bound {
            &bound
        } else {
            "volume db-data"
        };
        let Action::Conflict { why } = dump_of_db(&engine, &point, OnConflict::Fail) else {
            panic!("newer data in {data} would be dropped unasked")
        };
        assert!(why.contains(there), "{why}");
        let renamed = dump_of_db(&engine, &point, OnConflict::Rename);
        assert_eq!(renamed.word(), "conflict");
        let keep = RestoreRequest {
            on_conflict: OnConflict::Skip,
            ..RestoreRequest::default()
        };
        restore_all(&target(&engine), &point, &keep);
        await_psql(&engine);
        assert_eq!(psql(&engine, "SELECT n FROM newer"), "7");

        engine.docker(["stop", "db"]);
        engine.docker(["rm", "db"]);
        let replace = RestoreRequest {
            on_conflict: OnConflict::Replace,
            ..RestoreRequest::default()
        };
        restore_all(&target(&engine), &point, &replace);
        await_psql(&engine);
        assert_eq!(psql(&engine, ROWS), "1000 500500");
        assert_eq!(psql(&engine, "SELECT to_regclass('newer') IS NULL"), "t");

        engine.docker(["rm", "-f", "-v", "db"]);
        match data == bound {
            true => std::fs::remove_dir_all(&folder).unwrap(),
            false => drop(engine.docker(["volume", "rm", "db-data"])),
        }
        let empty = dump_of_db(&engine, &point, OnConflict::Fail);
        assert_eq!(empty, Action::Create, "{data}");
    }
}

#[test]
fn what_is_mounted_beside_a_database_comes_back() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["postgres:15"]);
    let folder = engine.folder().join("db");
    let (backups, file) = (folder.join("backups"), folder.join("server.crt"));
    std::fs::create_dir_all(&backups).unwrap();
    std::fs::write(backups.join("old.sql"), "old\n").unwrap();
    std::fs::write(&file, "certificate\n").unwrap();
    let inside = "/var/lib/postgresql";
    postgres_with(
        &engine,
        &[
            format!("db-data:{inside}/data"),
            format!("{}:{inside}/backups", backups.display()),
            format!("{}:{inside}/server.crt:ro", file.display()),
        ],
    );
    let point = Point::capture(&engine);
    engine.docker(["rm", "-f", "db"]);
    engine.docker(["volume", "rm", "db-data"]);
    std::fs::remove_dir_all(&folder).unwrap();
    restore_all(&target(&engine), &point, &RestoreRequest::default());
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&backups.join("old.sql")), "old\n");
    assert_eq!(read(&file), "certificate\n");
}

fn redis(engine: &Engine, words: &[&str]) {
    redis_on(engine, "cache-data", words);
}

fn redis_on(engine: &Engine, data: &str, words: &[&str]) {
    let volume = format!("--volume={data}:/data");
    let run = ["run", "-d", "--name=cache", &volume];
    engine.docker([&run, words].concat());
    let ping = ["exec", "cache", "redis-cli", "ping"];
    let deadline = Instant::now() + Duration::from_secs(60);
    while !engine.try_docker(ping).stdout.starts_with(b"PONG") {
        assert!(Instant::now() < deadline, "Redis does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    engine.docker(["exec", "cache", "redis-cli", "set", "greeting", "hello"]);
}

#[test]
fn what_a_redis_loses_is_named() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["redis:7"]);
    let open = ["redis:7", "redis-server", "--protected-mode", "no"];
    redis(&engine, &open);
    let users = "echo 'user default on nopass ~* &* +@all' > /data/users.acl; \
                 mkdir /data/empty; touch /data/.rediscli_history";
    engine.docker(["exec", "cache", "sh", "-c", users]);
    let point = Point::capture(&engine);
    let lose = || {
        engine.docker(["rm", "-f", "cache"]);
        engine.docker(["volume", "rm", "cache-data"]);
    };
    lose();
    let everything = RestoreRequest::default();
    let report = crate::estate::restore(&target(&engine), &point, &everything);
    let get = ["exec", "cache", "redis-cli", "get", "greeting"];
    assert_eq!(engine.docker(get), "hello");
    assert!(!report.is_complete());
    assert_eq!(
        report.findings[0].message,
        "not restored beside the database's data: \
         /docker/web/volumes/cache-data/data/users.acl (1 in all); `restore POINT:PATH --target \
         FOLDER` brings them back"
    );

    // A configuration file that the definition does not show: the dump would be ignored.
    lose();
    let conf = engine.folder().join("redis.conf");
    std::fs::write(&conf, "dbfilename shop.rdb\ndir /data\nprotected-mode no\n").unwrap();
    let mount = format!("--volume={}:/etc/redis.conf:ro", conf.display());
    redis(
        &engine,
        &[&mount, "redis:7", "redis-server", "/etc/redis.conf"],
    );
    let point = Point::capture(&engine);
    lose();
    let report = crate::estate::restore(&target(&engine), &point, &everything);
    let dump = report.steps.iter().find(|s| s.step.kind == ItemKind::Dump);
    let error = dump.unwrap().error.as_deref().unwrap();
    let why = "check that the server loaded dump.rdb: exit status Some(1): the dump was placed \
               for dbfilename 'dump.rdb', the server has 'shop.rdb' (its configuration file)";
    assert_eq!(error, why);
    assert_eq!(engine.docker(["ps", "--format", "{{.Names}}"]), "");
}

#[test]
fn a_rejected_database_is_tried_again_and_long_answers_are_judged_by_their_end() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["postgres:15"]);
    postgres(&engine, "db-data");
    for database in ["alpha", "beta"] {
        psql(&engine, &format!("CREATE DATABASE {database}"));
    }
    let mut point = Point::capture(&engine);
    engine.docker(["rm", "-f", "db"]);
    engine.docker(["volume", "rm", "db-data"]);
    // Succeeds only after beta, and prints 2 MB.
    let more = "SELECT 1 / count(*) FROM pg_database WHERE datname = 'beta';
         SELECT repeat('x', 70000) FROM generate_series(1, 30);";
    point.edit("/docker/web/dumps/db/alpha.database.sql", |dump| {
        dump.replace(
            "SET statement_timeout",
            &format!("{more}\nSET statement_timeout"),
        )
    });
    restore_all(&target(&engine), &point, &RestoreRequest::default());
    await_psql(&engine);
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database
         WHERE NOT datistemplate";
    assert_eq!(psql(&engine, databases), "alpha beta postgres shop");
}

#[test]
fn what_has_no_way_back_in_an_existing_server_ends_with_the_first_failure() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["postgres:15"]);
    postgres(&engine, "db-data");
    psql(&engine, "CREATE TABLE t AS SELECT 1 n");
    let mut point = Point::capture(&engine);
    psql(&engine, "UPDATE t SET n = 2");
    // The load of accounts cannot be undone, as all loads of MySQL.
    point.edit("/docker/web/dumps/db/globals.sql", |dump| {
        format!("SELECT 1 / 0;\n{dump}")
    });
    let asked = only(&["dump:db"]);
    let report = crate::estate::restore(&target(&engine), &point, &asked);
    let error = report.steps[0].error.as_deref().unwrap();
    let why = "load accounts: statements failed with SQL state 22012";
    assert!(error.starts_with(why), "{error}");
    assert_eq!(psql(&engine, "SELECT n FROM t"), "2");
}

#[test]
fn what_stays_in_a_bound_folder_is_not_lost() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["redis:7"]);
    let folder = engine.folder().join("cache");
    let bound = folder.to_str().unwrap().to_owned();
    let open = ["redis:7", "redis-server", "--protected-mode", "no"];
    redis_on(&engine, &bound, &open);
    std::fs::write(folder.join("users.acl"), "user default on\n").unwrap();
    let point = Point::capture(&engine);
    engine.docker(["rm", "-f", "cache"]);
    let request = RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..RestoreRequest::default()
    };
    let target = target(&engine);
    let lost = || {
        let planned = plan(&target, &point, &request);
        let lost = "not restored beside the database's data: ";
        let mut findings = planned.findings.iter();
        findings.any(|finding| finding.message.starts_with(lost))
    };
    assert!(!lost());
    std::fs::remove_file(folder.join("users.acl")).unwrap();
    assert!(lost());
}

#[test]
fn dumps_that_no_new_server_takes_come_back_into_the_old_one() {
    let Some(engine) = engine() else { return };
    engine.build_demo_images(&["postgres:15"]);
    postgres(&engine, "db-data");
    psql(&engine, "CREATE TABLE t AS SELECT 1 n");
    let mut point = Point::capture(&engine);
    psql(&engine, "UPDATE t SET n = 2");
    let mut lack = |missing: &str| {
        let dumps = point.items.iter_mut();
        for item in dumps.filter(|item| item.item.kind == ItemKind::Dump) {
            item.outcome = Outcome::Partial {
                missing: vec![missing.to_owned()],
                missing_count: 1,
            };
        }
        point.clone()
    };
    let target = target(&engine);
    let asked = only(&["dump:db"]);
    let not_whole = Action::Skip {
        why: "missing in the recovery point: the dump is not whole".into(),
    };
    let cut = lack("db/shop.database.sql: the dump has no end");
    assert_eq!(plan(&target, &cut, &asked).steps[0].action, not_whole);
    let refused = lack("db/tablespaces: tablespace fast at /fast: no new server takes it");
    let kept = Action::Skip {
        why: "the data of its server is kept".into(),
    };
    let copied = "db-data comes back from its copy";
    let replaced = dump_of_db(&engine, &refused, OnConflict::Replace);
    assert_eq!(replaced, not_whole, "{copied}");
    assert_eq!(dump_of_db(&engine, &refused, OnConflict::Skip), kept);
    restore_all(&target, &refused, &asked);
    assert_eq!(psql(&engine, "SELECT n FROM t"), "1");
    engine.docker(["rm", "-f", "db"]);
    engine.docker(["volume", "rm", "db-data"]);
    let new = dump_of_db(&engine, &refused, OnConflict::Fail);
    assert_eq!(new, not_whole, "{copied}");
}
