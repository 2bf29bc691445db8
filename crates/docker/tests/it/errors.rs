//! Addresses where there is no engine, and forged ways to one.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use refloat_docker::{ConnectOptions, DockerSource, Options};
use refloat_source::{Source, SourceError};

use crate::estate::{discover, engine};

fn refused(address: &str) -> (String, Option<String>) {
    let parsed = address.parse().unwrap();
    match DockerSource::connect("web", &parsed, Options::default()) {
        Err(SourceError::Unavailable { cause, hint, .. }) => (cause.to_string(), hint),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{address} answers"),
    }
}

#[test]
fn each_kind_of_absence_has_its_own_words_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let (text, hint) = refused(&format!("unix://{}", socket.display()));
    assert_eq!(text, format!("there is no socket {}", socket.display()));
    assert!(hint.unwrap().contains("systemctl start docker"));

    let (text, hint) = refused("tcp://192.0.2.1:2375");
    assert_eq!(
        text,
        "tcp://192.0.2.1:2375 is not encrypted and not on this machine"
    );
    assert!(hint.unwrap().contains("ssh://"));

    let (text, _) = refused("https://192.0.2.1");
    assert_eq!(text, "https://192.0.2.1:2376 needs certificates");

    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let (text, hint) = refused(&format!("unix://{}", dead.display()));
    assert_eq!(text, format!("unix://{} does not answer", dead.display()));
    assert!(hint.unwrap().contains("engine runs"));
}

#[test]
fn something_else_at_the_socket_is_no_engine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _length = connection.read(&mut request).unwrap();
        let body = "<html>hello</html>";
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
    let (text, _) = refused(&format!("unix://{}", path.display()));
    assert_eq!(
        text,
        format!("unix://{} is no Docker or Podman engine", path.display())
    );
    server.join().unwrap();
}

#[test]
fn an_engine_that_is_silent_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mute.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let options = Options {
        connect: ConnectOptions {
            timeout: std::time::Duration::from_secs(1),
            ..ConnectOptions::default()
        },
        ..Options::default()
    };
    let address = format!("unix://{}", path.display()).parse().unwrap();
    let error = DockerSource::connect("web", &address, options)
        .err()
        .unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the engine did not answer for 1 s");
}

/// `ssh` is replaced by a program that connects its standard input and output to the engine, as
/// the real one does at the far end.
#[test]
fn an_engine_is_reached_through_ssh() {
    let Some(engine) = engine() else { return };
    let program = engine.folder().join("ssh");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/ssh.log\nexec docker --host unix://{0}/sock system dial-stdio\n",
        engine.folder().display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = |program| Options {
        connect: ConnectOptions {
            ssh_program: program,
            ..ConnectOptions::default()
        },
        ..Options::default()
    };
    let address = "ssh://ops@far.example".parse().unwrap();
    let source = DockerSource::connect("web", &address, options(program)).unwrap();
    assert_eq!(source.description().address, "ssh://ops@far.example");
    assert_eq!(
        discover(&source).identity,
        engine.docker(["info", "-f", "{{.ID}}"])
    );
    let log = std::fs::read_to_string(engine.folder().join("ssh.log")).unwrap();
    let end = " -T -lops -- far.example docker system dial-stdio";
    assert!(log.lines().all(|line| line.ends_with(end)), "{log}");

    let failing = engine.folder().join("ssh-fails");
    std::fs::write(
        &failing,
        "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
    )
    .unwrap();
    std::fs::set_permissions(&failing, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Err(error) = DockerSource::connect("web", &address, options(failing)) else {
        panic!("it cannot answer")
    };
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        text.push_str(&format!("{error}\n"));
        next = error.source();
    }
    assert!(text.contains("Permission denied (publickey)"), "{text}");
}
