//! From an address and options to the storage that commands work on, with everything around it.
//!
//! Invariant: every storage that a command uses repeats what may pass by itself, within a limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use refloat_engine::config::{AddressingConfig, ObjectLockConfig, PlainHttpConfig, StorageConfig};
use refloat_model::cancel::Cancel;
use refloat_model::time::Timestamp;
use refloat_storage::cache::CachedStorage;
use refloat_storage::concurrency::LimitedStorage;
use refloat_storage::local::LocalStorage;
use refloat_storage::location::{Endpoint, RemoteAddress, Service};
use refloat_storage::pace::{Pace, PacedStorage, Traffic};
use refloat_storage::retry::{RetryLimits, RetryStorage, SystemWorld};
use refloat_storage::temporaries::Temporaries;
use refloat_storage::{Location, SharedStorage};
use refloat_storage_remote::{
    Addressing, AzureOptions, ConnectError, ConnectOptions, LockMode, Login, ObjectLock, Options,
    PlainHttp, Proxies, S3Options, Surroundings,
};

use crate::command_error::{CommandError, ErrorKind};
use crate::environment;
use crate::home;
use crate::password;
use crate::settings::PasswordSource;

/// Two attempts or three.
const FIRST_DEADLINE_LITTLE: Duration = Duration::from_secs(2);

/// Where a repository is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address.
    pub location: Location,
    /// What is said beside it.
    pub options: StorageConfig,
    /// What relative paths of the options are relative to.
    pub base: PathBuf,
    /// Where copies of indexes and snapshots of other machines are kept; none for not at all.
    pub cache: Option<PathBuf>,
    /// Whose login the environment holds.
    pub logins: Logins,
    /// How long a storage that does not answer at all is asked.
    pub patience: Patience,
}

/// How long a storage that does not answer at all is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Patience {
    /// As long as work depends on it.
    #[default]
    Usual,
    /// For whoever can do without.
    Little,
}

/// Whose login the environment holds: it is for one server, and goes to no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Logins {
    /// This storage's.
    #[default]
    OfEnvironment,
    /// Another one's: only options tell this one's.
    OfOptions,
}

impl Patience {
    fn limits(self) -> RetryLimits {
        let usual = RetryLimits::default();
        match self {
            Self::Usual => usual,
            Self::Little => RetryLimits {
                first_deadline: FIRST_DEADLINE_LITTLE,
                ..usual
            },
        }
    }
}

impl Place {
    /// The storage; nothing is contacted yet. Calls end soon after `cancel` is raised.
    ///
    /// # Errors
    /// Options do not fit, or what they name cannot be read.
    pub fn open(&self, cancel: &Cancel) -> Result<SharedStorage, CommandError> {
        let traffic = self.traffic();
        let storage = match &self.location {
            Location::Folder(path) => {
                let folder = refloat_storage::open_folder(path)?;
                match (&traffic.upload, &traffic.download) {
                    (None, None) => folder,
                    _ => Arc::new(PacedStorage::new(folder, traffic).stopped_by(cancel.clone())),
                }
            }
            Location::Remote(address) => {
                let options = self.remote(address, traffic, cancel)?;
                refloat_storage_remote::open(address, options, &surroundings())?
            }
        };
        let world = Arc::new(SystemWorld::new(cancel.clone()));
        let storage = match self.options.connections {
            Some(limit) => Arc::new(LimitedStorage::new(storage, limit.into())) as SharedStorage,
            None => storage,
        };
        let storage = Arc::new(RetryStorage::new(storage, self.retries(), world));
        Ok(match (&self.cache, &self.location) {
            (Some(folder), Location::Remote(address)) => {
                // Names of files are their content's, so repositories that follow each other at
                // one address cannot be taken for each other.
                let folder = folder.join(cache_name(&address.to_string()));
                Arc::new(CachedStorage::new(storage, LocalStorage::new(folder)))
            }
            _ => storage,
        })
    }

    /// Refuses a place to write to that is to keep files from deletion and cannot: whoever asks for a lock and gets none
    /// would believe that nobody can delete anything. Who reads is not concerned.
    ///
    /// # Errors
    /// See there.
    pub fn refuse_lock(&self) -> Result<(), CommandError> {
        let is_s3 = match &self.location {
            Location::Folder(_) => false,
            Location::Remote(address) => address.service == Service::S3,
        };
        let options = &self.options;
        if is_s3 || (options.object_lock.is_none() && options.object_lock_period.is_none()) {
            return Ok(());
        }
        Err(CommandError::usage(format!(
            "object-lock is an option of s3, and {} would keep nothing from deletion",
            self.location
        ))
        .hint("leave it out, or use s3: docs/storage.md says what else protects"))
    }

    /// Where files have other names while they are being written, if this is such a place.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn temporaries(
        &self,
        cancel: &Cancel,
    ) -> Result<Option<Box<dyn Temporaries>>, CommandError> {
        match &self.location {
            Location::Folder(path) => Ok(Some(Box::new(LocalStorage::new(path)))),
            Location::Remote(address) => {
                let options = self.remote(address, self.traffic(), cancel)?;
                let around = surroundings();
                Ok(refloat_storage_remote::temporaries(
                    address, options, &around,
                )?)
            }
        }
    }

    /// The repository's folder, if it is one.
    pub fn folder(&self) -> Option<LocalStorage> {
        match &self.location {
            Location::Folder(path) => Some(LocalStorage::new(path)),
            Location::Remote(_) => None,
        }
    }

    fn retries(&self) -> RetryLimits {
        let usual = self.patience.limits();
        let Some(period) = &self.options.retry_for else {
            return usual;
        };
        let deadline = period.duration_from(Timestamp::from(jiff::Timestamp::now()));
        // As many attempts as pauses of the largest kind fill the time, and the usual number first.
        let pauses = deadline.as_secs() / usual.pause_max.as_secs().max(1) * 2;
        RetryLimits {
            attempts_max: usual
                .attempts_max
                .max(u32::try_from(pauses).unwrap_or(u32::MAX)),
            first_deadline: usual.first_deadline.min(deadline),
            deadline,
            ..usual
        }
    }

    fn traffic(&self) -> Traffic {
        let pace = |rate: Option<refloat_engine::config::ByteRate>| {
            rate.map(|rate| Arc::new(Pace::new(rate.0)))
        };
        Traffic {
            upload: pace(self.options.limit_upload),
            download: pace(self.options.limit_download),
        }
    }

    fn remote(
        &self,
        address: &RemoteAddress,
        traffic: Traffic,
        cancel: &Cancel,
    ) -> Result<Options, CommandError> {
        let usual = ConnectOptions::default();
        let options = &self.options;
        let now = Timestamp::from(jiff::Timestamp::now());
        let connect = ConnectOptions {
            ca_file: options
                .ca_file
                .as_ref()
                .map(|path| home::resolve(path, &self.base)),
            plain_http: match options.plain_http {
                Some(PlainHttpConfig::Anywhere) => PlainHttp::Anywhere,
                Some(PlainHttpConfig::Loopback) | None => PlainHttp::Loopback,
            },
            proxies: Proxies::of(&surroundings()),
            silence_max: options
                .timeout
                .as_ref()
                .map_or(usual.silence_max, |timeout| timeout.duration_from(now)),
            connections: options
                .connections
                .map_or(usual.connections, usize::from)
                .max(1),
            traffic,
            cancel: cancel.clone(),
            ..usual
        };
        Ok(Options {
            connect,
            login: self.login(address)?,
            s3: self.s3()?,
            azure: AzureOptions {
                account: options.account.clone(),
                endpoint: self.endpoint()?,
            },
            google: self.endpoint()?,
            ssh_config: options
                .ssh_config
                .as_ref()
                .map(|path| home::resolve(path, &self.base)),
        })
    }

    fn login(&self, address: &RemoteAddress) -> Result<Option<Login>, CommandError> {
        if !matches!(address.service, Service::Rest | Service::WebDav) {
            return Ok(None);
        }
        let lookup = |name| match self.logins {
            Logins::OfEnvironment => environment::lookup(name),
            Logins::OfOptions => None,
        };
        let text = |name| {
            let value = lookup(name)?;
            String::from_utf8(value.expose().to_vec()).ok()
        };
        let user = self
            .options
            .user
            .clone()
            .or_else(|| text("REFLOAT_STORAGE_USER"));
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return Ok(None);
        };
        let password = match &self.options.password {
            Some(config) => password::get(&PasswordSource::of(config, &self.base))?,
            None => lookup("REFLOAT_STORAGE_PASSWORD").ok_or_else(|| {
                CommandError::new(
                    ErrorKind::NoPassword,
                    format!("no password for the user {user} of {address}"),
                )
                .hint(
                    "set REFLOAT_STORAGE_PASSWORD, or repository.options.password in refloat.yaml",
                )
            })?,
        };
        Ok(Some(Login { user, password }))
    }

    fn endpoint(&self) -> Result<Option<Endpoint>, CommandError> {
        let endpoint = self.options.endpoint.as_deref().map(str::parse).transpose();
        endpoint.map_err(|what| {
            CommandError::new(ErrorKind::Config, format!("the option endpoint is {what}"))
        })
    }

    fn s3(&self) -> Result<S3Options, CommandError> {
        let options = &self.options;
        let wrong = |text: &str| CommandError::new(ErrorKind::Config, text);
        let lock = match (options.object_lock, &options.object_lock_period) {
            (None, None) => None,
            (Some(mode), Some(period)) => {
                let length = period.duration_from(Timestamp::from(jiff::Timestamp::now()));
                Some(ObjectLock {
                    mode: match mode {
                        ObjectLockConfig::Governance => LockMode::Governance,
                        ObjectLockConfig::Compliance => LockMode::Compliance,
                    },
                    period: length
                        .try_into()
                        .map_err(|_| wrong("object-lock-period is too long"))?,
                })
            }
            _ => {
                return Err(wrong(
                    "object-lock and object-lock-period are given together or not at all",
                ));
            }
        };
        Ok(S3Options {
            endpoint: self.endpoint()?,
            region: options.region.clone(),
            addressing: options.addressing.map(|addressing| match addressing {
                AddressingConfig::Path => Addressing::Path,
                AddressingConfig::Virtual => Addressing::Virtual,
            }),
            profile: options.profile.clone(),
            storage_class: options.storage_class.clone(),
            lock,
        })
    }
}

/// The folder of one repository among the copies.
fn cache_name(address: &str) -> String {
    address
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect()
}

/// Where copies are kept when nobody says otherwise; none without a home.
pub fn cache_usual() -> Option<PathBuf> {
    let named = environment::lookup("XDG_CACHE_HOME").filter(|value| !value.expose().is_empty());
    let named = named.and_then(|value| String::from_utf8(value.expose().to_vec()).ok());
    let home = || environment::path(&environment::HOME).map(|home| home.join(".cache"));
    let folder = named.map(PathBuf::from).or_else(home)?;
    Some(folder.join("refloat/repositories"))
}

/// What storage clients see of this process.
fn surroundings() -> Surroundings {
    Surroundings {
        lookup: Arc::new(environment::lookup),
        home: environment::path(&environment::HOME),
        clock: Arc::new(jiff::Timestamp::now),
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        let this = Self::of(ErrorKind::Config, &error);
        match error {
            ConnectError::PlainHttp(_) => this.hint(
                "use https, or say --option plain-http=anywhere if nobody else can read that network",
            ),
            _ => this,
        }
    }
}

/// Reads `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, for example region=eu-west-1".to_owned()),
    }
}
