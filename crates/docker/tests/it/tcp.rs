//! Engines over TCP: plain on this machine, encrypted with client certificates.
//!
//! An engine of the testkit listens in a network namespace of its own; the test's thread moves
//! there, and the threads that the source starts come along.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use refloat_docker::{Address, Certificates, ConnectOptions, DockerSource, Options};
use refloat_source::Source;
use refloat_testkit::docker::{Engine, EngineOptions};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::estate::discover;

fn move_to(engine: &Engine) {
    let namespace = File::open(engine.folder().join("netns")).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn openssl(folder: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output();
    match output {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "openssl {arguments}: {error}");
            true
        }
        Err(_) => false,
    }
}

/// An authority, a server for 127.0.0.1 and a client. False where there is no openssl.
fn certificates(folder: &Path) -> bool {
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let authority = format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
    if !openssl(folder, &authority) {
        return false;
    }
    for (name, extension, certificate) in [
        ("server", "server.ext", "server.pem"),
        ("key", "client.ext", "cert.pem"),
    ] {
        let request = format!("req {key} -keyout {name}.pem.key -out {name}.csr -subj /CN={name}");
        openssl(folder, &request);
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile {extension} -out {certificate}"
            ),
        );
    }
    std::fs::rename(folder.join("key.pem.key"), folder.join("key.pem")).unwrap();
    true
}

#[test]
fn plain_tcp_is_for_this_machine() {
    let options = EngineOptions {
        arguments: vec!["--host=tcp://127.0.0.1:2375".into(), "--tls=false".into()],
        ..EngineOptions::default()
    };
    let Some(engine) = Engine::start(&options) else {
        return;
    };
    move_to(&engine);
    let address: Address = "tcp://127.0.0.1:2375".parse().unwrap();
    let source = DockerSource::connect("web", &address, Options::default()).unwrap();
    assert_eq!(source.description().address, "tcp://127.0.0.1:2375");
    let id = engine.docker(["info", "-f", "{{.ID}}"]);
    assert_eq!(discover(&source).identity, id);
}

#[test]
fn encrypted_tcp_needs_certificates_of_the_engines_authority() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        refloat_testkit::skip("openssl is not installed");
        return;
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let options = EngineOptions {
        arguments: vec![
            "--host=tcp://127.0.0.1:2376".into(),
            "--tlsverify".into(),
            format!("--tlscacert={}", file("ca.pem")),
            format!("--tlscert={}", file("server.pem")),
            format!("--tlskey={}", file("server.pem.key")),
        ],
        ..EngineOptions::default()
    };
    let Some(engine) = Engine::start(&options) else {
        return;
    };
    move_to(&engine);
    let connect = |certificates| {
        let options = Options {
            connect: ConnectOptions {
                certificates: Some(certificates),
                ..ConnectOptions::default()
            },
            ..Options::default()
        };
        DockerSource::connect("web", &"tcp://127.0.0.1".parse().unwrap(), options)
    };
    let source = connect(Certificates::in_folder(folder.path())).unwrap();
    assert_eq!(source.description().address, "https://127.0.0.1:2376");
    let id = engine.docker(["info", "-f", "{{.ID}}"]);
    assert_eq!(discover(&source).identity, id);

    // A stranger's certificate is refused.
    let other = tempfile::tempdir().unwrap();
    assert!(certificates(other.path()));
    let stranger = Certificates {
        ca: folder.path().join("ca.pem"),
        ..Certificates::in_folder(other.path())
    };
    let error = connect(stranger).err().expect("a stranger is refused");
    assert_eq!(
        error.to_string(),
        "cannot connect to https://127.0.0.1:2376"
    );
}
