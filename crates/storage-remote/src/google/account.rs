//! Who we are to Google: the places where its own libraries look, in their order.
//!
//! Source: Google's "How Application Default Credentials works" and RFC 7523.
//!
//! Invariant: an account's key signs and goes nowhere.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use refloat_model::secret::Secret;
use refloat_storage::location::Endpoint;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use ureq::http::Method;

use crate::Surroundings;
use crate::failure::Failure;
use crate::http::{ConnectError, ConnectOptions, Http, PlainHttp, Request};
use crate::machine;
use crate::tokens::{self, TOKEN_BYTES_MAX, Token, form};

/// What a token may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// A signed request for a token is good for so many seconds.
const ASSERTION_SECONDS: i64 = 3_600;
/// Where a machine's own account is asked for.
const MACHINE: &str = "metadata.google.internal";
/// It answers at once, or this is no machine of Google's.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
pub(super) struct Account {
    way: Way,
    connect: ConnectOptions,
    around: Surroundings,
    /// Whether this machine gave a token before: then it is one that has an account.
    has_account: AtomicBool,
}

enum Way {
    Token(Secret),
    Service(ServiceKey),
    User(UserGrant),
    Machine,
}

struct ServiceKey {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    token_uri: String,
}

struct UserGrant {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    token_uri: String,
}

/// The file of a key, as Google writes it.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    client_email: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
    token_uri: Option<String>,
}

impl Account {
    pub(super) fn find(
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let way = if let Some(token) = around.secret("GOOGLE_OAUTH_ACCESS_TOKEN") {
            Way::Token(token)
        } else if let Some(path) = around.path("GOOGLE_APPLICATION_CREDENTIALS") {
            of_file(&path)?
        } else {
            let home = around.home.as_ref().map(|home| home.join(".config/gcloud"));
            let folder = around.path("CLOUDSDK_CONFIG").or(home);
            let path = folder.map(|folder| folder.join("application_default_credentials.json"));
            match path.filter(|path| path.exists()) {
                Some(path) => of_file(&path)?,
                None => Way::Machine,
            }
        };
        Ok(Self {
            way,
            connect: connect.clone(),
            around: around.clone(),
            has_account: AtomicBool::new(false),
        })
    }

    pub(super) fn token(&self) -> Result<Token, Failure> {
        match &self.way {
            Way::Token(token) => Ok(Token {
                value: Secret::new(token.expose()),
                expires: None,
            }),
            Way::Service(service) => {
                let assertion = service.assertion((self.around.clock)().as_second())?;
                let assertion = String::from_utf8_lossy(assertion.expose());
                let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                let body = form(&[("grant_type", kind), ("assertion", &assertion)]);
                self.ask(&service.token_uri, &body)
            }
            Way::User(grant) => {
                let secret = String::from_utf8_lossy(grant.client_secret.expose());
                let refresh = String::from_utf8_lossy(grant.refresh_token.expose());
                let body = form(&[
                    ("grant_type", "refresh_token"),
                    ("client_id", &grant.client_id),
                    ("client_secret", &secret),
                    ("refresh_token", &refresh),
                ]);
                self.ask(&grant.token_uri, &body)
            }
            Way::Machine => self.machine(),
        }
    }

    fn ask(&self, url: &str, body: &str) -> Result<Token, Failure> {
        let request = Request::new(Method::POST, url.to_owned())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.as_bytes());
        self.call(url, request, body, &self.connect)
    }

    fn machine(&self) -> Result<Token, Failure> {
        let none = || {
            Failure::Credentials(
                "no credentials for Google Cloud: no GOOGLE_APPLICATION_CREDENTIALS, no login of \
                 gcloud, and this machine has no account of its own"
                    .to_owned(),
            )
        };
        if self.around.text("NO_GCE_CHECK").is_some() {
            return Err(none());
        }
        let host = self.around.text("GCE_METADATA_HOST");
        let host = host.unwrap_or_else(|| MACHINE.to_owned());
        let url =
            format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let connect = ConnectOptions {
            plain_http: PlainHttp::Anywhere,
            connect_timeout: PATIENCE,
            silence_max: PATIENCE,
            cancel: self.connect.cancel.clone(),
            ..ConnectOptions::default()
        };
        let had_one = self.has_account.load(Ordering::Relaxed);
        let token = machine::ask(had_one, || {
            let request = Request::new(Method::GET, url.clone());
            let request = request.header("metadata-flavor", "Google");
            self.call(&url, request, "", &connect)
        })?;
        self.has_account.store(token.is_some(), Ordering::Relaxed);
        token.ok_or_else(none)
    }

    fn call(
        &self,
        url: &str,
        mut request: Request<'_>,
        sent: &str,
        connect: &ConnectOptions,
    ) -> Result<Token, Failure> {
        let wrong = || Failure::Credentials("the token service has an impossible URL".to_owned());
        let server = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let endpoint: Endpoint = server.parse().map_err(|_| wrong())?;
        let http = Http::new(&endpoint, connect).map_err(|_| wrong())?;
        request.answer_bytes_max = TOKEN_BYTES_MAX;
        let answer = http.call(&request)?;
        tokens::read(&answer, &endpoint.authority(), sent, &self.around)
    }
}

impl ServiceKey {
    /// A request for a token that only the owner of the key can have made.
    fn assertion(&self, now: i64) -> Result<Secret, Failure> {
        let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let head = serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = serde_json::json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        });
        let text = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .map_err(|_| Failure::Credentials("the account's key cannot sign".to_owned()))?;
        Ok(Secret::new(format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}

fn of_file(path: &Path) -> Result<Way, ConnectError> {
    let wrong = |what: &str| ConnectError::Options(format!("{}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(&e.to_string()))?;
    let bytes = Secret::new(bytes);
    // The parser's own words may repeat a piece of the key.
    let file: File = serde_json::from_slice(bytes.expose())
        .map_err(|_| wrong("this is no file of Google credentials"))?;
    let lacks = |what: &str| wrong(&format!("it lacks {what}"));
    let token_uri = file
        .token_uri
        .unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
    match file.kind.as_str() {
        "service_account" => {
            let pem = file.private_key.ok_or_else(|| lacks("private_key"))?;
            let pem = Secret::new(pem);
            let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose())
                .map_err(|_| wrong("its private_key is no key"))?;
            let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
                .map_err(|_| wrong("its private_key is no RSA key"))?;
            Ok(Way::Service(ServiceKey {
                email: file.client_email.ok_or_else(|| lacks("client_email"))?,
                key_id: file.private_key_id,
                key,
                token_uri,
            }))
        }
        "authorized_user" => {
            let secret = file.client_secret.ok_or_else(|| lacks("client_secret"))?;
            let refresh = file.refresh_token.ok_or_else(|| lacks("refresh_token"))?;
            Ok(Way::User(UserGrant {
                client_id: file.client_id.ok_or_else(|| lacks("client_id"))?,
                client_secret: Secret::new(secret),
                refresh_token: Secret::new(refresh),
                token_uri,
            }))
        }
        _ => Err(wrong(
            "only keys of service accounts and logins of users are supported; get a token with \
             your own tool and set GOOGLE_OAUTH_ACCESS_TOKEN",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_service_accounts_assertion_verifies_with_its_public_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            let output = command.args(arguments).current_dir(folder.path()).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{arguments:?}");
        };
        openssl(&["genpkey", "-algorithm", "RSA", "-out", "key.pem"]);
        openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        let pem = std::fs::read_to_string(path("key.pem")).unwrap();
        let file = serde_json::json!({
            "type": "service_account",
            "client_email": "backup@project.example",
            "private_key": pem,
        });
        std::fs::write(path("account.json"), file.to_string()).unwrap();
        let Way::Service(service) = of_file(&path("account.json")).unwrap() else {
            panic!("a service account");
        };
        let assertion = service.assertion(1_000).unwrap();
        let text = String::from_utf8(assertion.expose().to_vec()).unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let claims = URL_SAFE_NO_PAD
            .decode(signed.split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], "backup@project.example");
        assert_eq!(claims["exp"], 4_600);
        std::fs::write(path("signed"), signed).unwrap();
        std::fs::write(
            path("signature"),
            URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
        openssl(&[
            "dgst",
            "-sha256",
            "-verify",
            "public.pem",
            "-signature",
            "signature",
            "signed",
        ]);
    }

    #[test]
    fn a_file_that_is_none_says_so_and_shows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        for (text, expected) in [
            ("hunter2", "no file of Google credentials"),
            (r#"{"type":"external_account"}"#, "are supported"),
            (
                r#"{"type":"service_account","private_key":"hunter2"}"#,
                "is no key",
            ),
            (r#"{"type":"authorized_user"}"#, "lacks client_secret"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = of_file(&path).map(|_| ()).unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
