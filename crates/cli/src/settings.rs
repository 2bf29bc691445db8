//! From flags, environment and file to what a command works with.
//!
//! Flags win over the environment, the environment over the file.
//!
//! Invariant: paths in a file are relative to that file, all others to the working folder.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use refloat_engine::config::{Config, PasswordConfig, PolicyConfig, StorageConfig};
use refloat_engine::suggest::closest;
use refloat_model::cancel::Cancel;
use refloat_model::secret::Secret;
use refloat_storage::Location;

use crate::args::GlobalArgs;
use crate::command_error::{CommandError, ErrorKind};
use crate::environment;
use crate::home;
use crate::output::{Output, Verbosity};
use crate::password;
use crate::storage::{self, Logins, Patience, Place};

/// A configuration that is used when it is in the working folder and none was named.
const CONFIG_DEFAULT: &str = "refloat.yaml";

/// What a command works with.
#[derive(Debug)]
pub struct Settings {
    /// Where the repository is; only commands that need one ask for it.
    pub repository: Option<Place>,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// The password, once it was asked for: a descriptor gives it once, and so does a person.
    pub known_password: OnceLock<Arc<Secret>>,
    /// The configuration; none if there is no file.
    pub config: Option<LoadedConfig>,
    /// The ledger's file; none if nothing is recorded.
    pub ledger: Option<PathBuf>,
    /// The file with the deleter key; none for whoever only writes.
    pub deleter_key: Option<PathBuf>,
    /// How long to wait for somebody else's lock.
    pub retry_lock: Duration,
    /// Where results go.
    pub output: Output,
    /// How progress is shown.
    pub progress: ProgressStyle,
    /// What is said of every storage on the command line.
    pub options: StorageConfig,
    /// Where copies of files of repositories on other machines are kept; none for not at all.
    pub cache: Option<PathBuf>,
    /// Raised when storage is to be left alone: when the run is to stop, or a little later.
    pub cancel: Cancel,
}

/// A configuration and the folder that its paths are relative to.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The content.
    pub config: Config,
    /// The folder of the file.
    pub base: PathBuf,
}

/// Where the password comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PasswordSource {
    /// The first line of a file.
    File(PathBuf),
    /// The first line of a command's output.
    Command(String),
    /// The first line of what an open descriptor gives.
    Descriptor(u32),
    /// An environment variable of this name.
    Environment(String),
    /// Nothing was said: ask on the terminal.
    Ask,
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressStyle {
    /// Not at all.
    None,
    /// A bar on the terminal.
    Bar,
    /// A line for each phase and item.
    Lines,
}

impl Settings {
    /// Reads what there is to read and decides.
    ///
    /// # Errors
    /// The configuration cannot be read, or settings contradict each other.
    pub fn resolve(global: GlobalArgs, cancel: Cancel) -> Result<Self, CommandError> {
        let output = Output::from(&global);
        let GlobalArgs {
            repository,
            password_file,
            password_command,
            password_fd,
            ledger,
            deleter_key,
            config,
            json: _,
            quiet: _,
            verbose: _,
            no_progress,
            options,
            limit_upload,
            limit_download,
            no_cache,
            retry_lock,
        } = global;
        let cache = storage::cache_usual().filter(|_| !no_cache);
        let config = load_config(config)?;
        let file = config.as_ref();
        let progress = if no_progress || output.verbosity == Verbosity::Quiet {
            ProgressStyle::None
        } else if std::io::stderr().is_terminal() {
            ProgressStyle::Bar
        } else {
            ProgressStyle::Lines
        };
        let options = StorageConfig {
            limit_upload,
            limit_download,
            ..StorageConfig::default()
        }
        .or(options_of(&options)?);
        Ok(Self {
            repository: repository_place(repository, file, &options)?.map(|place| Place {
                cache: cache.clone(),
                ..place
            }),
            password: password_source(
                [
                    password_file.map(PasswordSource::File),
                    password_command.map(PasswordSource::Command),
                    password_fd.map(PasswordSource::Descriptor),
                ],
                file,
            )?,
            known_password: OnceLock::new(),
            ledger: ledger.or_else(|| environment::path(&environment::LEDGER)),
            deleter_key: deleter_key.or_else(|| environment::path(&environment::DELETER_KEY)),
            retry_lock,
            output,
            progress,
            config,
            options,
            cache,
            cancel,
        })
    }

    /// The repository's password.
    ///
    /// # Errors
    /// None was given, or its source fails.
    pub fn password(&self) -> Result<Arc<Secret>, CommandError> {
        if let Some(known) = self.known_password.get() {
            return Ok(Arc::clone(known));
        }
        let password = Arc::new(password::get(&self.password)?);
        Ok(Arc::clone(self.known_password.get_or_init(|| password)))
    }

    /// Where the repository is.
    ///
    /// # Errors
    /// None was given.
    pub fn repository(&self) -> Result<&Place, CommandError> {
        self.repository.as_ref().ok_or_else(|| {
            CommandError::usage("no repository given").hint(
                "name it with --repository, REFLOAT_REPOSITORY, or repository.url in refloat.yaml",
            )
        })
    }
}

impl Settings {
    /// The policies of these names; all if none is named.
    ///
    /// # Errors
    /// There is no configuration, or no policy of a name.
    pub fn policies(
        &self,
        names: &[String],
    ) -> Result<Vec<(&String, &PolicyConfig)>, CommandError> {
        let all = &LoadedConfig::required(self.config.as_ref())?
            .config
            .policies;
        if all.is_empty() {
            return Err(CommandError::new(
                ErrorKind::Config,
                "refloat.yaml declares no policies",
            ));
        }
        if names.is_empty() {
            return Ok(all.iter().collect());
        }
        let find = |name: &String| {
            all.get_key_value(name).ok_or_else(|| {
                let error = CommandError::usage(format!("there is no policy {name:?}"));
                match closest(name, all.keys().map(String::as_str)) {
                    Some(word) => error.hint(format!("did you mean {word:?}?")),
                    None => error,
                }
            })
        };
        names.iter().map(find).collect()
    }
}

impl From<&GlobalArgs> for Output {
    fn from(global: &GlobalArgs) -> Self {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Self {
            json: global.json,
            verbosity,
        }
    }
}

fn load_config(flag: Option<PathBuf>) -> Result<Option<LoadedConfig>, CommandError> {
    let path = match flag.or_else(|| environment::path(&environment::CONFIG)) {
        Some(path) => path,
        None if Path::new(CONFIG_DEFAULT).exists() => PathBuf::from(CONFIG_DEFAULT),
        None => return Ok(None),
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|e| CommandError::io("read the configuration", path.display(), &e))?;
    let config = Config::parse(&text).map_err(|e| CommandError::config(&path, &e))?;
    // Absolute, so that paths of the file stay right and are told from those of the command line.
    let base = std::path::absolute(&path)
        .map_err(|e| CommandError::io("find", path.display(), &e))?
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned();
    Ok(Some(LoadedConfig { config, base }))
}

/// Options as pairs of the command line.
///
/// # Errors
/// A key or value is not known.
pub fn options_of(pairs: &[(String, String)]) -> Result<StorageConfig, CommandError> {
    StorageConfig::of_pairs(pairs).map_err(|error| {
        let this = CommandError::usage(format!("--option: {}", error.kind));
        match &error.suggestion {
            Some(word) => this.hint(format!("did you mean {word:?}?")),
            None => this.hint("the keys are those of repository.options in refloat.yaml"),
        }
    })
}

fn repository_place(
    flag: Option<String>,
    file: Option<&LoadedConfig>,
    options: &StorageConfig,
) -> Result<Option<Place>, CommandError> {
    let given = match flag {
        Some(url) => Some(url),
        None => environment::text(&environment::REPOSITORY)?,
    };
    let configured = file.and_then(|f| Some((f.config.repository.as_ref()?, &f.base)));
    if let Some(url) = given {
        refuse_name(&url, file)?;
        let mut here = place(&url, Path::new(""), options.clone())?;
        // The file's options are for the file's place; where it names none, for whichever is given.
        if let Some((repository, base)) = configured
            && repository.url.as_ref().is_none_or(|own| *own == url)
        {
            here.options = here.options.or(repository.options.clone());
            here.base.clone_from(base);
        }
        return Ok(Some(here));
    }
    let Some((repository, base)) = configured else {
        return Ok(None);
    };
    let Some(url) = &repository.url else {
        return Ok(None);
    };
    place(url, base, options.clone().or(repository.options.clone())).map(Some)
}

/// A name of the configuration would be taken for a folder, and a repository be made there that
/// nobody looks for.
fn refuse_name(url: &str, file: Option<&LoadedConfig>) -> Result<(), CommandError> {
    if !file.is_some_and(|file| file.config.repositories.contains_key(url)) {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "{url:?} is the name of a repository in refloat.yaml, and --repository takes an address"
    ))
    .hint(format!(
        "give its url and its password, or ./{url} for a folder of this name"
    )))
}

/// A place whose address stands in `base`; a configuration has no shell that expands `~/`.
///
/// # Errors
/// The address is none.
pub fn place(text: &str, base: &Path, options: StorageConfig) -> Result<Place, CommandError> {
    let home = Path::new(text).starts_with("~");
    let location = if home && !base.as_os_str().is_empty() {
        Location::Folder(PathBuf::from(text))
    } else {
        text.parse()
            .map_err(|e| CommandError::of(ErrorKind::Usage, &e))?
    };
    let location = match location {
        Location::Folder(path) => Location::Folder(home::resolve(&path, base)),
        remote @ Location::Remote(_) => remote,
    };
    Ok(Place {
        location,
        options,
        base: base.to_owned(),
        cache: None,
        logins: Logins::default(),
        patience: Patience::default(),
    })
}

fn password_source(
    given: [Option<PasswordSource>; 3],
    config: Option<&LoadedConfig>,
) -> Result<PasswordSource, CommandError> {
    if let Some(source) = given.into_iter().flatten().next() {
        return Ok(source);
    }
    let set = [
        environment::text(&environment::PASSWORD)?
            .map(|_| PasswordSource::Environment(environment::PASSWORD.name.to_owned())),
        environment::path(&environment::PASSWORD_FILE).map(PasswordSource::File),
        environment::text(&environment::PASSWORD_COMMAND)?.map(PasswordSource::Command),
    ];
    let mut set = set.into_iter().flatten();
    match (set.next(), set.next()) {
        (Some(_), Some(_)) => {
            return Err(CommandError::usage(
                "more than one of REFLOAT_PASSWORD, REFLOAT_PASSWORD_FILE and \
                 REFLOAT_PASSWORD_COMMAND is set",
            )
            .hint("unset all but one"));
        }
        (Some(source), None) => return Ok(source),
        _ => {}
    }
    let configured =
        config.and_then(|c| Some((c.config.repository.as_ref()?.password.as_ref()?, &c.base)));
    Ok(configured.map_or(PasswordSource::Ask, |(config, base)| {
        PasswordSource::of(config, base)
    }))
}

impl PasswordSource {
    /// What a configuration in the folder `base` says.
    pub fn of(config: &PasswordConfig, base: &Path) -> Self {
        match config {
            PasswordConfig::File(path) => Self::File(home::resolve(path, base)),
            PasswordConfig::Command(command) => Self::Command(command.clone()),
            PasswordConfig::Env(name) => Self::Environment(name.clone()),
        }
    }
}

impl LoadedConfig {
    /// The configuration of a command that cannot do without.
    ///
    /// # Errors
    /// There is none.
    pub fn required(this: Option<&Self>) -> Result<&Self, CommandError> {
        this.ok_or_else(|| {
            CommandError::new(ErrorKind::Usage, "there is no refloat.yaml and no --source").hint(
                "write one, name it with --config, or give --source KIND:ADDRESS, for example \
                 --source docker: or --source files:/srv",
            )
        })
    }
}
