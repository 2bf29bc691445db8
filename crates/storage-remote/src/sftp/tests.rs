//! Repositories on servers that say little of what they have.

use refloat_storage::Location;

use super::*;

/// A storage over a session with the stub.
fn sftp(mode: &str, root: &str) -> Sftp {
    let Ok(Location::Remote(address)) = format!("sftp://stub/{root}").parse() else {
        panic!("an address");
    };
    let connect = ConnectOptions::default();
    let sftp = Sftp::new(&address, None, &connect, &Surroundings::empty()).unwrap();
    let session = session::with_stub(mode, connect.silence_max);
    *sftp.session.lock().unwrap() = Some(Arc::new(session));
    sftp
}

#[test]
fn what_a_listing_does_not_tell_is_asked_for() {
    let pack = FileKey::new(FileKind::Pack, [0xab; 32]);
    let listed = sftp("sparse", "/r").list(FileKind::Pack).unwrap();
    let listed: Vec<_> = listed.iter().map(|file| (file.key, file.size)).collect();
    assert_eq!(listed, [(pack, 7)], "and quarantine is no folder of packs");
    let error = sftp("vague", "/r").list(FileKind::Pack).unwrap_err();
    assert!(crate::stand_in::text(&error).contains("what it is"));
}

/// What a listing leaves out counts as deleted, and a prune goes by that.
#[test]
fn what_stands_in_a_files_place_and_is_none_is_named() {
    for (mode, expected) in [
        (
            "linked",
            format!("no plain file at /r/data/ab/{}", "ab".repeat(32)),
        ),
        ("linked-folder", "no plain folder at /r/data/ab".to_owned()),
    ] {
        let error = sftp(mode, "/r").list(FileKind::Pack).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Failed);
        let text = crate::stand_in::text(&error);
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_empty_only_beside_a_config() {
    for kind in FileKind::FOLDERS {
        let error = sftp("sparse", "/absent").list(kind).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::NoPlace, "{kind:?}");
    }
}

#[test]
fn a_size_that_cannot_be_is_not_believed() {
    let pack = FileKey::new(FileKind::Pack, [0xab; 32]);
    let error = sftp("boasting", "/r").read(&pack).unwrap_err();
    assert!(crate::stand_in::text(&error).contains("is larger than"));
}

#[test]
fn what_breaks_while_bytes_move_may_pass() {
    use StorageErrorKind::{Busy, Failed, Full, ShortRead};
    let pack = FileKey::new(FileKind::Pack, [0xab; 32]);
    let absent = FileKey::new(FileKind::Pack, [0xcd; 32]);
    let read = |mode| sftp(mode, "/r").read(&pack).unwrap_err();
    let write = |mode| sftp(mode, "/r").write(&absent, b"pack").unwrap_err();
    for (error, kind) in [
        (read("ends"), ShortRead),
        (read("unreadable"), Busy),
        (write("unwritable"), Busy),
        (write("unclosable"), Busy),
        (write("full"), Full),
        (write("forbidden"), Failed),
    ] {
        assert_eq!(error.kind(), kind, "{}", crate::stand_in::text(&error));
    }
}
