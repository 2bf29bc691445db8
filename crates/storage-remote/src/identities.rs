//! Who we are to a storage: tokens that somebody gives, and what is sent with them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use refloat_storage::{FileKind, SharedStorage, StorageErrorKind};

use crate::ConnectOptions;
use crate::stand_in::{Asked, Said, at, date_in, serve, text};
use crate::vouching::listing;

/// What was asked, with its body, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A service that gives the tokens T1, T2 and so on.
fn token_service() -> (String, Log) {
    let log = Log::default();
    let asked = Arc::clone(&log);
    let url = serve(move |request: &Asked| {
        let mut asked = asked.lock().unwrap();
        asked.push(format!("{}{}", request.head, request.body));
        // Some services write the number as text.
        let ends = if asked.len() == 1 { "3600" } else { "\"3600\"" };
        let token = asked.len();
        Said::text(format!(
            r#"{{"access_token": "T{token}", "expires_in": {ends}}}"#
        ))
    });
    (url, log)
}

/// A storage that takes one token, of which the number is returned, and says 401 to others.
fn taking(service: &'static str) -> (String, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(1));
    let number = Arc::clone(&taken);
    let url = serve(move |asked| {
        let number = number.load(Ordering::SeqCst);
        match asked
            .head
            .contains(&format!("authorization: Bearer T{number}\r\n"))
        {
            true => Said::text(listing(service, false)),
            false => Said::status(401).header("x-ms-error-code", "InvalidAuthenticationInfo"),
        }
    });
    (url, taken)
}

fn list(storage: &SharedStorage) -> Result<usize, StorageErrorKind> {
    let listed = storage.list(FileKind::Snapshot);
    listed
        .map(|files| files.len())
        .map_err(|error| error.kind())
}

/// Lists with the identity of these variables, also after the first token was refused; what was
/// asked of the token service.
fn tokens_are_used_and_renewed(
    service: &'static str,
    log: &Log,
    variables: &[(&str, &str)],
) -> Vec<String> {
    let (url, taken) = taking(service);
    let storage = at(service, &url, ConnectOptions::default(), variables);
    assert_eq!((list(&storage), list(&storage)), (Ok(0), Ok(0)));
    assert_eq!(log.lock().unwrap().len(), 1, "one token for many calls");
    taken.store(2, Ordering::SeqCst);
    assert_eq!((list(&storage), list(&storage)), (Ok(0), Ok(0)));
    // A storage that takes no token is no reason to ask for ever.
    taken.store(9, Ordering::SeqCst);
    assert_eq!(list(&storage), Err(StorageErrorKind::Unauthorized));
    let asked = log.lock().unwrap().clone();
    assert_eq!(asked.len(), 3, "{asked:?}");
    asked
}

#[test]
fn azures_signatures_are_parameters_and_nothing_more() {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let url = serve(move |asked| {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.head.clone());
        match seen.len() {
            1 => Said::text(listing("azblob", false)),
            _ => Said::status(403).header("x-ms-error-code", "AuthenticationFailed"),
        }
    });
    let signature = [("AZURE_STORAGE_SAS_TOKEN", "?sv=2021-12-02&sig=hunter2%3D\n")];
    let storage = at("azblob", &url, ConnectOptions::default(), &signature);
    assert_eq!(list(&storage), Ok(0));
    let error = storage.read(&refloat_storage::FileKey::CONFIG).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unauthorized);
    assert!(!text(&error).contains("hunter2"), "{}", text(&error));
    let asked = log.lock().unwrap();
    let first = |at: usize| asked[at].lines().next().unwrap();
    let end = "sv=2021-12-02&sig=hunter2%3D HTTP/1.1";
    assert!(first(0).ends_with(&format!("&restype=container&{end}")));
    assert!(first(1).ends_with(&format!("/container/r/config?{end}")));
    assert!(asked.iter().all(|head| !head.contains("authorization:")));
}

#[test]
fn azures_directory_takes_a_secret() {
    let (directory, log) = token_service();
    let asked = tokens_are_used_and_renewed(
        "azblob",
        &log,
        &[
            ("AZURE_TENANT_ID", "the tenant"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_CLIENT_SECRET", "hunter2&~+"),
            ("AZURE_AUTHORITY_HOST", &format!("{directory}/")),
        ],
    );
    for asked in asked {
        let path = "POST /the%20tenant/oauth2/v2.0/token HTTP/1.1\r\n";
        let body = "\r\n\r\ngrant_type=client_credentials&client_id=app&\
                    scope=https%3A%2F%2Fstorage.azure.com%2F.default&\
                    client_secret=hunter2%26~%2B";
        assert!(asked.starts_with(path) && asked.ends_with(body), "{asked}");
        assert!(asked.contains("content-type: application/x-www-form-urlencoded\r\n"));
    }
}

#[test]
fn azures_directory_takes_a_workloads_token_as_its_file_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let (directory, log) = token_service();
    let (url, taken) = taking("azblob");
    let variables = [
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_AUTHORITY_HOST", &directory),
    ];
    let storage = at("azblob", &url, ConnectOptions::default(), &variables);
    assert_eq!(list(&storage), Err(StorageErrorKind::Unavailable));
    for (number, content) in [(1, "a.b.c\n"), (2, "d.e.f\n")] {
        std::fs::write(&file, content).unwrap();
        taken.store(number, Ordering::SeqCst);
        assert_eq!(list(&storage), Ok(0));
        let asked = log.lock().unwrap().last().unwrap().clone();
        let end = format!(
            "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={}",
            content.trim()
        );
        assert!(asked.ends_with(&end), "{asked}");
    }
}

#[test]
fn azures_services_have_identities_of_their_own() {
    let (place, log) = token_service();
    let asked = tokens_are_used_and_renewed(
        "azblob",
        &log,
        &[
            ("IDENTITY_ENDPOINT", &format!("{place}/msi/token")),
            ("IDENTITY_HEADER", "hunter2"),
            ("AZURE_CLIENT_ID", "app"),
        ],
    );
    for asked in asked {
        let line = "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com%2F\
                    &client_id=app HTTP/1.1\r\n";
        assert!(asked.starts_with(line), "{asked}");
        assert!(asked.contains("x-identity-header: hunter2\r\n"), "{asked}");
    }
}

/// A file of Google's credentials.
fn google_file(folder: &tempfile::TempDir, json: &serde_json::Value) -> String {
    let path = folder.path().join("credentials.json");
    std::fs::write(&path, json.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn service_account(folder: &tempfile::TempDir, token_uri: &str) -> String {
    let mut openssl = std::process::Command::new("openssl");
    let key = openssl.args(["genpkey", "-algorithm", "RSA"]).output();
    let pem = String::from_utf8(key.unwrap().stdout).unwrap();
    let json = serde_json::json!({
        "type": "service_account",
        "client_email": "backup@project.example",
        "private_key": pem,
        "token_uri": token_uri,
    });
    google_file(folder, &json)
}

#[test]
fn googles_accounts_are_tokens_to_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let (place, log) = token_service();
    let file = service_account(&folder, &format!("{place}/token"));
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", &*file)];
    for asked in tokens_are_used_and_renewed("gcs", &log, &variables) {
        let grant = "\r\n\r\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&\
                     assertion=";
        assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
        let (_, assertion) = asked.split_once(grant).unwrap();
        assert_eq!(assertion.split('.').count(), 3, "{assertion}");
    }
}

#[test]
fn googles_users_are_tokens_to_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let (place, log) = token_service();
    let json = serde_json::json!({
        "type": "authorized_user",
        "client_id": "tool",
        "client_secret": "hunter2",
        "refresh_token": "1//0+x",
        "token_uri": format!("{place}/token"),
    });
    let file = google_file(&folder, &json);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", &*file)];
    for asked in tokens_are_used_and_renewed("gcs", &log, &variables) {
        let body = "\r\n\r\ngrant_type=refresh_token&client_id=tool&client_secret=hunter2&\
                    refresh_token=1%2F%2F0%2Bx";
        assert!(asked.ends_with(body), "{asked}");
    }
}

#[test]
fn googles_machines_are_tokens_to_the_storage() {
    let (place, log) = token_service();
    let host = place.strip_prefix("http://").unwrap();
    for asked in tokens_are_used_and_renewed("gcs", &log, &[("GCE_METADATA_HOST", host)]) {
        let line = "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\n";
        assert!(asked.starts_with(line), "{asked}");
        assert!(asked.contains("metadata-flavor: Google\r\n"), "{asked}");
    }
}

/// Amazon's temporary credentials are three, and the third is signed like all that is its.
#[test]
fn amazons_session_token_is_sent_and_signed() {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let url = serve(move |asked| {
        seen.lock().unwrap().push(asked.head.clone());
        Said::text(listing("s3", false))
    });
    let variables = [
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", "S"),
        ("AWS_SESSION_TOKEN", "the/token="),
    ];
    let storage = at("s3", &url, ConnectOptions::default(), &variables);
    assert_eq!(list(&storage), Ok(0));
    let asked = log.lock().unwrap();
    assert!(
        asked[0].contains("x-amz-security-token: the/token=\r\n"),
        "{asked:?}"
    );
    let signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
    assert!(asked[0].contains(signed), "{asked:?}");
}

/// What a token service says that refuses us.
fn refused_token(
    service: &'static str,
    said: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    folder: &tempfile::TempDir,
) -> (StorageErrorKind, String) {
    let place = serve(said);
    let file = match service {
        "gcs" => service_account(folder, &place),
        _ => google_file(folder, &serde_json::json!("hunter2.x.y")),
    };
    let variables = match service {
        "gcs" => vec![("GOOGLE_APPLICATION_CREDENTIALS", &*file)],
        _ => vec![
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_FEDERATED_TOKEN_FILE", &*file),
            ("AZURE_AUTHORITY_HOST", &*place),
        ],
    };
    let storage = at(service, &place, ConnectOptions::default(), &variables);
    let error = storage.list(FileKind::Snapshot).unwrap_err();
    (error.kind(), text(&error))
}

#[test]
fn a_token_service_with_another_clock_is_no_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let words = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
                 timeframe. Check your iat and exp values in the JWT claim.";
    for service in ["gcs", "azblob"] {
        let said = |minutes, kept: bool| {
            move |_asked: &Asked| {
                let json =
                    serde_json::json!({"error": "invalid_grant", "error_description": words});
                let said = Said::status(400).body(json.to_string());
                let said = said.header("date", &date_in(minutes));
                if kept {
                    said.header("age", "3600")
                } else {
                    said
                }
            }
        };
        for (minutes, way) in [(60, "behind"), (-60, "ahead of")] {
            let (kind, shown) = refused_token(service, said(minutes, false), &folder);
            assert_eq!(kind, StorageErrorKind::ClockSkew, "{shown}");
            let skew = format!(
                "400 invalid_grant: this machine's clock is 60 minutes {way} the server's: \
                 Invalid JWT: Token must be"
            );
            assert!(shown.contains(&skew), "{shown}");
        }
        for said in [said(0, false), said(60, true)] {
            let (kind, shown) = refused_token(service, said, &folder);
            assert_eq!(kind, StorageErrorKind::Unauthorized, "{shown}");
            assert!(shown.contains("gives no token: it answered 400 invalid_grant: Invalid JWT: "));
            assert!(shown.contains("reasonable timeframe"), "{shown}");
        }
    }
}

#[test]
fn a_token_service_that_repeats_what_it_got_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    for service in ["gcs", "azblob"] {
        let said = |asked: &Asked| {
            let proof = asked.body.rsplit_once("assertion=").unwrap().1;
            let proof = proof.replace("%22", "\"");
            let words = format!("I do not know {proof}.");
            let json = serde_json::json!({"error": "invalid_grant", "error_description": words});
            Said::status(400).body(json.to_string())
        };
        let (kind, shown) = refused_token(service, said, &folder);
        assert_eq!(kind, StorageErrorKind::Unauthorized);
        assert!(shown.ends_with("it answered 400 invalid_grant"), "{shown}");
    }
}
