//! Every environment variable that Refloat reads, declared once.
//!
//! Invariant: nothing else in the workspace reads the environment; a value that is no text is an
//! error, never ignored.

mod storage;

use std::path::PathBuf;

pub use storage::{STORAGE, lookup};

use crate::command_error::CommandError;

/// One variable with its meaning, for the reference page.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// The repository's address.
pub const REPOSITORY: Variable = Variable {
    name: "REFLOAT_REPOSITORY",
    meaning: "The repository's address; as --repository",
};
/// The password.
pub const PASSWORD: Variable = Variable {
    name: "REFLOAT_PASSWORD",
    meaning: "The repository's password",
};
/// The password's file.
pub const PASSWORD_FILE: Variable = Variable {
    name: "REFLOAT_PASSWORD_FILE",
    meaning: "A file whose first line is the password; as --password-file",
};
/// The password's command.
pub const PASSWORD_COMMAND: Variable = Variable {
    name: "REFLOAT_PASSWORD_COMMAND",
    meaning: "A command whose first line of output is the password; as --password-command",
};
/// The ledger's file.
pub const LEDGER: Variable = Variable {
    name: "REFLOAT_LEDGER",
    meaning: "The file that records points and keys, kept elsewhere; as --ledger",
};
/// The deleter key's file.
pub const DELETER_KEY: Variable = Variable {
    name: "REFLOAT_DELETER_KEY",
    meaning: "The file with the key of whoever may delete; as --deleter-key",
};
/// The password of a registry on the command line.
pub const REGISTRY_PASSWORD: Variable = Variable {
    name: "REFLOAT_REGISTRY_PASSWORD",
    meaning: "The password of --registry-user",
};
/// The password of an etcd on the command line.
pub const ETCD_PASSWORD: Variable = Variable {
    name: "REFLOAT_ETCD_PASSWORD",
    meaning: "The password of --etcd-user",
};
/// The configuration file.
pub const CONFIG: Variable = Variable {
    name: "REFLOAT_CONFIG",
    meaning: "The configuration file; as --config",
};
/// The other repository of `copy`.
pub const OTHER_REPOSITORY: Variable = Variable {
    name: "REFLOAT_OTHER_REPOSITORY",
    meaning: "The repository to copy to; as --to of copy",
};
/// The password of the other repository.
pub const OTHER_PASSWORD: Variable = Variable {
    name: "REFLOAT_OTHER_PASSWORD",
    meaning: "The password of the other repository of copy and init --copy-chunker-params",
};
/// The file of the other repository's password.
pub const OTHER_PASSWORD_FILE: Variable = Variable {
    name: "REFLOAT_OTHER_PASSWORD_FILE",
    meaning: "A file with the other repository's password; as --other-password-file",
};
/// The command of the other repository's password.
pub const OTHER_PASSWORD_COMMAND: Variable = Variable {
    name: "REFLOAT_OTHER_PASSWORD_COMMAND",
    meaning: "A command for the other repository's password; as --other-password-command",
};
/// The home folder, for `~/` in paths.
pub const HOME: Variable = Variable {
    name: "HOME",
    meaning: "The home folder: `~/` in paths, and a place that a restore does not overwrite unasked",
};

/// Kubeconfigs.
pub const KUBECONFIG: Variable = Variable {
    name: "KUBECONFIG",
    meaning: "Kubeconfigs of kubernetes: sources, a list as for kubectl; ~/.kube/config if not set",
};

/// The folder for temporary files.
pub const TMPDIR: Variable = Variable {
    name: "TMPDIR",
    meaning: "Where an etcd snapshot is kept, without a name, while it is captured or looked into; /tmp if not set",
};

/// All of them.
pub const ALL: [&Variable; 16] = [
    &REPOSITORY,
    &PASSWORD,
    &PASSWORD_FILE,
    &PASSWORD_COMMAND,
    &LEDGER,
    &DELETER_KEY,
    &REGISTRY_PASSWORD,
    &ETCD_PASSWORD,
    &CONFIG,
    &OTHER_REPOSITORY,
    &OTHER_PASSWORD,
    &OTHER_PASSWORD_FILE,
    &OTHER_PASSWORD_COMMAND,
    &HOME,
    &KUBECONFIG,
    &TMPDIR,
];

/// The value of a variable; none if it is not set or empty.
///
/// # Errors
/// It is not UTF-8.
pub fn text(variable: &Variable) -> Result<Option<String>, CommandError> {
    named(variable.name)
}

/// The value of the variable that a configuration names.
///
/// # Errors
/// It is not UTF-8.
pub fn named(name: &str) -> Result<Option<String>, CommandError> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(CommandError::usage(format!(
            "the environment variable {name} is not UTF-8"
        ))),
    }
}

/// The path in a variable; none if it is not set or empty.
pub fn path(variable: &Variable) -> Option<PathBuf> {
    std::env::var_os(variable.name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The folder for temporary files.
pub fn temporary() -> PathBuf {
    path(&TMPDIR).unwrap_or_else(|| "/tmp".into())
}
