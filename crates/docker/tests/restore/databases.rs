//! Databases from their dumps, into new servers and into running ones.

use std::time::{Duration, Instant};

use refloat_docker::VolumeAccess;
use refloat_model::item::ItemKind;
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

fn databases(engine: &Engine) {
    engine.build_demo_images(&["postgres:15", "redis:7"]);
    engine.docker([
        "run",
        "-d",
        "--name=db",
        "-e",
        "POSTGRES_USER=shop",
        "-e",
        "POSTGRES_PASSWORD=secret",
        "-e",
        "PGPASSWORD=secret",
        "-v",
        "db-data:/var/lib/postgresql/data",
        "postgres:15",
    ]);
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
    await_psql(engine);
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
