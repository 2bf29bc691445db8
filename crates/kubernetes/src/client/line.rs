//! The connection, and getting it again when its credentials have run out.
//!
//! kube renews a token before the time that its giver named. A token that is refused earlier (it
//! was revoked, or clocks differ) is asked for anew here: kubeconfig, token file and credential
//! plugin are read again.
//!
//! Whoever works at the same time may switch the kubeconfig's current context: the connection stays
//! with the server that it was made to.
//!
//! Invariant: no error that leaves this module holds what a credential plugin printed, or its
//! arguments and environment.

use kube::Config;
use kube::client::AuthError;
use tokio::sync::{Mutex, RwLock};

use super::connect::{self, Access};
use crate::error::{ApiError, Plugin};

/// A connection that can be made again.
pub(super) struct Line {
    access: Access,
    /// The server, which never changes.
    server: http::Uri,
    current: RwLock<Current>,
    /// Held by the one who renews, so that a plugin is not started for each of many requests.
    renewing: Mutex<()>,
    /// The credential plugin's program, for messages.
    plugin: String,
    is_renewable: bool,
}

struct Current {
    kube: kube::Client,
    /// How often it was made.
    generation: u64,
}

impl Line {
    /// Prepares the connection; also gives the server's address.
    pub(super) async fn connect(access: Access) -> Result<(Self, String), ApiError> {
        let config = connect::config(&access).await?;
        let server = config.cluster_url.clone();
        let address = server.to_string();
        let plugin = plugin(&config);
        let auth = &config.auth_info;
        let is_renewable = auth.exec.is_some()
            || auth.token_file.is_some()
            || auth.auth_provider.is_some()
            || access == Access::InCluster;
        let kube = client(config, &plugin)?;
        let line = Self {
            access,
            server,
            current: RwLock::new(Current {
                kube,
                generation: 0,
            }),
            renewing: Mutex::new(()),
            plugin,
            is_renewable,
        };
        Ok((line, address))
    }

    pub(super) async fn client(&self) -> kube::Client {
        self.current.read().await.kube.clone()
    }

    pub(super) async fn generation(&self) -> u64 {
        self.current.read().await.generation
    }

    /// Gets credentials again after those of `generation` were refused; whether there are others.
    pub(super) async fn renew(&self, generation: u64) -> Result<bool, ApiError> {
        if !self.is_renewable {
            return Ok(false);
        }
        let _turn = self.renewing.lock().await;
        if self.generation().await != generation {
            return Ok(true);
        }
        let config = connect::config(&self.access).await?;
        if config.cluster_url != self.server {
            return Err(ApiError::OtherServer);
        }
        let kube = client(config, &self.plugin)?;
        let mut current = self.current.write().await;
        current.kube = kube;
        current.generation += 1;
        Ok(true)
    }

    /// What a request that was not answered failed of.
    pub(super) fn failure(&self, error: kube::Error) -> ApiError {
        failure(error, &self.plugin, ApiError::Connection)
    }
}

/// A client; one that needs a credential plugin runs it.
fn client(config: Config, plugin: &str) -> Result<kube::Client, ApiError> {
    kube::Client::try_from(config).map_err(|error| failure(error, plugin, ApiError::Setup))
}

/// The program that a kubeconfig names for its credentials; never its arguments.
fn plugin(config: &Config) -> String {
    let exec = config.auth_info.exec.as_ref();
    let program = exec.and_then(|exec| exec.command.clone());
    program.unwrap_or_default()
}

/// What kube says of credentials quotes the output of plugins: here it is said anew.
fn failure(error: kube::Error, plugin: &str, other: fn(Box<kube::Error>) -> ApiError) -> ApiError {
    let of_plugin = |error: AuthError| ApiError::Plugin {
        program: plugin.to_owned(),
        why: why(error),
    };
    match error {
        kube::Error::Auth(error) => of_plugin(error),
        kube::Error::Service(error) => match error.downcast::<AuthError>() {
            Ok(error) => of_plugin(*error),
            Err(error) => other(Box::new(kube::Error::Service(error))),
        },
        // kube would show the whole address, with the password that may be in it.
        kube::Error::ProxyProtocolUnsupported { proxy_url }
        | kube::Error::ProxyProtocolDisabled { proxy_url, .. } => {
            ApiError::Proxy(proxy_url.scheme_str().unwrap_or_default().to_owned())
        }
        error => other(Box::new(error)),
    }
}

fn why(error: AuthError) -> Plugin {
    match error {
        AuthError::AuthExecStart(error) => Plugin::NotStarted(error),
        AuthError::AuthExecRun { out, .. } => Plugin::Failed(out.status),
        AuthError::ReadTokenFile(error, path) => Plugin::TokenFile(error, path),
        _ => Plugin::NoCredentials,
    }
}
