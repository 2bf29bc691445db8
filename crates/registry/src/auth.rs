//! Who we are, to a registry that asks.
//!
//! Nothing is sent until a registry asks. It asks for a password (basic), or names a token service
//! (bearer), which gives a token for one scope and some minutes in exchange for the password.
//!
//! Invariant: a password goes to the registry it is for and to the token service that this
//! registry names, encrypted unless plain HTTP is allowed there; nothing of it is in an error.

mod challenge;
mod command;
mod docker_config;
#[cfg(test)]
mod fuzz;
mod login;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use ureq::http::HeaderMap;
use zeroize::Zeroizing;

use self::challenge::Challenge;
use self::login::Login;
use self::token::Token;
use crate::address::Address;
use crate::error::RegistryError;
use crate::name::RepositoryName;
use crate::options::{ConnectOptions, Credentials, PlainHttp};

/// What a request needs to be allowed, in the words of token services.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scope(String);

impl Scope {
    /// To list repositories.
    pub(crate) fn catalogue() -> Self {
        Self("registry:catalog:*".to_owned())
    }

    /// To read a repository.
    pub(crate) fn pull(repository: &RepositoryName) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    /// To write to a repository, and to take blobs over from another one.
    pub(crate) fn push(repository: &RepositoryName, from: Option<&RepositoryName>) -> Self {
        let mut text = format!("repository:{repository}:pull,push");
        if let Some(from) = from {
            text.push_str(&format!(" repository:{from}:pull"));
        }
        Self(text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of an `Authorization` header.
pub(crate) type Authorization = Zeroizing<String>;

/// See the module.
pub(crate) struct Authenticator {
    agent: Agent,
    address: Address,
    credentials: Arc<Credentials>,
    plain_http: PlainHttp,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    login: Option<Arc<Login>>,
    tokens: HashMap<Scope, Token>,
}

impl Authenticator {
    pub(crate) fn new(agent: Agent, address: &Address, options: &ConnectOptions) -> Self {
        Self {
            agent,
            address: address.clone(),
            credentials: Arc::clone(&options.credentials),
            plain_http: options.plain_http,
            state: Mutex::new(State::default()),
        }
    }

    /// What to send with a request; nothing as long as nobody asked.
    pub(crate) fn authorization(
        &self,
        scope: &Scope,
    ) -> Result<Option<Authorization>, RegistryError> {
        let mut state = self.state();
        match state.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => match &*self.login(&mut state)? {
                Login::Password { user, password } => basic(user, password.expose()).map(Some),
                Login::Token(token) => bearer(token.expose()).map(Some),
                Login::Anonymous | Login::Identity(_) => Ok(None),
            },
            Some(Challenge::Bearer { realm, service, .. }) => {
                if let Some(token) = state.tokens.get(scope).filter(|t| t.until > Instant::now()) {
                    return Ok(Some(token.authorization.clone()));
                }
                self.renew(&mut state, scope, &realm, service.as_deref(), &scope.0)
                    .map(Some)
            }
        }
    }

    /// Takes in that a request was answered with "who are you?".
    ///
    /// # Errors
    /// There is nothing else to say than what was said.
    pub(crate) fn challenged(
        &self,
        headers: &HeaderMap,
        scope: &Scope,
        used: Option<&str>,
    ) -> Result<(), RegistryError> {
        let unauthorized = || RegistryError::Unauthorized(scope.to_string());
        let challenge = Challenge::of(headers).ok_or_else(unauthorized)?;
        let mut state = self.state();
        let first = state.challenge.is_none();
        state.challenge = Some(challenge.clone());
        match challenge {
            Challenge::Basic => {
                // The same password once more would only help to lock the account.
                if used.is_some() && !self.can_be_replaced() {
                    return Err(unauthorized());
                }
                if !first {
                    state.login = None;
                }
                match &*self.login(&mut state)? {
                    Login::Anonymous | Login::Identity(_) => Err(unauthorized()),
                    Login::Password { .. } | Login::Token(_) => Ok(()),
                }
            }
            Challenge::Bearer {
                realm,
                service,
                scope: asked,
            } => {
                let known = state.tokens.get(scope).map(|t| t.authorization.clone());
                // Another thread may have renewed the token meanwhile.
                if used.is_some() && known.as_deref().map(String::as_str) != used && known.is_some()
                {
                    return Ok(());
                }
                if used.is_some() && self.can_be_replaced() {
                    state.login = None;
                }
                let asked = asked.unwrap_or_else(|| scope.0.clone());
                let _token = self.renew(&mut state, scope, &realm, service.as_deref(), &asked)?;
                Ok(())
            }
        }
    }

    /// Whether asking again may give other credentials.
    fn can_be_replaced(&self) -> bool {
        matches!(
            &*self.credentials,
            Credentials::Command { .. } | Credentials::DockerConfig(_) | Credentials::Helper(_)
        )
    }

    fn login(&self, state: &mut State) -> Result<Arc<Login>, RegistryError> {
        if let Some(login) = &state.login {
            return Ok(Arc::clone(login));
        }
        let login = Arc::new(Login::find(&self.credentials, &self.address)?);
        state.login = Some(Arc::clone(&login));
        Ok(login)
    }

    /// Gets a token. The lock is held meanwhile: other threads need the same token, and one
    /// request for it is enough.
    fn renew(
        &self,
        state: &mut State,
        scope: &Scope,
        realm: &str,
        service: Option<&str>,
        asked: &str,
    ) -> Result<Authorization, RegistryError> {
        let login = self.login(state)?;
        if let Login::Token(token) = &*login {
            return bearer(token.expose());
        }
        self.check_realm(realm)?;
        let token = token::fetch(&self.agent, &login, realm, service, asked)?;
        let authorization = token.authorization.clone();
        state.tokens.insert(scope.clone(), token);
        Ok(authorization)
    }

    fn check_realm(&self, realm: &str) -> Result<(), RegistryError> {
        let bad = RegistryError::BadLink("a token service that is not encrypted");
        let (scheme, rest) = realm.split_once("://").unwrap_or(("", realm));
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let plain = self.plain_http == PlainHttp::Anywhere || crate::address::is_loopback(host);
        match scheme {
            _ if host.is_empty() || host.contains('@') => {
                Err(RegistryError::BadLink("an impossible token service"))
            }
            "https" => Ok(()),
            "http" if plain => Ok(()),
            _ => Err(bad),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(user: &str, password: &[u8]) -> Result<Authorization, RegistryError> {
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    pair.extend_from_slice(user.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(password);
    Ok(Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair))))
}

fn bearer(token: &[u8]) -> Result<Authorization, RegistryError> {
    let sendable = token.iter().all(u8::is_ascii_graphic) && !token.is_empty();
    match std::str::from_utf8(token) {
        Ok(text) if sendable => Ok(Zeroizing::new(format!("Bearer {text}"))),
        _ => Err(crate::error::CredentialsError::Unsendable.into()),
    }
}
