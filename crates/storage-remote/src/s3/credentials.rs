//! Who we are to S3: the places where Amazon's own tools look, in their order.
//!
//! Environment, then the shared files (keys, a program, a role of another section, a web
//! identity), then a web identity, a container's and an instance's role.
//!
//! Invariant: credentials that end are replaced before they do; they are never shown.

mod exchange;
mod metadata;
mod program;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use refloat_model::secret::Secret;

use super::S3Options;
use super::ini::Sections;
use crate::Surroundings;
use crate::failure::Failure;
use crate::http::{ConnectError, ConnectOptions};

/// Credentials are replaced this long before they end: an upload that begins with them must be
/// over by then.
const REPLACED_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// The section that is used when none is named.
const PROFILE_DEFAULT: &str = "default";
/// Amazon's region when nobody names one; servers of one's own take any.
const REGION_DEFAULT: &str = "us-east-1";
/// A role may be taken with another role's credentials, and so on, so often.
const ROLES_MAX: usize = 5;

/// What requests are signed with.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
    pub(super) expires: Option<Timestamp>,
}

/// Finds credentials and keeps them until they end.
pub(super) struct Provider {
    around: Surroundings,
    connect: ConnectOptions,
    profile: String,
    is_profile_named: bool,
    credentials: Sections,
    config: Sections,
    region: String,
    current: Mutex<Option<Arc<Credentials>>>,
    /// Whether this machine gave credentials before: then it is one that has a role.
    has_role: AtomicBool,
}

impl Provider {
    pub(super) fn new(
        options: &S3Options,
        connect: &ConnectOptions,
        around: &Surroundings,
    ) -> Result<Self, ConnectError> {
        let named = options
            .profile
            .clone()
            .or_else(|| around.text("AWS_PROFILE"));
        let read = |variable, default: &str| {
            let path = around
                .path(variable)
                .or_else(|| Some(around.home.as_ref()?.join(default)));
            let sections = path.map(|path| Sections::read(&path)).transpose();
            sections.map(Option::unwrap_or_default)
        };
        let failed = |e: Failure| ConnectError::Options(with_cause(&e));
        let mut this = Self {
            credentials: read("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials").map_err(failed)?,
            config: read("AWS_CONFIG_FILE", ".aws/config").map_err(failed)?,
            is_profile_named: named.is_some(),
            profile: named.unwrap_or_else(|| PROFILE_DEFAULT.to_owned()),
            around: around.clone(),
            connect: connect.clone(),
            region: String::new(),
            current: Mutex::new(None),
            has_role: AtomicBool::new(false),
        };
        if this.is_profile_named && !this.knows(&this.profile) {
            let text = format!("no section {:?} in Amazon's shared files", this.profile);
            return Err(ConnectError::Options(text));
        }
        this.region = options
            .region
            .clone()
            .or_else(|| around.text("AWS_REGION"))
            .or_else(|| around.text("AWS_DEFAULT_REGION"))
            .or_else(|| this.config.text(&this.profile, "region"))
            .or_else(|| this.credentials.text(&this.profile, "region"))
            .unwrap_or_else(|| REGION_DEFAULT.to_owned());
        Ok(this)
    }

    pub(super) fn region(&self) -> String {
        self.region.clone()
    }

    /// The credentials of now.
    pub(super) fn get(&self) -> Result<Arc<Credentials>, Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*current
            && !is_due(known, (self.around.clock)())
        {
            return Ok(Arc::clone(known));
        }
        let found = match self.find() {
            Ok(found) => Arc::new(found),
            // What is there is good for some minutes yet, and the next request asks again.
            Err(failure) => {
                let now = (self.around.clock)();
                let is_good =
                    |known: &&Arc<Credentials>| known.expires.is_some_and(|end| end > now);
                let known = current.as_ref().filter(is_good);
                return known.map(Arc::clone).ok_or(failure);
            }
        };
        *current = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Forgets credentials that were refused; whether asking again may give others.
    ///
    /// Many requests are refused at once when credentials end: what the first of them replaced
    /// is not thrown away by the next.
    pub(super) fn renew(&self, refused: &Arc<Credentials>) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, refused))
        {
            *current = None;
        }
        refused.expires.is_some()
    }

    fn knows(&self, section: &str) -> bool {
        self.credentials.has(section) || self.config.has(section)
    }

    fn find(&self) -> Result<Credentials, Failure> {
        if !self.is_profile_named
            && let Some(found) = self.of_environment()?
        {
            return Ok(found);
        }
        if self.knows(&self.profile)
            && let Some(found) = self.of_section(&self.profile, ROLES_MAX)?
        {
            return Ok(found);
        }
        if let Some(found) = self.of_environment()? {
            return Ok(found);
        }
        if let (Some(token), Some(role)) = (
            self.around.path("AWS_WEB_IDENTITY_TOKEN_FILE"),
            self.around.text("AWS_ROLE_ARN"),
        ) {
            return self.web_identity(&role, &token);
        }
        if let Some(found) = self.of_container()? {
            return Ok(found);
        }
        if let Some(found) = self.of_instance()? {
            return Ok(found);
        }
        Err(Failure::Credentials(
            "no credentials for S3: none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in \
             Amazon's shared files, or of this machine's role"
                .to_owned(),
        ))
    }

    fn of_environment(&self) -> Result<Option<Credentials>, Failure> {
        let key = self.around.text("AWS_ACCESS_KEY_ID");
        let secret = self.around.secret("AWS_SECRET_ACCESS_KEY");
        match (key, secret) {
            (None, None) => Ok(None),
            (Some(access_key), Some(secret_key)) => Ok(Some(Credentials {
                access_key,
                secret_key,
                session_token: self.around.secret("AWS_SESSION_TOKEN"),
                expires: None,
            })),
            _ => Err(Failure::Credentials(
                "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set".to_owned(),
            )),
        }
    }

    fn of_section(&self, section: &str, roles: usize) -> Result<Option<Credentials>, Failure> {
        for file in [&self.credentials, &self.config] {
            let key = file.text(section, "aws_access_key_id");
            if let (Some(access_key), Some(secret_key)) =
                (key, file.secret(section, "aws_secret_access_key"))
                && self.config.text(section, "role_arn").is_none()
            {
                return Ok(Some(Credentials {
                    access_key,
                    secret_key,
                    session_token: file.secret(section, "aws_session_token"),
                    expires: None,
                }));
            }
        }
        if let Some(role) = self.config.text(section, "role_arn") {
            if let Some(token) = self.config.text(section, "web_identity_token_file") {
                return self.web_identity(&role, token.as_ref()).map(Some);
            }
            return self.of_role(section, &role, roles).map(Some);
        }
        let program = self.config.text(section, "credential_process");
        program.map(|program| self.of_program(&program)).transpose()
    }

    fn of_role(&self, section: &str, role: &str, roles: usize) -> Result<Credentials, Failure> {
        let wrong = |what: &str| {
            Failure::Credentials(format!(
                "section {section:?} of Amazon's shared files: {what}"
            ))
        };
        let roles = roles
            .checked_sub(1)
            .ok_or_else(|| wrong("its roles go round in a circle"))?;
        let source = match (
            self.config.text(section, "source_profile"),
            self.config.text(section, "credential_source").as_deref(),
        ) {
            // A section may hold the keys that its own role is taken with.
            (Some(other), _) if other == section => self.keys_of(section),
            (Some(other), _) => self.of_section(&other, roles)?,
            (None, Some("Environment")) => self.of_environment()?,
            (None, Some("EcsContainer")) => self.of_container()?,
            (None, Some("Ec2InstanceMetadata")) => self.of_instance()?,
            (None, _) => return Err(wrong("the role names no source_profile")),
        };
        let source =
            source.ok_or_else(|| wrong("there are no credentials to take its role with"))?;
        let id = self.config.text(section, "external_id");
        self.assume(&source, role, id)
    }

    fn keys_of(&self, section: &str) -> Option<Credentials> {
        [&self.credentials, &self.config]
            .into_iter()
            .find_map(|file| {
                Some(Credentials {
                    access_key: file.text(section, "aws_access_key_id")?,
                    secret_key: file.secret(section, "aws_secret_access_key")?,
                    session_token: file.secret(section, "aws_session_token"),
                    expires: None,
                })
            })
    }
}

fn is_due(known: &Credentials, now: Timestamp) -> bool {
    let left = known.expires.map(|expires| expires.duration_since(now));
    left.is_some_and(|left| left < REPLACED_BEFORE)
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
