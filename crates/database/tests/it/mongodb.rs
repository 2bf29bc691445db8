//! MongoDB is not in Debian: shell scripts stand in for `mongodump` and `mongorestore`. What is
//! tested is the command line, how the password gets in, and the judgement; the archive's format
//! is tested by the unit tests against archives made after the tools' own description of it.

use refloat_database::{DumpRejected, StepRejected};

use crate::playground::Server;

/// The smallest archive: magic, an empty header document, no collections.
const ARCHIVE: &[u8] = b"\x6d\xe2\x99\x81\x05\0\0\0\0\xff\xff\xff\xff";

const NOTE: &str = r#"for argument; do echo "$argument"; done >"$HOME/arguments"
cat /dev/fd/3 >"$HOME/config""#;

fn server(failed: u32, status: u32) -> Server {
    let dump = format!("{NOTE}\ncat \"$HOME/archive\"; exit {status}");
    let restore = format!(
        "{NOTE}\ncat >\"$HOME/restored\"\n\
         echo '1 document(s) restored successfully. {failed} document(s) failed to restore.' >&2"
    );
    let environment = [
        "MONGO_INITDB_ROOT_USERNAME=boss",
        "MONGO_INITDB_ROOT_PASSWORD=it's $x \"5\"",
    ];
    let stubs = [("mongodump", dump.as_str()), ("mongorestore", &restore)];
    let server = Server::of_stubs("mongo:7", &environment, &[], &stubs);
    std::fs::write(server.folder.path().join("archive"), ARCHIVE).unwrap();
    server
}

#[test]
fn the_password_reaches_the_tools_by_a_file_descriptor() {
    let server = server(0, 0);
    let survey = server.recipe.parse_survey(Some(0), b"").unwrap();
    let dump = server.recipe.dumps(&survey).remove(0);
    assert_eq!(dump.file_name, "mongodump.archive");
    let (stored, judged) = server.dump(&dump);
    assert_eq!(
        (stored.as_slice(), judged.map(|a| a.warnings)),
        (ARCHIVE, Ok(vec![]))
    );
    assert_eq!(
        server.noted("arguments"),
        "--username=boss\n--authenticationDatabase=admin\n--config=/dev/fd/3\n--archive\n"
    );
    let config = "password: 'it''s $x \"5\"'\n";
    assert_eq!(server.noted("config"), config);
    let restore = server
        .recipe
        .restore(&["mongodump.archive"])
        .unwrap()
        .remove(0);
    assert_eq!(server.restore_step(&restore.steps[0], ARCHIVE), Ok(()));
    let restored = std::fs::read(server.folder.path().join("restored"));
    assert_eq!(restored.unwrap(), ARCHIVE);
    assert_eq!(server.noted("config"), config);
}

#[test]
fn failed_dumps_and_failed_documents_are_rejected() {
    let server = server(2, 1);
    let survey = server.recipe.parse_survey(Some(0), b"").unwrap();
    let dump = server.recipe.dumps(&survey).remove(0);
    assert_eq!(
        server.dump(&dump).1,
        Err(DumpRejected::ExitStatus { code: 1 })
    );
    let restore = server
        .recipe
        .restore(&["mongodump.archive"])
        .unwrap()
        .remove(0);
    assert_eq!(
        server.restore_step(&restore.steps[0], ARCHIVE),
        Err(StepRejected::DocumentsFailed {
            title: "load all databases".into()
        })
    );
}

#[test]
fn a_member_of_a_replica_set_is_named_beside_its_dump() {
    let of = |environment: &[&str], command: &[&str]| {
        let server = Server::of_stubs("mongo:7", environment, command, &[]);
        let survey = server.recipe.parse_survey(Some(0), b"").unwrap();
        let mut steps = server.recipe.dumps(&survey);
        (steps.len() == 2).then(|| server.dump(&steps.remove(1)).1.unwrap_err().to_string())
    };
    let said = "it is a member of a replica set: a restore cannot load the dump into a new \
                server, whose set nobody has initiated; the copy of its volume is what comes back";
    assert_eq!(of(&[], &["mongod"]), None);
    assert_eq!(of(&[], &["mongod", "--replSet", "rs0"]).unwrap(), said);
    assert_eq!(
        of(&["MONGODB_REPLICA_SET_MODE=primary"], &[]).unwrap(),
        said
    );
}
