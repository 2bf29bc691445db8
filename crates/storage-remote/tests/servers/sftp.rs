//! SFTP on OpenSSH's server.

use std::path::PathBuf;

use refloat_storage::{FileKey, FileKind, StorageErrorKind};
use refloat_storage_remote::{Options, Surroundings};
use refloat_testkit::conformance;
use refloat_testkit::servers::{SshServer, free_port};

use crate::playground::{Names, removes_what_died, storage, text};

fn options(config: PathBuf) -> Options {
    Options {
        ssh_config: Some(config),
        ..Options::default()
    }
}

fn address(server: &SshServer, path: &str) -> String {
    format!("sftp://{}@127.0.0.1:{}/{path}", server.user, server.port)
}

#[test]
fn an_sftp_server_keeps_the_contract() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let names = Names::default();
    let around = Surroundings::empty();
    let next = || format!("{}/{}/deep", folder.path().display(), names.next());
    conformance::run(|| {
        storage(
            &address(&server, &next()),
            options(server.client_config()),
            &around,
        )
    });
    let twice = address(&server, &next());
    let open = || storage(&twice, options(server.client_config()), &around);
    conformance::run_two_openings(&*open(), &*open());
}

/// What somebody moved away is not there, and what is gone is not empty.
#[test]
fn only_files_at_their_place_count_and_only_beside_a_config() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let address = address(&server, &root.display().to_string());
    let around = Surroundings::empty();
    let storage = storage(&address, options(server.client_config()), &around);
    storage.create().unwrap();
    storage.write(&FileKey::CONFIG, b"config").unwrap();
    let packs = [1_u8, 2, 3].map(|byte| {
        let pack = conformance::named(FileKind::Pack, &[byte]);
        storage.write(&pack, &[byte]).unwrap();
        pack
    });
    for (pack, other) in packs.iter().zip(["quarantine", "zz"]) {
        std::fs::create_dir(root.join("data").join(other)).unwrap();
        let moved = root.join("data").join(other).join(pack.name());
        std::fs::rename(root.join(pack.path()), moved).unwrap();
    }
    let listed = storage.list(FileKind::Pack).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key, packs[2]);
    std::fs::remove_dir(root.join("locks")).unwrap();
    assert_eq!(
        storage.list(FileKind::Lock).unwrap(),
        [],
        "left out by a copy"
    );
    std::fs::rename(&root, folder.path().join("elsewhere")).unwrap();
    for kind in FileKind::FOLDERS {
        let error = storage.list(kind).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::NoPlace, "{}", text(&error));
    }
}

#[test]
fn what_writers_left_that_died_is_removed() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let address = address(&server, &root.display().to_string());
    removes_what_died(&address, || options(server.client_config()), &root);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let address = address(&server, &root.display().to_string());
    let storage = storage(
        &address,
        options(server.client_config()),
        &Surroundings::empty(),
    );
    storage.create().unwrap();
    let key = conformance::named(FileKind::Key, b"key");
    storage.write(&key, b"key").unwrap();
    let mode = |path: &str| {
        let metadata = std::fs::metadata(root.join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("keys"), mode(&key.path())), (0o700, 0o600));
}

#[test]
fn a_broken_connection_is_made_again() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let address = address(&server, &folder.path().display().to_string());
    let storage = storage(
        &address,
        options(server.client_config()),
        &Surroundings::empty(),
    );
    storage.create().unwrap();
    let key = conformance::named(FileKind::Pack, b"pack");
    storage.write(&key, b"pack").unwrap();
    // The server's process of this connection is the only child that serves it.
    let log = server.server.log();
    assert!(log.contains("Accepted publickey"), "{log}");
    for child in children_of_listener(&server) {
        let status = std::process::Command::new("kill")
            .arg(child)
            .status()
            .unwrap();
        assert!(status.success());
    }
    let error = (0..50).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        storage.size(&key).err()
    });
    if let Some(error) = error {
        assert_eq!(
            error.kind(),
            StorageErrorKind::Unavailable,
            "{}",
            text(&error)
        );
    }
    assert_eq!(storage.read(&key).unwrap(), b"pack");
}

fn children_of_listener(server: &SshServer) -> Vec<String> {
    let pid = std::fs::read_to_string(server.server.folder().join("ssh/pid")).unwrap();
    let pid = pid.trim();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn strangers_and_absent_servers_are_told() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let look = |address: &str, config: PathBuf| {
        let storage = storage(address, options(config), &Surroundings::empty());
        let error = storage.size(&FileKey::CONFIG).unwrap_err();
        (error.kind(), text(&error))
    };
    let config = std::fs::read_to_string(server.client_config()).unwrap();
    let other = |name: &str, from: &str, to: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, config.replace(from, to)).unwrap();
        path
    };
    let path = folder.path().display().to_string();
    let here = address(&server, &path);

    let unknown_host = other("known", "ssh/known", "ssh/nobody");
    let (kind, shown) = look(&here, unknown_host);
    assert_eq!(kind, StorageErrorKind::Untrusted, "{shown}");
    assert!(shown.contains("Host key verification failed"), "{shown}");

    let no_key = other("key", "ssh/id", "ssh/absent");
    let (kind, shown) = look(&here, no_key);
    assert_eq!(kind, StorageErrorKind::Unauthorized, "{shown}");
    assert!(shown.contains("Permission denied"), "{shown}");

    let closed = format!("sftp://127.0.0.1:{}/{path}", free_port());
    let (kind, shown) = look(&closed, server.client_config());
    assert_eq!(kind, StorageErrorKind::Unavailable, "{shown}");
    assert!(shown.contains("Connection refused"), "{shown}");
}
