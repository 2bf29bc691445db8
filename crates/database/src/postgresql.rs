//! PostgreSQL: accounts by `pg_dumpall --globals-only`, each database by one plain `pg_dump`.
//!
//! Why plain and not the custom format: see `docs/adr/0006-database-dumps.md`.
//!
//! Invariant: a dump is only ever read by the `psql` of its own container.

use refloat_model::tree_path::{escape, unescape};

use crate::container::Container;
use crate::crc64::Crc64;
use crate::end_check::{EndCheck, Marker};
use crate::engine::{Engine, VolumeCopy};
use crate::exec::{Exec, FIRST};
use crate::recipe::{
    DATABASE_SUFFIX, DumpStep, Known, Recipe, Survey, SurveyRejected, parse_names,
};
use crate::restore::{DumpRestore, Input, Proof, RestoreStep};

pub(crate) const VOLUME_COPY: VolumeCopy = VolumeCopy::HoldsMore {
    what: "settings edited inside the data directory (postgresql.conf, pg_hba.conf), replication \
        slots, and what was changed in template0 and template1",
};

/// Where the data is if the definition does not say it; each may be all of a mount.
const USUAL_FOLDERS: [&str; 4] = [
    "/var/lib/postgresql",
    "/var/lib/postgresql/data",
    "/bitnami/postgresql",
    "/bitnami/postgresql/data",
];
/// Parts of the data folder that are put on other disks.
pub(crate) const MOVED_PARTS: [&str; 3] = ["pg_wal", "pg_xlog", "pg_tblspc"];

const GLOBALS: &str = "globals.sql";

/// User and password as the official image and Bitnami's have them; local connections of the
/// official image need no password.
const LOGIN: &str = r#"admin=$(first POSTGRESQL_POSTGRES_PASSWORD POSTGRES_POSTGRES_PASSWORD)
if [ -n "$admin" ]; then PGUSER=postgres PGPASSWORD=$admin; else
PGUSER=$(first POSTGRES_USER POSTGRESQL_USERNAME PGUSER)
PGPASSWORD=$(first POSTGRES_PASSWORD POSTGRESQL_PASSWORD PGPASSWORD)
fi
PGUSER=${PGUSER:-postgres}
export PGUSER PGPASSWORD
exec "$@"
"#;

/// What the definition says beside the login.
#[derive(Debug)]
pub(crate) struct Settings {
    port: Option<u16>,
    /// Whether the server is meant to listen on no address at all.
    local_only: bool,
    /// Whether the login can read the accounts' passwords.
    superuser: bool,
}

pub(crate) fn recipe(container: &Container<'_>) -> Recipe {
    let options = [container.value("PGDATA"), container.option("-D")];
    let mut directories: Vec<&str> = options.into_iter().flatten().collect();
    if directories.is_empty() {
        directories.extend(USUAL_FOLDERS);
    }
    let bitnami_user = container
        .value("POSTGRESQL_USERNAME")
        .is_some_and(|user| user != "postgres");
    let admin = ["POSTGRESQL_POSTGRES_PASSWORD", "POSTGRES_POSTGRES_PASSWORD"]
        .iter()
        .any(|name| container.has(name) || container.has(&format!("{name}_FILE")));
    let superuser = !bitnami_user || admin;
    let mut risks = Vec::new();
    if !superuser {
        risks.push(
            "the superuser's password is not in the environment: accounts are dumped without \
             their passwords"
                .to_owned(),
        );
    }
    let port = ["-p", "--port", "port"]
        .iter()
        .find_map(|name| container.option(name))
        .and_then(|port| port.parse().ok());
    let settings = Settings {
        port,
        local_only: container.option("listen_addresses") == Some(""),
        superuser,
    };
    Recipe::new(
        Engine::PostgreSql,
        directories,
        risks,
        crate::recipe::Settings::PostgreSql(settings),
    )
}

pub(crate) fn parse_survey(stdout: &[u8]) -> Result<Survey, SurveyRejected> {
    parse_names(stdout)
}

impl Settings {
    /// A query rather than `pg_isready`: while the official image sets up a new data directory, a
    /// server without addresses answers and goes away again.
    pub(crate) fn readiness(&self) -> Exec {
        const READY: &str = "SELECT 1 / (setting <> '' OR source <> 'command line')::int \
            FROM pg_settings WHERE name = 'listen_addresses'";
        let query = if self.local_only { "SELECT 1" } else { READY };
        self.psql("postgres", &["--command", query])
    }

    pub(crate) fn survey(&self) -> Exec {
        // What a restore of ours has set aside is no database of the user's.
        const DATABASES: &str = "SELECT CASE WHEN datallowconn THEN 'database ' ELSE 'closed ' END \
            || encode(textsend(datname::text), 'hex') FROM pg_database \
            WHERE datname NOT IN ('template0', 'template1') \
            AND (datallowconn OR datname !~ '^refloat_(aside|absent)_[0-9a-f]{16}$')";
        const TABLESPACES: &str = "SELECT 'tablespace ' || \
            encode(textsend(spcname || ' at ' || pg_tablespace_location(oid)), 'hex') \
            FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')";
        // It works only in a server that loads it when it starts.
        const TIMESCALE: &str = "SELECT 'extension ' || encode('timescaledb', 'hex') \
            FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting ~ 'timescaledb'";
        let queries = [DATABASES, TABLESPACES, TIMESCALE, "SELECT 'end'"];
        let arguments = queries.map(|query| ["--command", query]);
        self.psql("postgres", arguments.as_flattened())
    }

    pub(crate) fn dumps(&self, survey: &Survey) -> Vec<DumpStep> {
        let databases = &survey.databases;
        let mut globals = vec!["--globals-only"];
        if !self.superuser {
            globals.push("--no-role-passwords");
        }
        let closed = survey
            .closed
            .iter()
            .map(|database| format!("database {database} takes no connections and is not dumped"));
        let mut steps = vec![DumpStep {
            database: None,
            file_name: GLOBALS.to_owned(),
            exec: self.client("pg_dumpall", globals),
            end: || EndCheck::sql(Marker::Cluster),
            known: Known::Warnings(closed.collect()),
        }];
        steps.extend(databases.iter().map(|database| DumpStep {
            database: Some(database.clone()),
            file_name: format!("{}{DATABASE_SUFFIX}", escape(database)),
            exec: self.client(
                "pg_dump",
                [
                    "--create",
                    "--clean",
                    "--if-exists",
                    &format!("--dbname={}", connection(database)),
                ],
            ),
            end: || EndCheck::sql(Marker::Database),
            known: Known::Nothing,
        }));
        if !survey.extensions.is_empty() {
            let why = "TimescaleDB is loaded: the dump of a database that uses it needs the \
                restoring mode of timescaledb_pre_restore, which a restore does not set; the \
                copies of the volumes are what comes back";
            steps.push(DumpStep::refused(
                crate::recipe::TIMESCALE.to_owned(),
                why.to_owned(),
            ));
        }
        if !survey.tablespaces.is_empty() {
            let why = format!(
                "tablespace {}: a dump that needs one cannot be loaded by a restore; the copies \
                 of the volumes are what comes back",
                survey.tablespaces.join(", ")
            );
            steps.push(DumpStep::refused(
                crate::recipe::TABLESPACES.to_owned(),
                why,
            ));
        }
        steps
    }

    pub(crate) fn restore(&self, file_name: &str) -> Option<DumpRestore> {
        if file_name == GLOBALS {
            return Some(DumpRestore::running(
                file_name,
                None,
                vec![self.load_globals()],
            ));
        }
        let database = unescape(file_name.strip_suffix(DATABASE_SUFFIX)?)?;
        let load = RestoreStep {
            title: format!("load database {database}"),
            exec: self.psql("template1", &[]),
            input: Input::Dump { suffix: SUFFIX },
            proof: Proof::Complete,
        };
        let check = RestoreStep {
            title: format!("check database {database}"),
            exec: self.psql(&database, &["--command", WHOLE]),
            input: Input::None,
            proof: Proof::NoInvalidIndex,
        };
        let set_aside = format!("{UNDO}{SET_ASIDE}");
        let steps = vec![
            self.script(
                format!("set database {database} aside"),
                &database,
                &set_aside,
            ),
            load,
            check,
            self.script(format!("drop the old database {database}"), &database, KEEP),
        ];
        let title = format!("bring the old database {database} back");
        let undo = vec![self.script(title, &database, UNDO)];
        Some(DumpRestore {
            undo,
            ..DumpRestore::running(file_name, Some(database), steps)
        })
    }

    pub(crate) fn verify(&self) -> RestoreStep {
        RestoreStep {
            title: "ask the server".to_owned(),
            exec: self.psql("postgres", &["--command", WHOLE]),
            input: Input::None,
            proof: Proof::NoInvalidIndex,
        }
    }

    /// Roles of a new server exist already, the superuser at least: that error alone is ignored.
    fn load_globals(&self) -> RestoreStep {
        let mut exec = self.psql("template1", &["--set=VERBOSITY=sqlstate"]);
        exec.argv.retain(|argument| argument != STOP_ON_ERROR);
        RestoreStep {
            title: "load accounts".to_owned(),
            exec,
            input: Input::Dump { suffix: SUFFIX },
            proof: Proof::CompleteOrDuplicate,
        }
    }

    fn script(&self, title: String, database: &str, script: &str) -> RestoreStep {
        let mut crc = Crc64::ecma();
        crc.update(database.as_bytes());
        let id = crc.sum();
        let variables = [
            format!("--set=name={database}"),
            format!("--set=aside=refloat_aside_{id:016x}"),
            format!("--set=absent=refloat_absent_{id:016x}"),
        ];
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        RestoreStep {
            title,
            exec: self.psql("template1", &variables),
            input: Input::Text(format!("{script}{SUFFIX}")),
            proof: Proof::Complete,
        }
    }

    fn psql(&self, database: &str, arguments: &[&str]) -> Exec {
        let database = format!("--dbname={}", connection(database));
        let fixed = ["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"];
        let all = fixed.into_iter().chain([STOP_ON_ERROR, &database]);
        self.client("psql", all.chain(arguments.iter().copied()))
    }

    fn client<'s>(&self, program: &str, arguments: impl IntoIterator<Item = &'s str>) -> Exec {
        let mut argv = vec![program.to_owned(), "--no-password".to_owned()];
        argv.extend(self.port.map(|port| format!("--port={port}")));
        argv.extend(arguments.into_iter().map(str::to_owned));
        Exec::script(format!("{FIRST}{LOGIN}"), argv)
    }
}

const STOP_ON_ERROR: &str = "--set=ON_ERROR_STOP=1";

/// A connection string, because a bare name with `=` or `://` in it would be taken for one.
fn connection(database: &str) -> String {
    let quoted = database.replace('\\', r"\\").replace('\'', r"\'");
    format!("dbname='{quoted}'")
}

/// Must match [`crate::exec::COMPLETE`]; its test says so.
const SUFFIX: &str = "\nSELECT 'refloat: all statements arrived';\n";

/// Passes if the database has no index that building left invalid. One of a partitioned table is
/// invalid by nature until every partition has its part of it, and is dumped and restored so.
const WHOLE: &str = "SELECT 'refloat: all statements arrived' \
    WHERE NOT EXISTS (SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
    WHERE NOT indisvalid AND relkind <> 'I')";

/// Renames the database out of the way, so that the dump makes a new one and a failure can be
/// undone. A marker stands for "there was none". Nobody may connect to either.
const SET_ASIDE: &str = r"
SELECT command FROM (VALUES
    (1, format('ALTER DATABASE %I ALLOW_CONNECTIONS false', :'name')),
    (2, format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %L', :'name')),
    (3, format('ALTER DATABASE %I RENAME TO %I', :'name', :'aside'))
) AS v (n, command) WHERE EXISTS (SELECT FROM pg_database WHERE datname = :'name') ORDER BY n
\gexec
SELECT format('CREATE DATABASE %I TEMPLATE template0 ALLOW_CONNECTIONS false', :'absent')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'aside')
\gexec
";

/// Brings back what [`SET_ASIDE`] took away; does nothing if it took nothing. A template cannot be
/// dropped.
const UNDO: &str = r"
SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database
    WHERE datname = :'name' AND datistemplate
    AND EXISTS (SELECT FROM pg_database WHERE datname IN (:'aside', :'absent'))
\gexec
SELECT command FROM (VALUES
    (1, format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %L', :'name')),
    (2, format('DROP DATABASE IF EXISTS %I', :'name')),
    (3, format('ALTER DATABASE %I RENAME TO %I', :'aside', :'name')),
    (4, format('ALTER DATABASE %I ALLOW_CONNECTIONS true', :'name'))
) AS v (n, command) WHERE EXISTS (SELECT FROM pg_database WHERE datname = :'aside') ORDER BY n
\gexec
SELECT command FROM (VALUES
    (1, format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %L', :'name')),
    (2, format('DROP DATABASE IF EXISTS %I', :'name')),
    (3, format('DROP DATABASE %I', :'absent'))
) AS v (n, command) WHERE EXISTS (SELECT FROM pg_database WHERE datname = :'absent') ORDER BY n
\gexec
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database
    WHERE datname = :'name' AND NOT datallowconn
\gexec
";

/// Ends a restore that was found good.
const KEEP: &str = r"
SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database
    WHERE datname = :'aside' AND datistemplate
\gexec
SELECT format('DROP DATABASE %I', datname) FROM pg_database WHERE datname IN (:'aside', :'absent')
\gexec
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names_cannot_become_connection_strings_or_options() {
        assert_eq!(connection("shop"), "dbname='shop'");
        assert_eq!(connection("host=evil"), "dbname='host=evil'");
        assert_eq!(connection(r"a'b\c"), r"dbname='a\'b\\c'");
    }

    #[test]
    fn the_closing_statement_prints_the_closing_line() {
        let line = crate::exec::COMPLETE;
        assert_eq!(SUFFIX, format!("\nSELECT '{line}';\n"));
        assert!(WHOLE.starts_with(&format!("SELECT '{line}' WHERE")));
    }

    #[test]
    fn timescale_is_named_beside_its_dumps() {
        let container = Container {
            image: "timescale/timescaledb:2.14-pg15",
            environment: &[],
            command: &[],
        };
        let recipe = Recipe::recognise(&container).unwrap();
        let steps = |survey: &[u8]| {
            let survey = recipe.parse_survey(Some(0), survey).unwrap();
            let names = recipe.dumps(&survey).into_iter().map(|step| step.file_name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(steps(b"end\n"), [GLOBALS]);
        assert_eq!(
            steps(b"extension 74696d657363616c656462\nend\n"),
            [GLOBALS, "timescaledb"]
        );
    }
}
