//! Exit codes: restic's where restic has one.
//!
//! Invariant: 0 means that everything asked for was done; a script needs to look at nothing else.

use serde::{Serialize, Serializer};

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// All done.
    Success = 0,
    /// It could not be done.
    Fatal = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Part of it was not done; what, is in the report.
    Incomplete = 3,
    /// Differences were found.
    Differences = 4,
    /// There is no repository.
    NoRepository = 10,
    /// Somebody else holds a lock.
    Locked = 11,
    /// No key opens with this password.
    WrongPassword = 12,
    /// SIGHUP: the terminal went away.
    HungUp = 129,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl ExitStatus {
    /// Every one, by number.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::Fatal,
        Self::Usage,
        Self::Incomplete,
        Self::Differences,
        Self::NoRepository,
        Self::Locked,
        Self::WrongPassword,
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// What it says to whoever reads the manual.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "Everything that was asked for was done.",
            Self::Fatal => "It could not be done; the error says why.",
            Self::Usage => "The command line or the configuration is wrong.",
            Self::Incomplete => "Part of it was not done; the report names what.",
            Self::Differences => "Differences were found.",
            Self::NoRepository => "There is no repository at this place.",
            Self::Locked => "Somebody else holds a lock on the repository.",
            Self::WrongPassword => "No key of the repository opens with this password.",
            Self::HungUp => "Stopped by SIGHUP: the terminal went away.",
            Self::Interrupted => "Stopped by SIGINT.",
            Self::Terminated => "Stopped by SIGTERM.",
        }
    }

    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

impl Serialize for ExitStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}
