//! Who asks: passwords, tokens, helpers, certificates; and that none of it shows.
//!
//! Passwords and certificates are checked by a real registry; the token service is a [`Fake`].

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_model::secret::Secret;
use refloat_registry::{
    ConnectOptions, Credentials, RegistryOptions, RegistrySource, RegistryTarget, TargetOptions,
};
use refloat_source::SourceError;

use crate::images::{image, noise};
use crate::memory::{Run, back_up, chain};
use crate::misbehaving::{Answer, Asked, Fake, Good};
use crate::misbehaviour::{options, source};
use crate::server::{Server, Setup};

/// `ann` with the password `hunter2`, bcrypt.
const HTPASSWD: &str = "ann:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n";
const BASIC: &str = "Basic YW5uOmh1bnRlcjI=";

fn with(credentials: Credentials) -> RegistryOptions {
    let mut options = options();
    options.connect.credentials = Arc::new(credentials);
    options
}

fn password(password: &str) -> Credentials {
    Credentials::Password {
        user: "ann".to_owned(),
        password: Secret::new(password),
    }
}

fn attempt(server: &Server, options: RegistryOptions) -> Result<Run, SourceError> {
    let source = RegistrySource::connect("hub", &server.address(), options)?;
    back_up(&source, None)
}

fn protected() -> Option<(Server, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    fs::write(&file, HTPASSWD).unwrap();
    let extra = format!(
        "auth:\n  htpasswd: {{realm: test, path: {}}}\n",
        file.display()
    );
    let server = Server::start_with(&Setup {
        extra: &extra,
        tls: None,
        ..Setup::default()
    })?;
    Some((server, folder))
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn passwords_come_from_options_files_and_commands_and_never_show() {
    let Some((server, folder)) = protected() else {
        return;
    };
    let config = folder.path().join("config.json");
    let entry = format!(
        r#"{{"auths":{{"{}":{{"auth":"YW5uOmh1bnRlcjI="}}}}}}"#,
        server.host()
    );
    fs::write(&config, entry).unwrap();
    let command = || Credentials::Command {
        program: script(folder.path(), "print-password", "echo hunter2"),
        arguments: Vec::new(),
        user: Some("ann".to_owned()),
    };
    for good in [
        password("hunter2"),
        Credentials::DockerConfig(config),
        command(),
    ] {
        assert_eq!(attempt(&server, with(good)).unwrap().failures(), "");
    }
    let failing = Credentials::Command {
        program: script(
            folder.path(),
            "fail",
            "echo hunter2 >&2; echo hunter2; exit 3",
        ),
        arguments: vec!["hunter2".to_owned()],
        user: None,
    };
    for (bad, expected) in [
        (
            Credentials::Anonymous,
            "the registry does not accept the credentials",
        ),
        (
            password("hunter2x"),
            "the registry does not accept the credentials",
        ),
        (
            failing,
            "fail gave no credentials (it ended with a failure)",
        ),
    ] {
        let error = attempt(&server, with(bad)).map(|_| ()).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
        assert!(
            !format!("{text} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[test]
fn a_registry_with_its_own_authority_is_trusted_only_if_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let openssl = |name: &str, extra: &[&str]| {
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args([
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
            ])
            .arg(file(&format!("{name}.key")))
            .arg("-out")
            .arg(file(&format!("{name}.pem")))
            .args(extra)
            .current_dir(folder.path())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let leaf = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ];
    let leaf = [
        &leaf[..],
        &["-addext", "basicConstraints=critical,CA:FALSE"],
    ]
    .concat();
    if !(openssl("ca", &[]) && openssl("leaf", &leaf)) {
        refloat_testkit::skip("openssl 3 is not installed");
        return;
    }
    let certificate = file("ca.pem");
    let tls = Some((file("leaf.pem"), file("leaf.key")));
    let Some(server) = Server::start_with(&Setup {
        tls,
        ..Setup::default()
    }) else {
        return;
    };
    let error = attempt(&server, options()).map(|_| ()).unwrap_err();
    assert!(chain(&error).contains("UnknownIssuer"), "{}", chain(&error));
    let mut trusting = options();
    trusting.connect.ca_file = Some(certificate.clone());
    assert_eq!(attempt(&server, trusting).unwrap().failures(), "");
    let connect = ConnectOptions {
        ca_file: Some(certificate),
        ..ConnectOptions::default()
    };
    let target = TargetOptions {
        connect,
        ..TargetOptions::default()
    };
    assert!(RegistryTarget::connect("back", &server.address(), target).is_ok());
}

/// A registry that wants a token which is good for `uses` requests.
fn token_registry(uses: usize, good: Good) -> Fake {
    let left = AtomicUsize::new(0);
    let number = AtomicUsize::new(0);
    Fake::start(move |asked: &Asked, _| {
        if let Some(query) = asked.path.strip_prefix("/token?") {
            if asked.header("authorization") != BASIC || !query.contains("service=test") {
                return Answer::new(401, "hunter2");
            }
            left.store(uses, Ordering::SeqCst);
            let token = format!("t{}", number.fetch_add(1, Ordering::SeqCst) + 1);
            return Answer::new(200, format!(r#"{{"token":"{token}","expires_in":300}}"#));
        }
        let current = format!("Bearer t{}", number.load(Ordering::SeqCst));
        let valid = asked.header("authorization") == current
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        if valid {
            return good.answer(asked);
        }
        let realm = format!("http://{}/token", asked.header("host"));
        let scope = match asked.path.as_str() {
            "/v2/" => String::new(),
            path if path.starts_with("/v2/_catalog") => ",scope=\"registry:catalog:*\"".to_owned(),
            _ => ",scope=\"repository:app:pull\"".to_owned(),
        };
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"{scope}");
        Answer::new(401, "").with("www-authenticate", challenge)
    })
}

#[test]
fn tokens_are_fetched_and_renewed_when_they_end_in_the_middle() {
    let image = image("amd64", &(0..8).map(|n| noise(n, 1000)).collect::<Vec<_>>());
    for uses in [1000, 4] {
        let fake = token_registry(uses, Good::of("1", &image));
        let mut options = with(password("hunter2"));
        // One after the other, so that the number of tokens is known.
        options.connect.requests_at_once = 1;
        let run = back_up(&source(&fake, options), None).unwrap();
        assert_eq!(run.failures(), "", "{uses} uses");
        let requests = fake.lines();
        let tokens = requests
            .iter()
            .filter(|line| line.starts_with("GET /token?"))
            .count();
        match uses {
            // One for each scope.
            1000 => assert_eq!(tokens, 2, "{requests:#?}"),
            _ => assert!((4..=8).contains(&tokens), "{tokens}"),
        }
    }
}

#[test]
fn a_token_service_that_refuses_ends_it_without_showing_anything() {
    let fake = token_registry(1000, Good::default());
    let options = with(password("wrong hunter2"));
    let error = back_up(&source(&fake, options), None)
        .map(|_| ())
        .unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains("does not accept the credentials"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(fake.asked().len() <= 4);
}

#[test]
fn passwords_are_not_sent_to_token_services_that_are_not_encrypted() {
    let fake = Fake::start(|_, _| {
        let challenge = "Bearer realm=\"http://198.51.100.1/token\",service=\"x\"";
        Answer::new(401, "").with("www-authenticate", challenge)
    });
    let error = back_up(&source(&fake, with(password("hunter2"))), None)
        .map(|_| ())
        .unwrap_err();
    let expected = "refers to a token service that is not encrypted, which is not followed";
    assert!(chain(&error).contains(expected), "{}", chain(&error));
}

#[test]
fn nothing_is_sent_along_a_redirect_to_another_host() {
    let image = image("amd64", &[noise(1, 1000)]);
    let layer = image.blobs[1].clone();
    let storage = Fake::start(move |_, _| Answer::new(200, layer.bytes.clone()));
    let (port, url) = (
        storage.port,
        format!("/v2/app/blobs/{}", image.blobs[1].digest),
    );
    let good = Good::of("1", &image);
    let fake = Fake::start(move |asked, _| {
        if asked.header("authorization") != "Bearer hunter2" {
            return Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\"");
        }
        match asked.path == url {
            true => Answer::new(307, "").with("location", format!("http://localhost:{port}/x")),
            false => good.answer(asked),
        }
    });
    let run = back_up(
        &source(&fake, with(Credentials::Token(Secret::new("hunter2")))),
        None,
    );
    assert_eq!(run.unwrap().failures(), "");
    let asked = storage.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), "");
}
