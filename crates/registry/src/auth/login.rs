//! Credentials as they are for one registry.
//!
//! Invariant: they are looked up when a registry asks, not before.

use refloat_model::secret::Secret;

use super::{command, docker_config};
use crate::address::Address;
use crate::error::CredentialsError;
use crate::options::Credentials;

/// See the module.
pub(super) enum Login {
    Anonymous,
    Password {
        user: String,
        password: Secret,
    },
    /// Exchanged for tokens (`identitytoken`, `refresh_token`).
    Identity(Secret),
    /// Sent as it is.
    Token(Secret),
}

impl Login {
    pub(super) fn find(
        credentials: &Credentials,
        address: &Address,
    ) -> Result<Self, CredentialsError> {
        match credentials {
            Credentials::Anonymous => Ok(Self::Anonymous),
            Credentials::Password { user, password } => Ok(Self::Password {
                user: user.clone(),
                password: Secret::new(password.expose()),
            }),
            Credentials::Token(token) => Ok(Self::Token(Secret::new(token.expose()))),
            Credentials::DockerConfig(path) => docker_config::find(path, address),
            Credentials::Helper(helper) => {
                let keys = address.config_keys();
                docker_config::ask(helper, keys.first().map_or("", String::as_str))
            }
            Credentials::Command {
                program,
                arguments,
                user,
            } => {
                let output = command::run(program, arguments, b"")?;
                let secret = Secret::new(output.trim_ascii());
                Ok(match user {
                    Some(user) => Self::Password {
                        user: user.clone(),
                        password: secret,
                    },
                    None => Self::Token(secret),
                })
            }
        }
    }
}
