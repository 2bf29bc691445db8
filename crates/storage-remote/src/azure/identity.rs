//! Who we are to Azure: a key, a signature that somebody gave us, or an identity.
//!
//! Invariant: a key or secret goes to nobody; a token only to the storage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use refloat_model::secret::Secret;
use refloat_storage::location::Endpoint;
use ureq::http::Method;

use super::sign;
use crate::Surroundings;
use crate::failure::{Failure, Meaning};
use crate::http::{Answer, ConnectError, ConnectOptions, Http, PlainHttp, Request, Slash, encode};
use crate::machine;
use crate::tokens::{self, TOKEN_BYTES_MAX, Token, Tokens, bearer, form};

/// Whom tokens are for.
const RESOURCE: &str = "https://storage.azure.com/";
/// The address of a machine's own records.
const MACHINE: &str = "http://169.254.169.254";
/// It answers at once, or this is no machine of Azure's.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
pub(super) struct Identity {
    account: String,
    way: Way,
    connect: ConnectOptions,
    around: Surroundings,
    tokens: Tokens,
    /// Where this machine's own records are.
    machine: String,
    /// Whether this machine gave a token before: then it is one that has an identity.
    has_identity: AtomicBool,
}

enum Way {
    Key(Secret),
    /// Parameters of a URL.
    Signature(Secret),
    Token,
}

impl Identity {
    pub(super) fn new(
        account: String,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let way = if let Some(key) = around.secret("AZURE_STORAGE_KEY") {
            let key = STANDARD.decode(key.expose()).map_err(|_| {
                ConnectError::Options("AZURE_STORAGE_KEY is no key: it is not base64".to_owned())
            })?;
            Way::Key(Secret::new(key))
        } else if let Some(signature) = around.secret("AZURE_STORAGE_SAS_TOKEN") {
            Way::Signature(signature)
        } else {
            Way::Token
        };
        Ok(Self {
            account,
            way,
            connect: connect.clone(),
            around: around.clone(),
            tokens: Tokens::default(),
            machine: MACHINE.to_owned(),
            has_identity: AtomicBool::new(false),
        })
    }

    /// The token of the moment; none where something else proves who we are.
    pub(super) fn token(&self, now: Timestamp) -> Result<Option<Arc<Token>>, Failure> {
        match &self.way {
            Way::Key(_) | Way::Signature(_) => Ok(None),
            Way::Token => self.tokens.get(now, || self.fetch()).map(Some),
        }
    }

    /// Forgets a token that was refused; whether asking again may give another.
    pub(super) fn renew(&self, refused: &Arc<Token>) -> bool {
        self.tokens.renew(refused)
    }

    /// Adds what proves who we are.
    pub(super) fn authorise<'a>(&self, request: Request<'a>, token: Option<&Token>) -> Request<'a> {
        match &self.way {
            Way::Key(key) => {
                let value = sign::authorization(&request, &self.account, key.expose());
                request.header("authorization", value)
            }
            Way::Signature(signature) => {
                let text = String::from_utf8_lossy(signature.expose());
                let text = text.trim().trim_start_matches('?');
                let separator = if request.url.contains('?') { '&' } else { '?' };
                let url = format!("{}{separator}{text}", request.url);
                Request { url, ..request }
            }
            Way::Token => match token {
                Some(token) => request.header("authorization", bearer(token)),
                None => request,
            },
        }
    }

    fn fetch(&self) -> Result<Token, Failure> {
        let tenant = self.around.text("AZURE_TENANT_ID");
        let client = self.around.text("AZURE_CLIENT_ID");
        if let (Some(tenant), Some(client)) = (&tenant, &client) {
            if let Some(path) = self.around.path("AZURE_FEDERATED_TOKEN_FILE") {
                let bytes = std::fs::read(&path).map_err(|source| Failure::CredentialSource {
                    place: path.display().to_string(),
                    source: Box::new(source),
                })?;
                let assertion = String::from_utf8_lossy(&bytes).trim().to_owned();
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let proof = [
                    ("client_assertion_type", kind),
                    ("client_assertion", &assertion),
                ];
                return self.directory(tenant, client, &proof);
            }
            if let Some(secret) = self.around.secret("AZURE_CLIENT_SECRET") {
                let secret = String::from_utf8_lossy(secret.expose());
                return self.directory(tenant, client, &[("client_secret", &secret)]);
            }
        }
        self.machine(client.as_deref())
    }

    fn directory(
        &self,
        tenant: &str,
        client: &str,
        proof: &[(&str, &str)],
    ) -> Result<Token, Failure> {
        let host = self.around.text("AZURE_AUTHORITY_HOST");
        let host = host.unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
        let scope = format!("{RESOURCE}.default");
        let mut pairs = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("scope", &scope),
        ];
        pairs.extend_from_slice(proof);
        let body = form(&pairs);
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            host.trim_end_matches('/'),
            encode(tenant, Slash::Encoded)
        );
        let request = Request::new(Method::POST, url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.as_bytes());
        let (answer, place) = self.ask(&host, request, &self.connect)?;
        tokens::read(&answer, &place, &body, &self.around)
    }

    /// The identity that this machine or service has by itself.
    fn machine(&self, client: Option<&str>) -> Result<Token, Failure> {
        let chosen = client.map(|client| format!("&client_id={}", encode(client, Slash::Encoded)));
        let chosen = chosen.unwrap_or_default();
        let resource = encode(RESOURCE, Slash::Encoded);
        let connect = ConnectOptions {
            plain_http: PlainHttp::Anywhere,
            connect_timeout: PATIENCE,
            silence_max: PATIENCE * 5,
            cancel: self.connect.cancel.clone(),
            ..ConnectOptions::default()
        };
        let place = self.around.text("IDENTITY_ENDPOINT");
        let header = self.around.text("IDENTITY_HEADER");
        if let (Some(place), Some(header)) = (place, header) {
            let url = format!("{place}?api-version=2019-08-01&resource={resource}{chosen}");
            let request = Request::new(Method::GET, url).header("x-identity-header", header);
            let (answer, place) = self.ask(&place, request, &connect)?;
            return tokens::read(&answer, &place, "", &self.around);
        }
        let url = format!(
            "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}{chosen}",
            self.machine
        );
        let had_one = self.has_identity.load(Ordering::Relaxed);
        let token = machine::ask(had_one, || {
            let request = Request::new(Method::GET, url.clone()).header("metadata", "true");
            let (answer, place) = self.ask(&self.machine, request, &connect)?;
            of_machine(&answer, &place, had_one, &self.around)
        })?;
        self.has_identity.store(token.is_some(), Ordering::Relaxed);
        token.ok_or_else(|| {
            Failure::Credentials(
                "no credentials for Azure: no AZURE_STORAGE_KEY, no AZURE_STORAGE_SAS_TOKEN, no \
                 identity in AZURE_CLIENT_ID, and this machine has none of its own"
                    .to_owned(),
            )
        })
    }

    fn ask(
        &self,
        host: &str,
        mut request: Request<'_>,
        connect: &ConnectOptions,
    ) -> Result<(Answer, String), Failure> {
        let wrong = || Failure::Credentials(format!("{host} is no address of a token service"));
        let authority = host.split('/').take(3).collect::<Vec<_>>().join("/");
        let endpoint: Endpoint = authority.parse().map_err(|_| wrong())?;
        let http = Http::new(&endpoint, connect).map_err(|_| wrong())?;
        request.answer_bytes_max = TOKEN_BYTES_MAX;
        Ok((http.call(&request)?, endpoint.authority()))
    }
}

/// Reads the answer of a machine's own service. While it is updated, which takes a minute or so, it
/// says 404 or 410. Other clouds' services say 404 as well: they will know no token later either.
fn of_machine(
    answer: &Answer,
    place: &str,
    had_one: bool,
    around: &Surroundings,
) -> Result<Token, Failure> {
    let server = answer.header("server").unwrap_or_default();
    let is_azures = had_one || server.starts_with("IMDS") || server.starts_with("Microsoft");
    if answer.status == 410 || (answer.status == 404 && is_azures) {
        return Err(Failure::Refused {
            host: place.to_owned(),
            refusal: answer.refusal(None, None).meaning(Meaning::Busy),
        });
    }
    tokens::read(answer, place, "", around)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{Said, serve};
    use refloat_storage::StorageErrorKind;

    #[test]
    fn a_machines_own_identity_is_asked_for_as_its_service_wants_it() {
        let url = serve(|asked| {
            let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&\
                        resource=https%3A%2F%2Fstorage.azure.com%2F";
            if asked.path != path || !asked.head.contains("metadata: true\r\n") {
                return Said::status(400);
            }
            Said::text(r#"{"access_token": "T", "expires_in": "86399", "token_type": "Bearer"}"#)
        });
        let around = Surroundings::empty();
        let connect = ConnectOptions::default();
        let mut identity = Identity::new("account".to_owned(), &connect, &around).unwrap();
        identity.machine = url;
        let now = (around.clock)();
        let token = identity.token(now).unwrap().unwrap();
        assert_eq!(bearer(&token), "Bearer T");
        let left = token.expires.unwrap().duration_since(now).as_secs();
        assert!((86_399..86_500).contains(&left), "{left}");
    }

    #[test]
    fn a_machines_service_that_is_updated_is_asked_again() {
        let ask = |status, server: &str, had_one| {
            let header = ("server".parse().unwrap(), server.parse().unwrap());
            let answer = Answer {
                status,
                headers: [header].into_iter().collect(),
                body: Vec::new(),
            };
            let token = of_machine(&answer, "machine", had_one, &Surroundings::empty());
            token.map(drop).map_err(|failure| failure.kind())
        };
        use StorageErrorKind::{Busy, Unauthorized};
        assert_eq!(ask(410, "", false), Err(Busy));
        assert_eq!(ask(404, "IMDS/150.870.65.1854", false), Err(Busy));
        assert_eq!(ask(404, "", true), Err(Busy));
        assert_eq!(ask(404, "EC2ws", false), Err(Unauthorized));
        assert_eq!(ask(400, "IMDS/150.870.65.1854", false), Err(Unauthorized));
    }
}
