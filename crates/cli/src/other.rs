//! The other repository of commands that work on two.
//!
//! Invariant: it has a password of its own; that of the first is never tried on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_engine::config::StorageConfig;
use refloat_repository::Repository;

use crate::command_error::{CommandError, ErrorKind};
use crate::environment;
use crate::password;
use crate::repository::{self, Closed};
use crate::settings::{self, PasswordSource, Settings};
use crate::storage::{Logins, Place, parse_pair};

/// How the other repository is opened.
#[derive(Debug, Default, clap::Args)]
pub struct OtherArgs {
    /// A file with the other repository's password [env: REFLOAT_OTHER_PASSWORD_FILE, or the
    /// password itself in REFLOAT_OTHER_PASSWORD]
    #[arg(long, value_name = "FILE", conflicts_with = "other_password_command")]
    other_password_file: Option<PathBuf>,
    /// A command for the other repository's password [env: REFLOAT_OTHER_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    other_password_command: Option<String>,
    /// How the other repository's storage is reached; as --option
    #[arg(long = "other-option", value_name = "KEY=VALUE", value_parser = parse_pair)]
    other_options: Vec<(String, String)>,
}

/// Another repository.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its name in the configuration, or its address.
    pub name: String,
    place: Place,
    password: PasswordSource,
}

impl Other {
    /// The repository of a name under `repositories`, or at an address.
    ///
    /// # Errors
    /// It is neither, or options are not known.
    pub fn resolve(
        name: &str,
        args: &OtherArgs,
        settings: &Settings,
    ) -> Result<Self, CommandError> {
        let declared = settings
            .config
            .as_ref()
            .and_then(|loaded| Some((loaded.config.repositories.get(name)?, &loaded.base)));
        // Limits of bandwidth are the machine's and count for both.
        let limits = StorageConfig {
            limit_upload: settings.options.limit_upload,
            limit_download: settings.options.limit_download,
            ..StorageConfig::default()
        };
        let options = settings::options_of(&args.other_options)?.or(limits);
        let (place, configured) = match declared {
            None => (settings::place(name, Path::new(""), options)?, None),
            Some((repository, base)) => {
                let options = options.or(repository.options.clone());
                let url = repository.url.as_deref().unwrap_or_default();
                let configured = repository.password.as_ref();
                let configured = configured.map(|config| PasswordSource::of(config, base));
                (settings::place(url, base, options)?, configured)
            }
        };
        // The variables are for one other repository; a configuration names each one's own.
        let password = match args.password().or(configured) {
            Some(source) => source,
            None => of_environment()?.unwrap_or(PasswordSource::Ask),
        };
        Ok(Self {
            name: name.to_owned(),
            place: Place {
                cache: settings.cache.clone(),
                logins: Logins::OfOptions,
                ..place
            },
            password,
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// There is none, or the password does not open it.
    pub fn open(&self, settings: &Settings) -> Result<Repository, CommandError> {
        let opened = self.find(settings)?.open();
        opened.map_err(|error| self.explain(error))
    }

    /// Opens it for copies.
    ///
    /// # Errors
    /// As [`open`](Self::open); or the place is to keep files from deletion and cannot.
    pub fn open_for_writing(&self, settings: &Settings) -> Result<Repository, CommandError> {
        self.place.refuse_lock()?;
        self.open(settings)
    }

    /// Opens the repository of the settings and this one. Most of the time goes into their keys: each is derived
    /// on a thread of its own. Whoever must be asked for a password is asked before, for both.
    ///
    /// # Errors
    /// One of them is not there, or its password does not open it.
    pub fn open_both(&self, settings: &Settings) -> Result<(Repository, Repository), CommandError> {
        self.place.refuse_lock()?;
        let first = repository::find(settings)?;
        let other = Arc::new(self.find(settings)?);
        let on_thread = Arc::clone(&other);
        let thread = std::thread::Builder::new().name("open".to_owned());
        let opening = thread.spawn(move || on_thread.open());
        // That this one does not open is told without waiting for the other.
        let first = first.open()?;
        let opened = match opening {
            Ok(opening) => opening
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_no_thread) => other.open(),
        };
        Ok((first, opened.map_err(|error| self.explain(error))?))
    }

    fn find(&self, settings: &Settings) -> Result<Closed<'static>, CommandError> {
        let storage = self.place.open(&settings.cancel)?;
        let password = || password::get_of(&self.name, &self.password).map(Arc::new);
        Closed::find(storage, password, None).map_err(|error| self.explain(error))
    }

    /// Where passwords come from differs from the first repository.
    fn explain(&self, mut error: CommandError) -> CommandError {
        if matches!(error.kind, ErrorKind::NoPassword | ErrorKind::WrongPassword) {
            error.hints = vec![format!(
                "the password of {} comes from REFLOAT_OTHER_PASSWORD, from what \
                 REFLOAT_OTHER_PASSWORD_FILE or REFLOAT_OTHER_PASSWORD_COMMAND name, or from its \
                 entry under repositories in refloat.yaml",
                self.name
            )];
        }
        error
    }
}

impl OtherArgs {
    fn password(&self) -> Option<PasswordSource> {
        let file = self.other_password_file.clone().map(PasswordSource::File);
        let command = self.other_password_command.clone();
        file.or(command.map(PasswordSource::Command))
    }
}

fn of_environment() -> Result<Option<PasswordSource>, CommandError> {
    let own = environment::text(&environment::OTHER_PASSWORD)?;
    let own = own.map(|_| PasswordSource::Environment(environment::OTHER_PASSWORD.name.to_owned()));
    let file = environment::path(&environment::OTHER_PASSWORD_FILE).map(PasswordSource::File);
    let command = environment::text(&environment::OTHER_PASSWORD_COMMAND)?;
    Ok(own.or(file).or(command.map(PasswordSource::Command)))
}
