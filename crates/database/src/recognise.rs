//! Which database engine a container runs, if any.
//!
//! Three kinds of evidence, the strongest first: the server program in the command, the image's
//! name, variables that only the engine's own images set. Variables such as `POSTGRES_PASSWORD`
//! prove nothing: applications get them too, to connect.
//!
//! Invariant: a container that runs a client, an exporter or a router of an engine is not
//! recognised; a dump of it would fail, or dump somebody else's server.

use crate::container::Container;
use crate::engine::Engine;

/// Programs that serve a database.
const SERVERS: [(&str, Engine); 9] = [
    ("postgres", Engine::PostgreSql),
    ("postmaster", Engine::PostgreSql),
    ("mysqld", Engine::MySql),
    ("mysqld_safe", Engine::MySql),
    ("mariadbd", Engine::MariaDb),
    ("mariadbd-safe", Engine::MariaDb),
    ("redis-server", Engine::Redis),
    ("valkey-server", Engine::Valkey),
    ("mongod", Engine::MongoDb),
];

/// Words of a command that say: whatever the image is, no server of it runs here.
const OTHER_ROLES: [&str; 19] = [
    "redis-sentinel",
    "valkey-sentinel",
    "redis-cli",
    "valkey-cli",
    "mongos",
    "mongosh",
    "mongo",
    "mongodump",
    "mongorestore",
    "psql",
    "pg_dump",
    "pg_dumpall",
    "pg_basebackup",
    "mysql",
    "mysqldump",
    "mariadb",
    "mariadb-dump",
    "sleep",
    "crond",
];

/// Last components of image names, without tag.
const IMAGES: [(&str, Engine); 21] = [
    ("postgres", Engine::PostgreSql),
    ("postgresql", Engine::PostgreSql),
    ("postgresql-repmgr", Engine::PostgreSql),
    ("postgis", Engine::PostgreSql),
    ("pgvector", Engine::PostgreSql),
    ("timescaledb", Engine::PostgreSql),
    ("timescaledb-ha", Engine::PostgreSql),
    ("mysql", Engine::MySql),
    ("mysql-server", Engine::MySql),
    ("percona", Engine::MySql),
    ("percona-server", Engine::MySql),
    ("mariadb", Engine::MariaDb),
    ("mariadb-galera", Engine::MariaDb),
    ("redis", Engine::Redis),
    ("redis-stack", Engine::Redis),
    ("redis-stack-server", Engine::Redis),
    ("valkey", Engine::Valkey),
    ("mongo", Engine::MongoDb),
    ("mongodb", Engine::MongoDb),
    ("mongodb-community-server", Engine::MongoDb),
    ("mongodb-enterprise-server", Engine::MongoDb),
];

/// Sets of variables that images of the engine set and applications have no reason to.
const VARIABLES: [(&[&str], Engine); 7] = [
    (&["PGDATA", "PG_MAJOR"], Engine::PostgreSql),
    (&["MYSQL_MAJOR", "MYSQL_VERSION"], Engine::MySql),
    (&["MARIADB_VERSION", "GOSU_VERSION"], Engine::MariaDb),
    (&["REDIS_VERSION", "REDIS_DOWNLOAD_URL"], Engine::Redis),
    (&["REDIS_DOWNLOAD_URL", "REDIS_DOWNLOAD_SHA"], Engine::Redis),
    (&["VALKEY_VERSION", "VALKEY_DOWNLOAD_URL"], Engine::Valkey),
    (&["MONGO_MAJOR", "MONGO_VERSION"], Engine::MongoDb),
];

/// The engine whose server the container runs.
pub(crate) fn recognise(container: &Container<'_>) -> Option<Engine> {
    let words = container.words();
    let programs: Vec<&str> = words
        .iter()
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .collect();
    let image = by_image(container.image);
    let server = programs.iter().find_map(|p| find(&SERVERS, p));
    let engine = match server {
        Some(_) if words.contains(&"--sentinel") => return None,
        Some(engine) => Some(engine),
        None if programs.iter().any(|p| OTHER_ROLES.contains(p)) => return None,
        None => image.or_else(|| by_variables(container)),
    }?;
    Some(refine(engine, image, container))
}

/// `mysqld` is also the name of MariaDB's server before 10.5, `redis-server` a link in Valkey's
/// images.
fn refine(engine: Engine, image: Option<Engine>, container: &Container<'_>) -> Engine {
    let named = |engine| image == Some(engine);
    match engine {
        Engine::MySql if named(Engine::MariaDb) || container.has("MARIADB_VERSION") => {
            Engine::MariaDb
        }
        Engine::Redis if named(Engine::Valkey) || container.has("VALKEY_VERSION") => Engine::Valkey,
        engine => engine,
    }
}

fn by_image(image: &str) -> Option<Engine> {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    find(&IMAGES, name)
}

fn by_variables(container: &Container<'_>) -> Option<Engine> {
    VARIABLES
        .iter()
        .find(|(names, _)| names.iter().all(|name| container.has(name)))
        .map(|(_, engine)| *engine)
}

fn find(table: &[(&str, Engine)], name: &str) -> Option<Engine> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, engine)| *engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `image | environment | command`, each list separated by blanks, and what it is.
    fn check(case: &str, expected: Option<Engine>) {
        let mut parts = case.split('|').map(str::trim);
        let image = parts.next().unwrap();
        let mut list = || -> Vec<String> {
            let part = parts.next().unwrap_or_default();
            part.split(' ')
                .filter(|w| !w.is_empty())
                .map(|w| w.replace('~', " "))
                .collect()
        };
        let (environment, command) = (list(), list());
        let container = Container {
            image,
            environment: &environment,
            command: &command,
        };
        assert_eq!(recognise(&container), expected, "{case}");
    }

    #[test]
    fn servers_are_recognised() {
        use Engine::{MariaDb, MongoDb, MySql, PostgreSql, Redis, Valkey};
        for (case, engine) in [
            ("postgres", PostgreSql),
            (
                "postgres:15|PGDATA=/d|docker-entrypoint.sh postgres -c fsync=off",
                PostgreSql,
            ),
            ("docker.io/library/postgres:16-alpine@sha256:00", PostgreSql),
            ("localhost:5000/bitnami/postgresql:15", PostgreSql),
            (
                "bitnami/postgresql||/opt/bitnami/scripts/postgresql/entrypoint.sh /opt/bitnami/scripts/postgresql/run.sh",
                PostgreSql,
            ),
            ("postgis/postgis:15-3.4", PostgreSql),
            ("timescale/timescaledb:latest-pg15", PostgreSql),
            (
                "shop/db:1||/usr/lib/postgresql/15/bin/postgres -D /data",
                PostgreSql,
            ),
            ("shop/db:1||sh -c exec~postgres~-D~/data", PostgreSql),
            ("shop/db:1|PG_MAJOR=15 PGDATA=/data|/start.sh", PostgreSql),
            ("mysql:8||docker-entrypoint.sh mysqld", MySql),
            ("percona/percona-server:8.0", MySql),
            ("mariadb:10.4||docker-entrypoint.sh mysqld", MariaDb),
            ("mariadb:11||docker-entrypoint.sh mariadbd", MariaDb),
            ("mariadb||docker-entrypoint.sh --max-connections=5", MariaDb),
            (
                "shop/db|MARIADB_VERSION=1:10.5|docker-entrypoint.sh mysqld",
                MariaDb,
            ),
            (
                "redis:7-alpine||docker-entrypoint.sh redis-server --appendonly yes",
                Redis,
            ),
            ("shop/cache||/usr/bin/redis-server /etc/redis.conf", Redis),
            (
                "valkey/valkey:8||docker-entrypoint.sh valkey-server",
                Valkey,
            ),
            ("bitnami/valkey", Valkey),
            (
                "mongo:7||docker-entrypoint.sh mongod --replSet rs0",
                MongoDb,
            ),
            ("mongodb/mongodb-community-server:7.0", MongoDb),
        ] {
            check(case, Some(engine));
        }
    }

    #[test]
    fn clients_exporters_and_applications_are_not() {
        for case in [
            "debian:12",
            "nginx",
            "shop/web|POSTGRES_USER=a POSTGRES_PASSWORD=b PGPASSWORD=c MYSQL_ROOT_PASSWORD=d|node app.js",
            "prometheuscommunity/postgres-exporter",
            "oliver006/redis_exporter",
            "mongo-express",
            "phpmyadmin",
            "redis/redisinsight",
            "edoburu/pgbouncer",
            "postgres:15||docker-entrypoint.sh sh -c pg_dump~-h~db~shop",
            "postgres:15|PGDATA=/d PG_MAJOR=15|sleep infinity",
            "redis:7||redis-server /etc/s.conf --sentinel",
            "redis:7||redis-sentinel /etc/s.conf",
            "mongo:7||mongos --configdb x",
            "mysql:8||mysql -h db",
        ] {
            check(case, None);
        }
    }
}
