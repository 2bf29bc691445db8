use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::stand_in::{self, Said};
use refloat_storage::StorageErrorKind;

const FAR: &str = "2099-01-01T00:00:00Z";

fn provider(around: &Surroundings, options: &S3Options) -> Provider {
    Provider::new(options, &ConnectOptions::default(), around).unwrap()
}

fn found(around: &Surroundings) -> Result<(String, String, Option<String>), String> {
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    let found = provider(around, &S3Options::default()).get();
    let found = found.map_err(|error| with_cause(&error))?;
    Ok((
        found.access_key.clone(),
        text(&found.secret_key),
        found.session_token.as_ref().map(text),
    ))
}

/// Shared files in a folder, whose environment has nothing else.
fn shared(folder: &tempfile::TempDir, credentials: &str, config: &str) -> Surroundings {
    std::fs::create_dir_all(folder.path().join(".aws")).unwrap();
    std::fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
    std::fs::write(folder.path().join(".aws/config"), config).unwrap();
    Surroundings {
        home: Some(folder.path().to_owned()),
        ..Surroundings::of(&[("AWS_EC2_METADATA_DISABLED", "true")])
    }
}

fn triple(a: &str, b: &str, c: Option<&str>) -> (String, String, Option<String>) {
    (a.to_owned(), b.to_owned(), c.map(str::to_owned))
}

#[test]
fn the_environment_comes_first_and_must_be_whole() {
    let around = Surroundings::of(&[
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", "S"),
        ("AWS_SESSION_TOKEN", "T"),
    ]);
    assert_eq!(found(&around), Ok(triple("A", "S", Some("T"))));
    let around = Surroundings::of(&[("AWS_ACCESS_KEY_ID", "A")]);
    let error = found(&around).unwrap_err();
    assert!(error.contains("only one of AWS_ACCESS_KEY_ID"), "{error}");
}

#[test]
fn shared_files_hold_keys_programs_and_regions() {
    let folder = tempfile::tempdir().unwrap();
    let around = shared(
        &folder,
        "[default]\naws_access_key_id = A\naws_secret_access_key = S\n",
        "[default]\nregion = eu-central-1\n\
         [profile tool]\ncredential_process = printf '{\"Version\":1,\"AccessKeyId\":\"P\",\
         \"SecretAccessKey\":\"Q\",\"SessionToken\":\"R\"}'\n\
         [profile broken]\ncredential_process = echo hunter2\n\
         [profile circle]\nrole_arn = arn:a\nsource_profile = other\n\
         [profile other]\nrole_arn = arn:b\nsource_profile = circle\n",
    );
    assert_eq!(found(&around), Ok(triple("A", "S", None)));
    assert_eq!(
        provider(&around, &S3Options::default()).region(),
        "eu-central-1"
    );
    let of = |profile: &str| {
        let options = S3Options {
            profile: Some(profile.to_owned()),
            ..S3Options::default()
        };
        Provider::new(&options, &ConnectOptions::default(), &around)
    };
    let tool = of("tool").unwrap().get().unwrap();
    assert_eq!(tool.access_key, "P");
    let broken = with_cause(&of("broken").unwrap().get().unwrap_err());
    assert!(broken.contains("are no credentials") && !broken.contains("hunter2"));
    let circle = with_cause(&of("circle").unwrap().get().unwrap_err());
    assert!(circle.contains("in a circle"), "{circle}");
    assert!(
        of("absent").is_err(),
        "a section that is named must be there"
    );
}

/// Answers requests by their heads and bodies.
fn serve(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> String {
    stand_in::serve(move |asked| {
        let (status, text) = answer(&asked.head, &asked.body);
        Said::status(status).body(text)
    })
}

#[test]
fn an_instances_role_is_asked_for_with_a_token() {
    let url = serve(|head, _body| {
        if head.starts_with("PUT /latest/api/token ") {
            return (200, "TOKEN".to_owned());
        }
        if !head.contains("x-aws-ec2-metadata-token: TOKEN") {
            return (401, String::new());
        }
        let role = "/latest/meta-data/iam/security-credentials/";
        if head.starts_with(&format!("GET {role} ")) {
            return (200, "backup-role".to_owned());
        }
        assert!(
            head.starts_with(&format!("GET {role}backup-role ")),
            "{head}"
        );
        let text = format!(
            r#"{{"Code":"Success","AccessKeyId":"I","SecretAccessKey":"J","Token":"K","Expiration":"{FAR}"}}"#
        );
        (200, text)
    });
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    assert_eq!(found(&around), Ok(triple("I", "J", Some("K"))));
}

#[test]
fn a_containers_role_comes_with_its_token_and_only_from_allowed_places() {
    let url = serve(|head, _body| {
        assert!(head.contains("authorization: CONTAINER"), "{head}");
        let text = r#"{"AccessKeyId":"C","SecretAccessKey":"D","Token":"E"}"#;
        (200, text.to_owned())
    });
    let around = Surroundings::of(&[
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{url}/creds"),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "CONTAINER"),
    ]);
    assert_eq!(found(&around), Ok(triple("C", "D", Some("E"))));
    let around = Surroundings::of(&[(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://10.0.0.1/creds",
    )]);
    let error = found(&around).unwrap_err();
    assert!(error.contains("may be asked"), "{error}");
}

#[test]
fn roles_are_taken_with_keys_or_with_a_token_and_replaced_before_they_end() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "JWT\n").unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let url = serve(move |head, body| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let action = if body.contains("WebIdentityToken=JWT&") {
            "AssumeRoleWithWebIdentity"
        } else {
            assert!(
                head.contains("authorization: AWS4-HMAC-SHA256 Credential=A/"),
                "{head}"
            );
            "AssumeRole"
        };
        assert!(
            body.starts_with(&format!("Action={action}&RoleArn=arn%3Ax&")),
            "{body}"
        );
        // The first is about to end, the second is not.
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(2);
        let end = if number == 0 {
            end.to_string()
        } else {
            FAR.to_owned()
        };
        let text = format!(
            "<{action}Response xmlns=\"x\"><{action}Result><Credentials><AccessKeyId>R{number}\
             </AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>\
             <Expiration>{end}</Expiration></Credentials></{action}Result></{action}Response>"
        );
        (200, text)
    });
    let path = folder.path().join("token");
    let around = Surroundings::of(&[
        ("AWS_ENDPOINT_URL_STS", &url),
        ("AWS_ROLE_ARN", "arn:x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().unwrap()),
    ]);
    let web = provider(&around, &S3Options::default());
    assert_eq!(web.get().unwrap().access_key, "R0");
    assert_eq!(web.get().unwrap().access_key, "R1", "R0 was about to end");
    assert_eq!(web.get().unwrap().access_key, "R1");

    let mut around = shared(
        &folder,
        "[keys]\naws_access_key_id = A\naws_secret_access_key = S\n",
        "[default]\nrole_arn = arn:x\nsource_profile = keys\n",
    );
    let lookup = Surroundings::of(&[("AWS_ENDPOINT_URL_STS", &url)]).lookup;
    around.lookup = lookup;
    assert_eq!(found(&around), Ok(triple("R2", "S", Some("T"))));
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

/// A role's service that counts and gives credentials that end at a time.
fn roles(
    end: impl Fn(usize) -> jiff::SignedDuration + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let url = serve(move |head, _body| {
        if head.starts_with("PUT ") {
            return (200, "TOKEN".to_owned());
        }
        if head.starts_with("GET /latest/meta-data/iam/security-credentials/ ") {
            return (200, "role".to_owned());
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let end = jiff::Timestamp::now() + end(number);
        if end < jiff::Timestamp::now() {
            return (503, String::new());
        }
        let text = format!(
            r#"{{"AccessKeyId":"I{number}","SecretAccessKey":"J","Token":"K","Expiration":"{end}"}}"#
        );
        (200, text)
    });
    (url, count)
}

#[test]
fn what_another_thread_renewed_is_not_thrown_away() {
    let (url, count) = roles(|_number| jiff::SignedDuration::from_hours(1));
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let provider = provider(&around, &S3Options::default());
    let first = provider.get().unwrap();
    // Both were refused with the first ones; the second comes when they are replaced already.
    assert!(provider.renew(&first));
    let second = provider.get().unwrap();
    assert!(provider.renew(&first), "asking again gives others");
    assert_eq!(provider.get().unwrap().access_key, second.access_key);
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert!(provider.renew(&second));
    assert_eq!(provider.get().unwrap().access_key, "I2");
}

#[test]
fn a_hiccup_of_the_machines_service_is_no_lack_of_credentials() {
    // The first are about to end when the service fails.
    let (url, _) = roles(|number| match number {
        0 => jiff::SignedDuration::from_mins(2),
        1 | 2 => jiff::SignedDuration::from_mins(-1),
        _ => jiff::SignedDuration::from_hours(1),
    });
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let provider = provider(&around, &S3Options::default());
    let first = provider.get().unwrap();
    assert_eq!(first.access_key, "I0");
    assert_eq!(
        provider.get().unwrap().access_key,
        "I0",
        "good for two minutes yet"
    );
    assert!(provider.renew(&first));
    let failure = provider.get().unwrap_err();
    assert_eq!(failure.kind(), StorageErrorKind::Busy, "{failure}");
    assert_eq!(provider.get().unwrap().access_key, "I3");
    // Once there, never taken for absent.
    *provider.current.lock().unwrap() = None;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let mut gone = self::provider(&around, &S3Options::default());
    let failure = gone.get().unwrap_err();
    assert!(
        failure.to_string().contains("no credentials for S3"),
        "{failure}"
    );
    gone.has_role = AtomicBool::new(true);
    let failure = gone.get().unwrap_err();
    assert_eq!(failure.kind(), StorageErrorKind::Unavailable, "{failure}");
}

#[test]
fn records_of_another_cloud_are_none_of_amazons() {
    let url = serve(|_head, _body| (404, String::new()));
    let around = Surroundings::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let error = found(&around).unwrap_err();
    assert!(error.contains("no credentials for S3"), "{error}");
}

#[test]
fn a_token_service_that_is_asked_too_fast_is_asked_again() {
    let refused = |code: &'static str| {
        let url = serve(move |_head, _body| {
            let error = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            (400, format!("<ErrorResponse>{error}</ErrorResponse>"))
        });
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "T").unwrap();
        let around = Surroundings::of(&[
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &url),
        ]);
        let failure = provider(&around, &S3Options::default()).get().unwrap_err();
        failure.kind()
    };
    for code in [
        "Throttling",
        "RequestLimitExceeded",
        "IDPCommunicationError",
    ] {
        assert_eq!(refused(code), StorageErrorKind::Busy, "{code}");
    }
    assert_eq!(refused("RequestExpired"), StorageErrorKind::ClockSkew);
    for code in [
        "AccessDenied",
        "ExpiredTokenException",
        "InvalidIdentityToken",
    ] {
        assert_eq!(refused(code), StorageErrorKind::Unauthorized, "{code}");
    }
}
