//! MySQL and MariaDB: one plain dump for each database, and one of the accounts.
//!
//! The client's names differ (`mariadb-dump`, `mysqldump`) and so do their options; the script
//! looks for what the container has.
//!
//! Invariant: the client that reads a dump does not obey its own commands in it
//! (`--binary-mode`), only SQL.

use refloat_model::tree_path::{escape, unescape};

use crate::container::Container;
use crate::end_check::{EndCheck, Marker};
use crate::engine::{Engine, VolumeCopy};
use crate::exec::{Exec, FIRST};
use crate::recipe::{
    DATABASE_SUFFIX, DumpStep, Known, Recipe, Survey, SurveyRejected, parse_names,
};
use crate::restore::{DumpRestore, Input, Proof, RestoreStep};

pub(crate) const VOLUME_COPY: VolumeCopy = VolumeCopy::HoldsMore {
    what: "binary logs, settings made to last (SET PERSIST), plugins, components, foreign servers, \
           loadable functions and certificates, and tables of engines without transactions as they were \
           at one moment",
};

const ACCOUNTS: &str = "accounts.sql";

/// Sets `user` and the password, and defines how programs are found.
const LOGIN: &str = r#"user=$(first MARIADB_ROOT_USER MYSQL_ROOT_USER)
user=${user:-root}
MYSQL_PWD=$(first MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD)
if [ -z "$MYSQL_PWD" ] && [ -n "$(first MARIADB_RANDOM_ROOT_PASSWORD MYSQL_RANDOM_ROOT_PASSWORD)" ]
then
user=$(first MARIADB_USER MYSQL_USER)
MYSQL_PWD=$(first MARIADB_PASSWORD MYSQL_PASSWORD)
fi
export MYSQL_PWD
pick() { for program; do if command -v "$program" >/dev/null; then break; fi; done
printf %s "$program"; }
client=$(pick mariadb mysql)
dump=$(pick mariadb-dump mysqldump)
is_mariadb() { case "$("$dump" --version)" in *MariaDB*) true;; *) false;; esac; }
"#;

const RUN_CLIENT: &str = r#"exec "$client" --user="$user" "$@"
"#;

/// MySQL's own client would write the server's transaction ids, which a running server refuses.
const RUN_DUMP: &str = r#"is_mariadb || set -- --set-gtid-purged=OFF --no-tablespaces "$@"
exec "$dump" --user="$user" "$@"
"#;

/// MariaDB prints accounts as statements. MySQL cannot: the rows of its grant tables are taken.
const RUN_DUMP_ACCOUNTS: &str = r#"if is_mariadb
then exec "$dump" --user="$user" --system=users --insert-ignore "$@"; fi
tables=$("$client" --user="$user" --skip-column-names --batch --execute="SELECT table_name
FROM information_schema.tables WHERE table_schema = 'mysql' AND table_name IN ('user', 'db',
'tables_priv', 'columns_priv', 'procs_priv', 'proxies_priv', 'role_edges', 'default_roles',
'global_grants')") || exit
exec "$dump" --user="$user" --set-gtid-purged=OFF --no-tablespaces --no-create-info --replace \
"$@" mysql $tables
"#;

/// While the official images set up a new data directory, a server without network answers.
const RUN_READY: &str = r#"answer=$("$client" --user="$user" --skip-column-names --batch \
--execute='SELECT @@skip_networking') || exit
[ "$answer" = 0 ] || [ "$1" = local-only ]
"#;

/// What the definition says beside the login.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Whether the server is meant to have no network.
    local_only: bool,
    /// Whether the login may read the accounts.
    accounts: bool,
}

pub(crate) fn recipe(engine: Engine, container: &Container<'_>) -> Recipe {
    let mut directories: Vec<String> = [
        "/var/lib/mysql",
        "/bitnami/mysql",
        "/bitnami/mysql/data",
        "/bitnami/mariadb",
        "/bitnami/mariadb/data",
    ]
    .map(str::to_owned)
    .into();
    directories.extend(container.option("--datadir").map(str::to_owned));
    let any = |names: [&str; 4]| names.iter().any(|name| container.has(name));
    let password = any([
        "MARIADB_ROOT_PASSWORD",
        "MYSQL_ROOT_PASSWORD",
        "MARIADB_ROOT_PASSWORD_FILE",
        "MYSQL_ROOT_PASSWORD_FILE",
    ]);
    let random = container.has("MARIADB_RANDOM_ROOT_PASSWORD")
        || container.has("MYSQL_RANDOM_ROOT_PASSWORD");
    let accounts = password || !random;
    let mut risks = Vec::new();
    if !accounts {
        risks.push(
            "root's password is random and nowhere recorded: accounts are not dumped, and only \
             databases that the application's user may read"
                .to_owned(),
        );
    }
    let settings = Settings {
        local_only: container
            .words()
            .iter()
            .any(|word| word.starts_with("--skip-networking")),
        accounts,
    };
    Recipe::new(
        engine,
        directories,
        risks,
        crate::recipe::Settings::MySql(settings),
    )
}

pub(crate) fn parse_survey(stdout: &[u8]) -> Result<Survey, SurveyRejected> {
    parse_names(stdout)
}

impl Settings {
    pub(crate) fn readiness(&self) -> Exec {
        let expected = if self.local_only {
            "local-only"
        } else {
            "network"
        };
        run(RUN_READY, &[expected])
    }

    pub(crate) fn survey(&self) -> Exec {
        client(&[
            "--execute",
            "SELECT CONCAT('database ', HEX(CONVERT(schema_name USING utf8mb4))) \
             FROM information_schema.schemata WHERE schema_name NOT IN \
             ('information_schema', 'performance_schema', 'mysql', 'sys'); SELECT 'end'",
        ])
    }

    pub(crate) fn dumps(&self, databases: &[String]) -> Vec<DumpStep> {
        let end = || EndCheck::sql(Marker::Completed);
        let accounts = self.accounts.then(|| DumpStep {
            database: None,
            file_name: ACCOUNTS.to_owned(),
            exec: run(RUN_DUMP_ACCOUNTS, &["--comments", "--skip-dump-date"]),
            end,
            known: Known::Nothing,
        });
        let databases = databases.iter().map(|database| DumpStep {
            database: Some(database.clone()),
            file_name: format!("{}{DATABASE_SUFFIX}", escape(database)),
            exec: run(
                RUN_DUMP,
                &[
                    "--single-transaction",
                    "--quick",
                    "--routines",
                    "--triggers",
                    "--events",
                    "--hex-blob",
                    "--default-character-set=utf8mb4",
                    "--comments",
                    "--skip-dump-date",
                    "--add-drop-database",
                    "--databases",
                    "--",
                    database,
                ],
            ),
            end,
            known: Known::Nothing,
        });
        accounts.into_iter().chain(databases).collect()
    }

    pub(crate) fn restore(&self, file_name: &str) -> Option<DumpRestore> {
        if file_name == ACCOUNTS {
            let load = load(
                "load accounts".to_owned(),
                ACCOUNTS_SUFFIX,
                &["--database=mysql"],
            );
            return Some(DumpRestore::running(file_name, None, vec![load]));
        }
        let database = unescape(file_name.strip_suffix(DATABASE_SUFFIX)?)?;
        let steps = vec![load(format!("load database {database}"), SUFFIX, &[])];
        Some(DumpRestore::running(file_name, Some(database), steps))
    }

    pub(crate) fn verify(&self) -> RestoreStep {
        RestoreStep {
            title: "ask the server".to_owned(),
            exec: client(&["--execute", SUFFIX]),
            input: Input::None,
            proof: Proof::Complete,
        }
    }
}

fn load(title: String, suffix: &'static str, arguments: &[&str]) -> RestoreStep {
    let mut exec = client(&["--binary-mode"]);
    exec.argv.extend(arguments.iter().map(ToString::to_string));
    RestoreStep {
        title,
        exec,
        input: Input::Dump { suffix },
        proof: Proof::Complete,
    }
}

fn client(arguments: &[&str]) -> Exec {
    let mut all = vec!["--skip-column-names", "--batch"];
    all.extend(arguments);
    run(RUN_CLIENT, &all)
}

fn run(script: &str, arguments: &[&str]) -> Exec {
    Exec::script(format!("{FIRST}{LOGIN}{script}"), arguments.iter().copied())
}

/// Must match [`crate::exec::COMPLETE`]; its test says so.
const SUFFIX: &str = "\nSELECT 'refloat: all statements arrived';\n";
const ACCOUNTS_SUFFIX: &str = "\nFLUSH PRIVILEGES;\nSELECT 'refloat: all statements arrived';\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_statement_prints_the_closing_line() {
        let line = crate::exec::COMPLETE;
        assert_eq!(SUFFIX, format!("\nSELECT '{line}';\n"));
        assert!(ACCOUNTS_SUFFIX.ends_with(SUFFIX));
    }
}
