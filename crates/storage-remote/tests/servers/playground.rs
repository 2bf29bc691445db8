//! Opening storage as the front-end does, on servers of the test.

use std::cell::Cell;
use std::path::Path;

use refloat_model::secret::Secret;
use refloat_storage::{Location, SharedStorage};
use refloat_storage_remote::{Login, Options, Surroundings, open};

/// The storage of an address.
pub fn storage(address: &str, options: Options, around: &Surroundings) -> SharedStorage {
    let Location::Remote(address) = address.parse().unwrap() else {
        panic!("{address} is remote");
    };
    open(&address, options, around).unwrap()
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
