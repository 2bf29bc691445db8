//! The variables of storage services, with the names that their own tools gave them.
//!
//! Invariant: a storage's client sees these and no others.

use refloat_model::secret::Secret;

use super::Variable;

const fn variable(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning }
}

/// All of them.
pub const STORAGE: [Variable; 48] = [
    variable(
        "REFLOAT_STORAGE_USER",
        "The user of a REST or WebDAV server",
    ),
    variable("REFLOAT_STORAGE_PASSWORD", "The password of that user"),
    variable(
        "HTTPS_PROXY",
        "A proxy for storage that is reached by https",
    ),
    variable("https_proxy", "As HTTPS_PROXY"),
    variable("HTTP_PROXY", "A proxy for storage that is reached by http"),
    variable("http_proxy", "As HTTP_PROXY"),
    variable("NO_PROXY", "Hosts that are reached without the proxy"),
    variable("no_proxy", "As NO_PROXY"),
    variable("AWS_ACCESS_KEY_ID", "S3: the access key"),
    variable("AWS_SECRET_ACCESS_KEY", "S3: the secret key"),
    variable("AWS_SESSION_TOKEN", "S3: the token of a session"),
    variable("AWS_PROFILE", "S3: the section of the shared files"),
    variable(
        "AWS_SHARED_CREDENTIALS_FILE",
        "S3: instead of ~/.aws/credentials",
    ),
    variable("AWS_CONFIG_FILE", "S3: instead of ~/.aws/config"),
    variable("AWS_REGION", "S3: the region"),
    variable(
        "AWS_DEFAULT_REGION",
        "S3: the region, if AWS_REGION is not set",
    ),
    variable("AWS_ENDPOINT_URL_S3", "S3: the server"),
    variable("AWS_ENDPOINT_URL_STS", "S3: the server that gives roles"),
    variable("AWS_ENDPOINT_URL", "S3: both, if these are not set"),
    variable("AWS_ROLE_ARN", "S3: the role of a web identity"),
    variable("AWS_ROLE_SESSION_NAME", "S3: the session's name"),
    variable(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "S3: the token of a web identity",
    ),
    variable(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "S3: where a container's role is",
    ),
    variable(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "S3: where a container's role is",
    ),
    variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "S3: what is shown there",
    ),
    variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "S3: the file of it",
    ),
    variable(
        "AWS_EC2_METADATA_DISABLED",
        "S3: true: do not ask for an instance's role",
    ),
    variable(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "S3: where an instance's role is",
    ),
    variable("AZURE_STORAGE_ACCOUNT", "Azure: the account"),
    variable("AZURE_STORAGE_KEY", "Azure: its key"),
    variable(
        "AZURE_STORAGE_SAS_TOKEN",
        "Azure: a signature that stands for the key",
    ),
    variable("AZURE_STORAGE_ENDPOINT", "Azure: the server"),
    variable("AZURE_CLIENT_ID", "Azure: the identity"),
    variable("AZURE_TENANT_ID", "Azure: its directory"),
    variable("AZURE_CLIENT_SECRET", "Azure: its secret"),
    variable(
        "AZURE_FEDERATED_TOKEN_FILE",
        "Azure: the token of a workload",
    ),
    variable(
        "AZURE_AUTHORITY_HOST",
        "Azure: the server that gives tokens",
    ),
    variable("IDENTITY_ENDPOINT", "Azure: where a service's identity is"),
    variable("IDENTITY_HEADER", "Azure: what is shown there"),
    variable(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "Google: the file of an account's key",
    ),
    variable(
        "GOOGLE_OAUTH_ACCESS_TOKEN",
        "Google: a token that somebody else got",
    ),
    variable("CLOUDSDK_CONFIG", "Google: instead of ~/.config/gcloud"),
    variable("GCE_METADATA_HOST", "Google: where a machine's account is"),
    variable(
        "NO_GCE_CHECK",
        "Google: true: do not ask for a machine's account",
    ),
    variable(
        "STORAGE_EMULATOR_HOST",
        "Google: an emulator, reached without an account",
    ),
    variable("SSH_AUTH_SOCK", "SFTP: the agent that has the keys"),
    variable("PATH", "SFTP: where ssh is"),
    variable(
        "XDG_CACHE_HOME",
        "Instead of ~/.cache, for the cache of indexes and snapshots",
    ),
];

/// The value of one of them, as a client asks for it; what is not in the list is not there.
pub fn lookup(name: &str) -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt as _;
    let known = STORAGE.iter().any(|variable| variable.name == name);
    known
        .then(|| std::env::var_os(name))
        .flatten()
        .map(|value| Secret::new(value.into_vec()))
}
