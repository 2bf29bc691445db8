//! MongoDB: one archive of everything by `mongodump`, filled back by `mongorestore --drop`.
//!
//! The tools take a password only as an argument or from a file; they get it from a file
//! descriptor, so that it appears in no list of processes.
//!
//! Invariant: the archive is judged by its own structure; see `end_check/mongo_archive.rs`.

use crate::container::Container;
use crate::end_check::EndCheck;
use crate::engine::{Engine, VolumeCopy};
use crate::exec::{Exec, FIRST};
use crate::recipe::{DumpStep, Known, REPLICA_SET, Recipe};
use crate::restore::{DumpRestore, Input, Proof, RestoreStep};

pub(crate) const VOLUME_COPY: VolumeCopy = VolumeCopy::HoldsMore {
    what: "the replica set's configuration and operation log",
};

/// A new member takes no writes before somebody initiates its set.
const REPLICATES: &str = "it is a member of a replica set: a restore cannot load the dump into a \
    new server, whose set nobody has initiated; the copy of its volume is what comes back";

const ARCHIVE: &str = "mongodump.archive";

const RUN: &str = r#"user=$(first MONGO_INITDB_ROOT_USERNAME MONGODB_ROOT_USER)
password=$(first MONGO_INITDB_ROOT_PASSWORD MONGODB_ROOT_PASSWORD)
if [ -z "$password" ]; then exec "$@"; fi
program=$1
shift
quoted=$(printf %s "$password" | sed "s/'/''/g")
exec "$program" --username="${user:-root}" --authenticationDatabase=admin --config=/dev/fd/3 \
"$@" 3<<END
password: '$quoted'
END
"#;

/// A ping needs no login. The old shell is called `mongo`.
const RUN_PING: &str = r#"shell=mongosh
command -v "$shell" >/dev/null || shell=mongo
exec "$shell" --quiet --norc "$@" --eval 'if (db.adminCommand("ping").ok != 1) quit(1)'
"#;

/// What the definition says.
#[derive(Debug)]
pub(crate) struct Settings {
    port: Option<u16>,
    /// Whether it is a member of a replica set.
    replicates: bool,
}

pub(crate) fn recipe(container: &Container<'_>) -> Recipe {
    let mut directories: Vec<String> = [
        "/data/db",
        "/bitnami/mongodb",
        "/bitnami/mongodb/data",
        "/bitnami/mongodb/data/db",
    ]
    .map(str::to_owned)
    .into();
    directories.extend(container.option("--dbpath").map(str::to_owned));
    let settings = Settings {
        port: container
            .option("--port")
            .and_then(|port| port.parse().ok()),
        replicates: container.option("--replSet").is_some()
            || ["MONGODB_REPLICA_SET_MODE", "MONGODB_REPLICA_SET_NAME"]
                .iter()
                .any(|name| container.has(name)),
    };
    let risks = vec![
        "collections are dumped one after the other: not one moment across collections".to_owned(),
    ];
    Recipe::new(
        Engine::MongoDb,
        directories,
        risks,
        crate::recipe::Settings::MongoDb(settings),
    )
}

impl Settings {
    pub(crate) fn readiness(&self) -> Exec {
        Exec::script(RUN_PING.to_owned(), self.port_option())
    }

    /// Asks only whether the tool is there.
    pub(crate) fn survey(&self) -> Exec {
        Exec::new(["mongodump", "--version"])
    }

    pub(crate) fn dumps(&self) -> Vec<DumpStep> {
        let mut steps = vec![DumpStep {
            database: None,
            file_name: ARCHIVE.to_owned(),
            exec: self.tool("mongodump", &["--archive"]),
            end: EndCheck::mongo_archive,
            known: Known::Nothing,
        }];
        if self.replicates {
            steps.push(DumpStep::refused(
                REPLICA_SET.to_owned(),
                REPLICATES.to_owned(),
            ));
        }
        steps
    }

    pub(crate) fn restore(&self, file_name: &str) -> Option<DumpRestore> {
        let load = RestoreStep {
            title: "load all databases".to_owned(),
            exec: self.tool("mongorestore", &["--archive", "--drop"]),
            input: Input::Dump { suffix: "" },
            proof: Proof::NoDocumentFailed,
        };
        (file_name == ARCHIVE).then(|| DumpRestore::running(file_name, None, vec![load]))
    }

    pub(crate) fn verify(&self) -> RestoreStep {
        RestoreStep {
            title: "ask the server".to_owned(),
            exec: self.readiness(),
            input: Input::None,
            proof: Proof::ExitStatus,
        }
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> Exec {
        let arguments = arguments.iter().map(ToString::to_string);
        let argv = [program.to_owned()].into_iter().chain(self.port_option());
        Exec::script(format!("{FIRST}{RUN}"), argv.chain(arguments))
    }

    fn port_option(&self) -> Option<String> {
        self.port.map(|port| format!("--port={port}"))
    }
}
