//! Opening storage as the front-end does, on servers of the test.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, SystemTime};

use refloat_model::secret::Secret;
use refloat_storage::temporaries::StaleTemporaries;
use refloat_storage::{FileKey, FileKind, Location, SharedStorage};
use refloat_storage_remote::{Login, Options, Surroundings, open, temporaries};
use refloat_testkit::conformance;

/// The storage of an address.
pub fn storage(address: &str, options: Options, around: &Surroundings) -> SharedStorage {
    let Location::Remote(address) = address.parse().unwrap() else {
        panic!("{address} is remote");
    };
    open(&address, options, around).unwrap()
}

/// Leaves unfinished files of several ages in a repository at an address, whose folder is `root` on
/// this machine, and finds that exactly the old ones go.
pub fn removes_what_died(address: &str, options: impl Fn() -> Options, root: &Path) {
    let around = Surroundings::empty();
    let storage = storage(address, options(), &around);
    storage.create().unwrap();
    storage.write(&FileKey::CONFIG, b"config").unwrap();
    let pack = conformance::named(FileKind::Pack, b"pack");
    storage.write(&pack, b"pack").unwrap();
    let Location::Remote(remote) = address.parse().unwrap() else {
        panic!("{address} is remote");
    };
    let place = temporaries(&remote, options(), &around).unwrap().unwrap();
    let day = Duration::from_hours(24);
    assert_eq!(
        place.remove_stale(day).unwrap(),
        StaleTemporaries::default()
    );
    let lock = conformance::named(FileKind::Lock, b"lock");
    let left = |path: String, age: Duration| {
        let path = root.join(path);
        std::fs::write(&path, b"12345").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    };
    let old = [
        left(
            format!("{}.1764000000000000000-0.tmp", pack.path()),
            day * 2,
        ),
        left(
            format!("{}.1764000000000000000-1.tmp", lock.path()),
            day * 2,
        ),
        left("config.1764000000000000000-2.tmp".to_owned(), day * 2),
    ];
    let kept = [
        left(
            format!("{}.1764000000000000000-3.tmp", pack.path()),
            day / 2,
        ),
        left(format!("{}.tmp", pack.path()), day * 2),
        left("data/notes.1-2.tmp".to_owned(), day * 2),
        root.join("config"),
        root.join(pack.path()),
    ];
    let removed = place.remove_stale(day).unwrap();
    assert_eq!(
        removed,
        StaleTemporaries {
            files: 3,
            bytes: 15
        }
    );
    assert!(old.iter().all(|path| !path.exists()), "{old:?}");
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    let in_root = std::fs::read_dir(root).unwrap();
    let names = in_root.map(|entry| entry.unwrap().file_name());
    let probes = names.filter(|name| name.to_string_lossy().ends_with(".tmp"));
    assert_eq!(probes.count(), 0, "the probe is gone");
}

/// The text of an error and its causes.
pub fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// A name and a password.
pub fn login((user, password): (&str, &str)) -> Option<Login> {
    Some(Login {
        user: user.to_owned(),
        password: Secret::new(password),
    })
}

/// Names that no earlier check used.
#[derive(Default)]
pub struct Names(Cell<u32>);

impl Names {
    pub fn next(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!("repository-{}", self.0.get())
    }
}

/// An authority, `ca.pem`, and a certificate of its for this name or address with its key,
/// `cert.pem` and `key.pem`.
pub fn certificate(folder: &Path, name: &str) {
    std::fs::write(folder.join("names"), format!("subjectAltName={name}")).unwrap();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let openssl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        let output = command
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let ca = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=refloat test authority",
    ];
    openssl(
        &[
            &ca[..],
            &key[..],
            &["-keyout", "ca-key.pem", "-out", "ca.pem"],
        ]
        .concat(),
    );
    let request = ["req", "-subj", "/CN=refloat test"];
    openssl(
        &[
            &request[..],
            &key[..],
            &["-keyout", "key.pem", "-out", "request.pem"],
        ]
        .concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca-key.pem",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "cert.pem",
    ]);
}
