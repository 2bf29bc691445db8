//! Who we are to a cluster that asks for it: a user with a password.
//!
//! etcd gives a token for a password, which all members know and which runs out; a call that is
//! refused for its token gets a new one, once.
//!
//! Invariant: the password goes to members only, never into an error or a log.

use std::sync::{Mutex, PoisonError};

use http::uri::PathAndQuery;
use refloat_model::cancel::Cancel;
use refloat_model::secret::Secret;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic_prost::ProstCodec;

use super::message::{AuthenticateRequest, AuthenticateResponse};
use super::{Call, Client, Connection, STATUS_TIMEOUT, ready};
use crate::error::EtcdError;

/// What etcd calls the token.
const TOKEN: &str = "token";
/// What etcd says if it asks nobody who they are.
const NOT_ENABLED: &str = "authentication is not enabled";
/// What etcd says of a wrong user or password.
const REFUSED: &str = "authentication failed";
/// What etcd says of a token that has run out, or that a restarted member does not know.
const INVALID_TOKEN: &str = "invalid auth token";

/// A user and its password.
#[derive(Debug)]
pub struct Login {
    /// Its name. It needs the role `root`: hashes and snapshots are for that alone.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose() == other.password.expose()
    }
}

impl Eq for Login {}

/// The token of this client.
#[derive(Debug, Default)]
pub(super) struct Token(Mutex<State>);

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Unknown,
    /// The cluster does not ask.
    NotNeeded,
    Known(MetadataValue<Ascii>),
}

impl Token {
    fn get(&self) -> State {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Client {
    /// Puts the token into a request, and asks for it first if there is none.
    pub(super) fn sign<T>(
        &self,
        request: &mut tonic::Request<T>,
        to: &Connection,
        cancel: &Cancel,
    ) -> Result<(), EtcdError> {
        let Some(login) = &self.login else {
            return Ok(());
        };
        if matches!(self.token.get(), State::Unknown) {
            self.token.set(self.authenticate(login, to, cancel)?);
        }
        if let State::Known(token) = self.token.get() {
            request.metadata_mut().insert(TOKEN, token);
        }
        Ok(())
    }

    /// Whether a call was refused for its token, which is forgotten then.
    pub(super) fn is_worn_out(&self, error: &EtcdError) -> bool {
        let is_refused = matches!(
            error,
            EtcdError::Call { source, .. } | EtcdError::User { source, .. }
                if source.code() == tonic::Code::Unauthenticated
                    || source.message().contains(INVALID_TOKEN)
        );
        let is_known = matches!(self.token.get(), State::Known(_));
        if is_refused && is_known {
            self.token.set(State::Unknown);
        }
        is_refused && is_known
    }

    fn authenticate(
        &self,
        login: &Login,
        to: &Connection,
        cancel: &Cancel,
    ) -> Result<State, EtcdError> {
        const CALL: Call = Call {
            operation: "log in to",
            path: "/etcdserverpb.Auth/Authenticate",
            timeout: STATUS_TIMEOUT,
        };
        let invalid = || EtcdError::Password(login.user.clone());
        let password = str::from_utf8(login.password.expose()).map_err(|_| invalid())?;
        let question = AuthenticateRequest {
            name: login.user.clone(),
            password: password.to_owned(),
        };
        let mut grpc = Grpc::new(to.channel.clone());
        let asking = async move {
            ready(&mut grpc).await?;
            let codec = ProstCodec::<AuthenticateRequest, AuthenticateResponse>::default();
            let path = PathAndQuery::from_static(CALL.path);
            let answer = grpc
                .unary(tonic::Request::new(question), path, codec)
                .await?;
            Ok(answer.into_inner())
        };
        let answer = self.wait(asking, CALL.timeout, cancel);
        match answer.map_err(|failure| failure.at(CALL, &to.endpoint)) {
            Ok(answer) => {
                let token = answer.token.parse().map_err(|_| invalid())?;
                Ok(State::Known(token))
            }
            Err(EtcdError::Call { source, .. }) if source.message().contains(NOT_ENABLED) => {
                Ok(State::NotNeeded)
            }
            Err(EtcdError::Call { source, .. }) if source.message().contains(REFUSED) => {
                Err(EtcdError::Login {
                    endpoint: to.endpoint.clone(),
                    user: login.user.clone(),
                    source,
                })
            }
            Err(error) => Err(error),
        }
    }
}
