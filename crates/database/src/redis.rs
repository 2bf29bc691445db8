//! Redis and Valkey: one RDB file, as a replica would get it.
//!
//! An RDB cannot be streamed into a running server. It is placed in the data volume while the
//! server is stopped. A server that keeps an append-only file ignores `dump.rdb`, in silence, and
//! would start empty; so the dump goes where such a server looks, and the file's name in the
//! point says which of the three places that is.
//!
//! Where a server looks may also stand in its configuration file, which a definition does not
//! show. So after its start the server is asked where it looked and whether it has keys.
//!
//! Invariant: the survey asks the running server how it persists; its definition may not say. A
//! server that is empty while the dump is not never counts as restored.

use refloat_model::secret::Secret;

use crate::container::Container;
use crate::end_check::EndCheck;
use crate::engine::{Engine, VolumeCopy};
use crate::exec::{Exec, FIRST};
use crate::rdb_head::lasting_database;
use crate::recipe::{DumpStep, Known, Recipe, Survey, SurveyRejected};
use crate::restore::{DumpRestore, Input, PlacedContent, PlacedFile, Proof, RestoreStep};

pub(crate) const VOLUME_COPY: VolumeCopy = VolumeCopy::Redundant;

/// The server loads `dump.rdb`.
const SNAPSHOT: &str = "dump.rdb";
/// The server loads the base file that a manifest names (Redis 7 and later).
const APPEND_ONLY: &str = "appendonly.rdb";
/// The server loads one append-only file, which may begin with an RDB (Redis 4 to 6).
const APPEND_ONLY_SINGLE: &str = "appendonly-single.rdb";
/// The first version with a folder for append-only files.
const FOLDER_SINCE: u32 = 7;

/// The password from the environment; one that is only on the server's command line comes in by
/// the exec's environment.
const LOGIN: &str = r#"REDISCLI_AUTH=${REDISCLI_AUTH:-$(first REDIS_PASSWORD VALKEY_PASSWORD)}
if [ -n "$REDISCLI_AUTH" ]
then VALKEYCLI_AUTH=$REDISCLI_AUTH; export REDISCLI_AUTH VALKEYCLI_AUTH
else unset REDISCLI_AUTH; fi
cli=redis-cli
command -v "$cli" >/dev/null || cli=valkey-cli
"#;

const RUN: &str = r#"exec "$cli" "$@"
"#;

/// A server that still loads answers with an error, and the client succeeds.
const RUN_PING: &str = r#"[ "$("$cli" "$@" PING)" = PONG ]
"#;

/// Compares where the server looks with where the dump was placed, if it may be asked (`CONFIG` can
/// be forbidden), and looks for keys. Its arguments: port, folder, a database that must have keys,
/// then names and values of settings.
const RUN_CHECK: &str = r#"port=$1 folder=$2 database=$3
shift 3
ask() { "$cli" ${port:+-p "$port"} "$@"; }
setting() {
ask CONFIG GET "$1" | { IFS= read -r name; IFS= read -r value; [ "$name" = "$1" ] &&
printf %s "$value"; }
}
refuse() { echo "$1" >&2; exit 1; }
if actual=$(setting dir); then
[ "$actual" = "$(cd "$folder" && pwd -P)" ] ||
refuse "the dump was placed in $folder, the server looks in $actual (its configuration file)"
while [ $# -gt 0 ]; do
actual=$(setting "$1") || actual=
[ "$actual" = "$2" ] ||
refuse "the dump was placed for $1 '$2', the server has '$actual' (its configuration file)"
shift 2
done
fi
if [ -n "$database" ]; then
case $(ask INFO keyspace) in
*"db$database:keys="*) ;;
*) refuse "the dump has keys in database $database, the server has none";;
esac
fi
"#;

/// What the definition says.
#[derive(Debug)]
pub(crate) struct Settings {
    port: Option<u16>,
    password: Option<Secret>,
    directory: String,
    snapshot_name: String,
    append_only_folder: String,
    append_only_name: String,
}

pub(crate) fn recipe(engine: Engine, container: &Container<'_>) -> Recipe {
    let default_directory = match engine {
        _ if !container.image.contains("bitnami") => "/data",
        Engine::Valkey => "/bitnami/valkey/data",
        _ => "/bitnami/redis/data",
    };
    let option = |name, default: &str| container.option(name).unwrap_or(default).to_owned();
    let directory = option("--dir", default_directory);
    let settings = Settings {
        port: container
            .option("--port")
            .and_then(|port| port.parse().ok()),
        // Shell variables in a script's text are the container's own and come from its environment.
        password: container
            .option("--requirepass")
            .filter(|password| !password.starts_with('$'))
            .map(Secret::new),
        directory: directory.clone(),
        snapshot_name: option("--dbfilename", SNAPSHOT),
        append_only_folder: option("--appenddirname", "appendonlydir"),
        append_only_name: option("--appendfilename", "appendonly.aof"),
    };
    Recipe::new(
        engine,
        [directory],
        Vec::new(),
        crate::recipe::Settings::Redis(settings),
    )
}

/// Reads `INFO`: the version and whether an append-only file is kept.
pub(crate) fn parse_survey(stdout: &[u8]) -> Result<Survey, SurveyRejected> {
    let text = String::from_utf8_lossy(stdout);
    let field = |name: &str| {
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    };
    let Some(version) = field("redis_version") else {
        return Err(SurveyRejected::NotUnderstood {
            line: text.lines().next().unwrap_or_default().to_owned(),
        });
    };
    let Some(append_only) = field("aof_enabled") else {
        return Err(SurveyRejected::Cut);
    };
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .ok_or_else(|| SurveyRejected::NotUnderstood {
            line: version.to_owned(),
        })?;
    let file_name = match append_only {
        "0" => SNAPSHOT,
        _ if major >= FOLDER_SINCE => APPEND_ONLY,
        _ => APPEND_ONLY_SINGLE,
    };
    Ok(Survey {
        file_name: Some(file_name),
        ..Survey::default()
    })
}

impl Settings {
    /// Whether the dump replaces an entry of the data folder. Lists of users, and what a cluster
    /// knows of its nodes, are others.
    pub(crate) fn is_dumped(&self, entry: &str) -> bool {
        [&self.snapshot_name, &self.append_only_folder].contains(&&entry.to_owned())
            || entry.starts_with(&self.append_only_name)
            || entry.starts_with("temp-")
    }

    pub(crate) fn readiness(&self) -> Exec {
        self.cli(RUN_PING, &[])
    }

    pub(crate) fn survey(&self) -> Exec {
        self.cli(RUN, &["INFO"])
    }

    pub(crate) fn dumps(&self, file_name: Option<&str>) -> Vec<DumpStep> {
        vec![DumpStep {
            database: None,
            file_name: file_name.unwrap_or(SNAPSHOT).to_owned(),
            exec: self.cli(RUN, &["--rdb", "-"]),
            end: EndCheck::rdb,
            known: Known::Nothing,
        }]
    }

    pub(crate) fn restore(&self, file_name: &str) -> Option<DumpRestore> {
        let path = |name: &str| format!("{}/{name}", self.directory.trim_end_matches('/'));
        let dump = |path| PlacedFile {
            path,
            content: PlacedContent::Dump,
        };
        let folder = path(&self.append_only_folder);
        let (removals, placed_files) = match file_name {
            SNAPSHOT => (Vec::new(), vec![dump(path(&self.snapshot_name))]),
            APPEND_ONLY_SINGLE => (Vec::new(), vec![dump(path(&self.append_only_name))]),
            APPEND_ONLY => {
                let base = format!("{}.1.base.rdb", self.append_only_name);
                let manifest = PlacedFile {
                    path: format!("{folder}/{}.manifest", self.append_only_name),
                    content: PlacedContent::Text(format!("file {base} seq 1 type b\n")),
                };
                // The manifest last: without it the server does not look at the base.
                let placed_files = vec![dump(format!("{folder}/{base}")), manifest];
                (vec![folder], placed_files)
            }
            _ => return None,
        };
        Some(DumpRestore {
            placed_files,
            removals,
            ..DumpRestore::running(file_name, None, Vec::new())
        })
    }

    pub(crate) fn check_placed(&self, file_name: &str, head: &[u8]) -> Option<RestoreStep> {
        let (snapshot, file, folder) = (
            self.snapshot_name.as_str(),
            self.append_only_name.as_str(),
            self.append_only_folder.as_str(),
        );
        let settings: &[&str] = match file_name {
            SNAPSHOT => &["appendonly", "no", "dbfilename", snapshot],
            APPEND_ONLY => &[
                "appendonly",
                "yes",
                "appenddirname",
                folder,
                "appendfilename",
                file,
            ],
            // A server that knows a folder does not look at the single file.
            APPEND_ONLY_SINGLE => &[
                "appendonly",
                "yes",
                "appenddirname",
                "",
                "appendfilename",
                file,
            ],
            _ => return None,
        };
        let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        let port = text(self.port.map(u64::from));
        let database = text(lasting_database(head));
        let fixed = [port.as_str(), &self.directory, &database];
        Some(RestoreStep {
            title: format!("check that the server loaded {file_name}"),
            exec: self.script(RUN_CHECK, fixed.into_iter().chain(settings.iter().copied())),
            input: Input::None,
            proof: Proof::ExitStatus,
        })
    }

    pub(crate) fn verify(&self) -> RestoreStep {
        RestoreStep {
            title: "ask the server".to_owned(),
            exec: self.readiness(),
            input: Input::None,
            proof: Proof::ExitStatus,
        }
    }

    fn cli(&self, script: &str, arguments: &[&str]) -> Exec {
        let port = self.port.map(|port| ["-p".to_owned(), port.to_string()]);
        let port = port.iter().flatten().map(String::as_str);
        self.script(script, port.chain(arguments.iter().copied()))
    }

    fn script<'s>(&self, script: &str, arguments: impl IntoIterator<Item = &'s str>) -> Exec {
        let mut exec = Exec::script(format!("{FIRST}{LOGIN}{script}"), arguments);
        exec.environment = self
            .password
            .iter()
            .map(|password| ("REDISCLI_AUTH", Secret::new(password.expose())))
            .collect();
        exec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_survey_decides_where_the_dump_will_be_placed() {
        let check = |version: &str, aof: &str| {
            let info = format!(
                "# Server\r\nredis_version:{version}\r\n# Persistence\r\naof_enabled:{aof}\r\n"
            );
            parse_survey(info.as_bytes()).map(|survey| survey.file_name)
        };
        assert_eq!(check("7.0.15", "0"), Ok(Some(SNAPSHOT)));
        assert_eq!(check("8.0.1", "1"), Ok(Some(APPEND_ONLY)));
        assert_eq!(check("6.2.7", "1"), Ok(Some(APPEND_ONLY_SINGLE)));
        assert_eq!(
            parse_survey(b"NOAUTH Authentication required.\n\n"),
            Err(SurveyRejected::NotUnderstood {
                line: "NOAUTH Authentication required.".into()
            })
        );
        assert_eq!(
            parse_survey(b"redis_version:7.0.15\r\naof_enabled:"),
            Err(SurveyRejected::Cut)
        );
    }
}
