//! MongoDB is not in Debian: shell scripts stand in for `mongodump` and `mongorestore`. What is
//! tested is the command line, how the password gets in, and the judgement; the archive's format
//! is tested by the unit tests against archives made after the tools' own description of it.

use std::os::unix::fs::PermissionsExt;

use refloat_database::{DumpRejected, StepRejected};

use crate::playground::Server;

/// The smallest archive: magic, an empty header document, no collections.
const ARCHIVE: &[u8] = b"\x6d\xe2\x99\x81\x05\0\0\0\0\xff\xff\xff\xff";

/// A "container" whose tools note how they were called.
fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    std::fs::write(folder.path().join("archive"), ARCHIVE).unwrap();
    let note = "printf '%s\\n' \"$@\" > $HOME/arguments; cat /dev/fd/3 > $HOME/config";
    for (name, work) in [
        ("mongodump", "cat $HOME/archive; exit ${STATUS:-0}"),
        (
            "mongorestore",
            "cat > $HOME/restored; echo \"1 document(s) restored successfully. ${FAILED:-0} document(s) failed to restore.\" >&2",
        ),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{note}\n{work}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let environment = vec![
        format!("HOME={path}"),
        format!("PATH={path}:/usr/bin:/bin"),
        "MONGO_INITDB_ROOT_USERNAME=boss".to_owned(),
        "MONGO_INITDB_ROOT_PASSWORD=it's $x \"5\"".to_owned(),
    ];
    Server::new(folder, "mongo:7", environment, &[])
}

fn noted(server: &Server, what: &str) -> String {
    std::fs::read_to_string(server.folder.path().join(what)).unwrap()
}

#[test]
fn the_password_reaches_the_tools_by_a_file_descriptor() {
    let server = server();
    let dumps = server.dump_all();
    assert_eq!(dumps, [("mongodump.archive".to_owned(), ARCHIVE.to_vec())]);
    assert_eq!(
        noted(&server, "arguments"),
        "--username=boss\n--authenticationDatabase=admin\n--config=/dev/fd/3\n--archive\n"
    );
    assert_eq!(noted(&server, "config"), "password: 'it''s $x \"5\"'\n");
    let restore = server
        .recipe
        .restore(&["mongodump.archive"])
        .unwrap()
        .remove(0);
    assert_eq!(server.restore_step(&restore.steps[0], ARCHIVE), Ok(()));
    assert_eq!(
        std::fs::read(server.folder.path().join("restored")).unwrap(),
        ARCHIVE
    );
    assert_eq!(noted(&server, "config"), "password: 'it''s $x \"5\"'\n");
}

#[test]
fn failed_dumps_and_failed_documents_are_rejected() {
    let mut server = server();
    let finished = server.run(&server.recipe.survey(), b"");
    let survey = server
        .recipe
        .parse_survey(finished.code, &finished.stdout)
        .unwrap();
    let dump = server.recipe.dumps(&survey).remove(0);
    server
        .environment
        .extend(["STATUS=1".to_owned(), "FAILED=2".to_owned()]);
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
