//! The recipe of one container: how to look into it, dump it and fill it again.
//!
//! Invariant: everything a recipe needs is in the container's definition, so that a restored
//! definition gives the same recipe again and none has to be stored.

use std::io::Read;

use crate::checked::CheckedDump;
use crate::container::Container;
use crate::end_check::{EndCheck, Marker};
use crate::engine::{Engine, VolumeCopy};
use crate::exec::Exec;
use crate::recognise::recognise;
use crate::restore::{DumpRestore, RestoreStep, UnknownDump};
use crate::{mongodb, mysql, postgresql, redis};

/// How to dump and restore the database of one container.
#[derive(Debug)]
pub struct Recipe {
    engine: Engine,
    data_directories: Vec<String>,
    risks: Vec<String>,
    settings: Settings,
}

/// What the engines' modules need from the definition.
#[derive(Debug)]
pub(crate) enum Settings {
    PostgreSql(postgresql::Settings),
    MySql(mysql::Settings),
    Redis(redis::Settings),
    MongoDb(mongodb::Settings),
}

/// What a running server told before the dump.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Survey {
    /// Databases to dump one by one; empty where one dump holds all.
    pub databases: Vec<String>,
    /// Databases that take no connections.
    pub(crate) closed: Vec<String>,
    /// Extensions whose data plain dumps cannot bring back.
    pub(crate) extensions: Vec<String>,
    /// Places of data outside the server's own folder, `NAME at PATH`.
    pub(crate) tablespaces: Vec<String>,
    /// The name of the file for engines whose one dump is placed as a file.
    pub(crate) file_name: Option<&'static str>,
}

/// Why the answer to a survey cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SurveyRejected {
    /// The command failed: no such client, wrong password, server down.
    #[error("the survey command ended with exit status {code:?}")]
    ExitStatus {
        /// The status; none if it is not known.
        code: Option<i64>,
    },
    /// The answer has no end: the exec was cut.
    #[error("the answer to the survey is cut short")]
    Cut,
    /// The answer is not what the client prints.
    #[error("the answer to the survey is not understood: {line:?}")]
    NotUnderstood {
        /// The first line that is not understood.
        line: String,
    },
}

/// One dump: a command whose standard output is the content of one file.
#[derive(Debug)]
pub struct DumpStep {
    /// The database; none for accounts, and for engines that dump everything at once.
    pub database: Option<String>,
    /// The file's name in the container's `dumps/` folder: one valid path component.
    pub file_name: String,
    /// The command. Its standard output is the dump, its standard error is for people.
    pub exec: Exec,
    pub(crate) end: fn() -> EndCheck,
    pub(crate) known: Known,
}

/// What is known of a dump before it is made.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Nothing,
    /// What a person should know of it.
    Warnings(Vec<String>),
    /// Why there is none, or none that a restore could use: it is to be named as failed.
    Refused(String),
}

/// What stands in the place of a dump that is refused: no file of this name is ever kept.
pub(crate) const TIMESCALE: &str = "timescaledb";
pub(crate) const TABLESPACES: &str = "tablespaces";
pub(crate) const REPLICA_SET: &str = "replica-set";

/// Whether a file that a point lacks is no dump, and only says what the others cannot be loaded
/// into: a new server.
#[must_use]
pub fn is_refusal(file_name: &str) -> bool {
    [TIMESCALE, TABLESPACES, REPLICA_SET].contains(&file_name)
}

impl DumpStep {
    /// What the dumps lack, in the place of a dump: the command prints nothing and counts as failed.
    pub(crate) fn refused(file_name: String, why: String) -> Self {
        Self {
            database: None,
            file_name,
            exec: Exec::script(":".to_owned(), [""; 0]),
            end: || EndCheck::sql(Marker::Completed),
            known: Known::Refused(why),
        }
    }

    /// Wraps the command's standard output: reading to the end succeeds only if the dump is whole.
    ///
    /// `exit_code` is called once, when the output has ended; none means that it is not known.
    pub fn checked<R, F>(&self, output: R, exit_code: F) -> CheckedDump<R, F>
    where
        R: Read,
        F: FnOnce() -> Option<i64>,
    {
        CheckedDump::new((self.end)(), output, exit_code, self.known.clone())
    }
}

impl Recipe {
    /// The recipe for a container, if it runs a database server that has one.
    #[must_use]
    pub fn recognise(container: &Container<'_>) -> Option<Self> {
        let engine = recognise(container)?;
        Some(match engine {
            Engine::PostgreSql => postgresql::recipe(container),
            Engine::MySql | Engine::MariaDb => mysql::recipe(engine, container),
            Engine::Redis | Engine::Valkey => redis::recipe(engine, container),
            Engine::MongoDb => mongodb::recipe(container),
        })
    }

    pub(crate) fn new(
        engine: Engine,
        data_directories: impl IntoIterator<Item = impl Into<String>>,
        risks: Vec<String>,
        settings: Settings,
    ) -> Self {
        Self {
            engine,
            data_directories: data_directories.into_iter().map(Into::into).collect(),
            risks,
            settings,
        }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// What the dumps of this container may lack, for `discover`.
    #[must_use]
    pub fn risks(&self) -> &[String] {
        &self.risks
    }

    /// Where the engine keeps its data inside the container.
    #[must_use]
    pub fn data_directories(&self) -> &[String] {
        &self.data_directories
    }

    /// Whether a mount at `destination` holds the engine's data: a live database volume.
    #[must_use]
    pub fn owns_mount(&self, destination: &str) -> bool {
        self.data_below(destination).is_some()
    }

    /// The path below a mount at `destination` by which its data is reached; empty if all of the
    /// mount is data, none if the engine has no data there. What is mounted *into* a data folder
    /// (backups, certificates) is somebody else's, unless the engine has a name for the place.
    #[must_use]
    pub fn data_below(&self, destination: &str) -> Option<&str> {
        let destination = destination.trim_end_matches('/');
        let parts: &[&str] = match self.settings {
            Settings::PostgreSql(_) => &postgresql::MOVED_PARTS,
            _ => &[],
        };
        let is_data = |data: &String| {
            let rest = below(destination, data.trim_end_matches('/'))?;
            let part = rest.split('/').next().unwrap_or_default();
            (part.is_empty() || parts.contains(&part)).then_some("")
        };
        let leads_there = |data| below(data, destination).filter(|_| !destination.is_empty());
        let mut folders = self.data_directories.iter();
        let found = folders.clone().find_map(is_data);
        found.or_else(|| folders.find_map(|data| leads_there(data)))
    }

    /// Whether dumps replace an entry of the data folder, by its name.
    #[must_use]
    pub fn is_dumped(&self, entry: &str) -> bool {
        match &self.settings {
            Settings::Redis(s) => s.is_dumped(entry),
            Settings::PostgreSql(_) | Settings::MySql(_) | Settings::MongoDb(_) => true,
        }
    }

    /// Whether accepted dumps make a copy of the data volume redundant.
    #[must_use]
    pub const fn volume_copy(&self) -> VolumeCopy {
        match self.settings {
            Settings::PostgreSql(_) => postgresql::VOLUME_COPY,
            Settings::MySql(_) => mysql::VOLUME_COPY,
            Settings::Redis(_) => redis::VOLUME_COPY,
            Settings::MongoDb(_) => mongodb::VOLUME_COPY,
        }
    }

    /// Ends with status 0 once the server answers; to be repeated until then.
    #[must_use]
    pub fn readiness(&self) -> Exec {
        match &self.settings {
            Settings::PostgreSql(s) => s.readiness(),
            Settings::MySql(s) => s.readiness(),
            Settings::Redis(s) => s.readiness(),
            Settings::MongoDb(s) => s.readiness(),
        }
    }

    /// Asks the running server what there is to dump.
    #[must_use]
    pub fn survey(&self) -> Exec {
        match &self.settings {
            Settings::PostgreSql(s) => s.survey(),
            Settings::MySql(s) => s.survey(),
            Settings::Redis(s) => s.survey(),
            Settings::MongoDb(s) => s.survey(),
        }
    }

    /// Reads the survey's standard output.
    ///
    /// # Errors
    /// The command failed, or its answer was cut or is not understood: there is nothing to dump
    /// that could be called complete.
    pub fn parse_survey(
        &self,
        exit_code: Option<i64>,
        stdout: &[u8],
    ) -> Result<Survey, SurveyRejected> {
        if exit_code != Some(0) {
            return Err(SurveyRejected::ExitStatus { code: exit_code });
        }
        match &self.settings {
            Settings::PostgreSql(_) => postgresql::parse_survey(stdout),
            Settings::MySql(_) => mysql::parse_survey(stdout),
            Settings::Redis(_) => redis::parse_survey(stdout),
            Settings::MongoDb(_) => Ok(Survey::default()),
        }
    }

    /// The dumps that together hold what the survey found.
    #[must_use]
    pub fn dumps(&self, survey: &Survey) -> Vec<DumpStep> {
        match &self.settings {
            Settings::PostgreSql(s) => s.dumps(survey),
            Settings::MySql(s) => s.dumps(&survey.databases),
            Settings::Redis(s) => s.dumps(survey.file_name),
            Settings::MongoDb(s) => s.dumps(),
        }
    }

    /// How to bring dumps back, in the order in which it must be done: accounts first, except
    /// where they name tables that must be there (MariaDB; there an owner may come later).
    ///
    /// # Errors
    /// A file's name is none that [`dumps`](Self::dumps) gives for this engine.
    pub fn restore<S: AsRef<str>>(
        &self,
        file_names: &[S],
    ) -> Result<Vec<DumpRestore>, UnknownDump> {
        let mut restores = file_names
            .iter()
            .map(|name| self.restore_one(name.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let accounts_last = self.engine == Engine::MariaDb;
        restores.sort_by_key(|restore| {
            let late = restore.database.is_some() != accounts_last;
            (late, restore.file_name.clone())
        });
        Ok(restores)
    }

    /// Checks after all restores that the server serves.
    #[must_use]
    pub fn verify(&self) -> RestoreStep {
        match &self.settings {
            Settings::PostgreSql(s) => s.verify(),
            Settings::MySql(s) => s.verify(),
            Settings::Redis(s) => s.verify(),
            Settings::MongoDb(s) => s.verify(),
        }
    }

    /// Checks after the start that the server loaded a placed dump; none where none is placed.
    /// `head` is the dump's beginning, [`HEAD_BYTES`](crate::HEAD_BYTES) of it if there are so many.
    #[must_use]
    pub fn check_placed(&self, file_name: &str, head: &[u8]) -> Option<RestoreStep> {
        match &self.settings {
            Settings::Redis(s) => s.check_placed(file_name, head),
            Settings::PostgreSql(_) | Settings::MySql(_) | Settings::MongoDb(_) => None,
        }
    }

    fn restore_one(&self, file_name: &str) -> Result<DumpRestore, UnknownDump> {
        match &self.settings {
            Settings::PostgreSql(s) => s.restore(file_name),
            Settings::MySql(s) => s.restore(file_name),
            Settings::Redis(s) => s.restore(file_name),
            Settings::MongoDb(s) => s.restore(file_name),
        }
        .ok_or_else(|| UnknownDump {
            engine: self.engine,
            file_name: file_name.to_owned(),
        })
    }
}

/// What leads from `folder` to `path`, if it is there or below.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(folder)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
}

/// The end of the name of a file that holds one database; what else there is has another.
pub(crate) const DATABASE_SUFFIX: &str = ".database.sql";

/// Reads lines of a word (`database`, `closed`, `extension`, `tablespace`) and a name in hex digits,
/// and the line `end` behind them.
pub(crate) fn parse_names(stdout: &[u8]) -> Result<Survey, SurveyRejected> {
    let text = String::from_utf8_lossy(stdout);
    let Some(names) = text.trim_end().strip_suffix("end") else {
        return Err(SurveyRejected::Cut);
    };
    let mut survey = Survey::default();
    for line in names.lines() {
        let (kind, name) = line.split_once(' ').unwrap_or_default();
        let found = match kind {
            "database" => &mut survey.databases,
            "closed" => &mut survey.closed,
            "extension" => &mut survey.extensions,
            "tablespace" => &mut survey.tablespaces,
            _ => return Err(not_understood(line)),
        };
        found.push(parse_hex(name).ok_or_else(|| not_understood(line))?);
    }
    for names in [
        &mut survey.databases,
        &mut survey.closed,
        &mut survey.tablespaces,
    ] {
        names.sort();
    }
    Ok(survey)
}

fn not_understood(line: &str) -> SurveyRejected {
    SurveyRejected::NotUnderstood {
        line: line.to_owned(),
    }
}

fn parse_hex(digits: &str) -> Option<String> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(digits.chunks_exact(2).map(byte).collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whole_or_not_at_all() {
        let names = |text: &str| parse_names(text.as_bytes()).map(|survey| survey.databases);
        assert_eq!(
            names("database 73686F70\ndatabase 610a62\nend\n"),
            Ok(vec!["a\nb".to_owned(), "shop".to_owned()])
        );
        assert_eq!(names("end\n"), Ok(Vec::new()));
        for cut in ["", "database 73686f70\n", "database 73686f70\nen"] {
            assert_eq!(names(cut), Err(SurveyRejected::Cut), "{cut:?}");
        }
        for line in ["hello", "database 7", "database zz", "database ff"] {
            assert_eq!(
                names(&format!("{line}\nend\n")),
                Err(SurveyRejected::NotUnderstood { line: line.into() })
            );
        }
    }

    #[test]
    fn mounts_that_hold_the_data_are_live_and_what_is_mounted_into_it_is_not() {
        let check = |image: &str, data: &str, mounts: &[(&str, Option<&str>)]| {
            let environment: Vec<String> = [data.to_owned()].into();
            let container = Container {
                image,
                environment: &environment,
                command: &[],
            };
            let recipe = Recipe::recognise(&container).unwrap();
            for (mount, expected) in mounts {
                assert_eq!(recipe.data_below(mount), *expected, "{image} {mount}");
            }
        };
        let postgres = [
            ("/srv/app/pg", Some("")),
            ("/srv/app/pg/", Some("")),
            ("/srv/app/pg/pg_wal", Some("")),
            ("/srv/app/pg/pg_tblspc/16384", Some("")),
            ("/srv/app/", Some("pg")),
            ("/srv", Some("app/pg")),
            ("/srv/app/pg/backups", None),
            ("/srv/app/pg/server.crt", None),
            ("/srv/app/p", None),
            ("/srv/app/pg2", None),
            ("/var/lib/postgresql/data", None),
            ("/", None),
            ("/docker-entrypoint-initdb.d", None),
        ];
        check("postgres:15", "PGDATA=/srv/app/pg", &postgres);
        let official = [
            ("/var/lib/postgresql", Some("data")),
            ("/var/lib/postgresql/backups", None),
            ("/var/lib/postgresql/server.crt", None),
        ];
        check("postgres:15", "PGDATA=/var/lib/postgresql/data", &official);
        let bitnami = [
            ("/bitnami/postgresql", Some("")),
            ("/bitnami/postgresql/data", Some("")),
            ("/bitnami/postgresql/conf", None),
        ];
        check("bitnami/postgresql", "X=", &bitnami);
        check("mariadb", "X=", &[("/var/lib/mysql/conf", None)]);
        check("redis", "X=", &[("/data", Some(""))]);
    }
}
