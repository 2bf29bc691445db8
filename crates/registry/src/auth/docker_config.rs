//! Docker's `config.json` and the credential helpers it names.
//!
//! Invariant: only the entry of the registry in question is used, and a helper's name cannot be a
//! path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refloat_model::secret::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::command;
use super::login::Login;
use crate::address::Address;
use crate::error::CredentialsError;

/// The user name by which helpers say that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The login for a registry; anonymous if the file has none.
pub(super) fn find(path: &Path, address: &Address) -> Result<Login, CredentialsError> {
    let text = std::fs::read(path).map(Zeroizing::new);
    let text = text.map_err(|source| CredentialsError::File {
        path: path.to_owned(),
        source,
    })?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|error| CredentialsError::Config {
            path: path.to_owned(),
            line: error.line(),
        })?;
    let keys = address.config_keys();
    let helper = keys.iter().find_map(|key| config.cred_helpers.get(key));
    if let Some(helper) = helper {
        return ask(helper, keys.first().map_or("", String::as_str));
    }
    // Logging in with a store leaves an empty entry here, which says under which name it is.
    let stored = keys.iter().find_map(|key| config.auths.get_key_value(key));
    let Some((key, entry)) = stored else {
        return Ok(Login::Anonymous);
    };
    let login = entry.login().map_err(|()| CredentialsError::Entry {
        path: path.to_owned(),
        host: address.authority().to_owned(),
    })?;
    match login {
        Some(login) => Ok(login),
        None if !config.creds_store.is_empty() => ask(&config.creds_store, key),
        None => Ok(Login::Anonymous),
    }
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, ()> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Login::Token(Secret::new(
                self.registrytoken.as_bytes(),
            ))));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::Identity(Secret::new(
                self.identitytoken.as_bytes(),
            ))));
        }
        if !self.auth.is_empty() {
            let pair = STANDARD
                .decode(self.auth.trim())
                .map(Zeroizing::new)
                .map_err(|_| ())?;
            let at = pair.iter().position(|byte| *byte == b':').ok_or(())?;
            let (user, password) = pair.split_at(at);
            return Ok(Some(Login::Password {
                user: String::from_utf8(user.to_vec()).map_err(|_| ())?,
                password: Secret::new(password.get(1..).unwrap_or_default()),
            }));
        }
        Ok((!self.username.is_empty()).then(|| Login::Password {
            user: self.username.clone(),
            password: Secret::new(self.password.as_bytes()),
        }))
    }
}

/// Asks `docker-credential-<helper>` for the login of a registry.
pub(super) fn ask(helper: &str, key: &str) -> Result<Login, CredentialsError> {
    let program = format!("docker-credential-{helper}");
    let gave = |why| CredentialsError::Gave {
        program: program.clone(),
        why,
    };
    if helper.contains('/') {
        return Err(gave("its name is a path"));
    }
    let output = command::run(
        &PathBuf::from(&program),
        &["get".to_owned()],
        key.as_bytes(),
    )?;
    let helped: Helped =
        serde_json::from_slice(&output).map_err(|_| gave("its output is not understood"))?;
    let secret = Secret::new(helped.secret.as_bytes());
    Ok(if helped.username == TOKEN_USER {
        Login::Identity(secret)
    } else {
        Login::Password {
            user: helped.username,
            password: secret,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, address: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        match find(&path, &address.parse().unwrap()) {
            Ok(Login::Anonymous) => "anonymous".to_owned(),
            Ok(Login::Password { user, password }) => {
                format!("{user} {}", String::from_utf8_lossy(password.expose()))
            }
            Ok(Login::Identity(_)) => "identity".to_owned(),
            Ok(Login::Token(_)) => "token".to_owned(),
            Err(error) => error
                .to_string()
                .replace(path.to_str().unwrap(), "config.json"),
        }
    }

    #[test]
    fn the_registrys_own_entry_is_used_and_no_other() {
        let pair = STANDARD.encode("ann:hunter2:x");
        let config = format!(
            r#"{{"auths":{{"h:5000":{{"auth":"{pair}"}},"https://index.docker.io/v1/":
            {{"identitytoken":"t"}},"https://b":{{"username":"u","password":"p"}},"c":{{}}}}}}"#
        );
        assert_eq!(check(&config, "h:5000"), "ann hunter2:x");
        assert_eq!(check(&config, "h:5001"), "anonymous");
        assert_eq!(check(&config, "docker.io"), "identity");
        assert_eq!(check(&config, "b"), "u p");
        assert_eq!(check(&config, "c"), "anonymous");
    }

    #[test]
    fn damage_is_named_and_not_quoted() {
        assert_eq!(
            check("{\"auths\":\n{\"h\":{\"auth\":hunter2}}}", "h"),
            "config.json is no configuration of Docker (line 2)"
        );
        assert_eq!(
            check(r#"{"auths":{"h":{"auth":"hunter2"}}}"#, "h"),
            "the entry for h in config.json is not understood"
        );
        assert_eq!(
            check(r#"{"credHelpers":{"h":"../../bin/sh"}}"#, "h"),
            "docker-credential-../../bin/sh gave no credentials (its name is a path)"
        );
    }
}
