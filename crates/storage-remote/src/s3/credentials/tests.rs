use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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

/// Answers requests by their first line, over connections of their own.
fn serve(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _detached = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap_or(0) > 2 {
                let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(value) = last.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, text) = answer(&head, &String::from_utf8_lossy(&body));
            let answered = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(answered.as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
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
