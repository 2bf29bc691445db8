//! What a front-end lends this crate of the process: variables, the home folder, the clock.
//!
//! Invariant: nothing else here reads the environment or a clock.

use std::path::PathBuf;
use std::sync::Arc;

use refloat_model::secret::Secret;

/// Looks a variable of the environment up.
pub type Lookup = Arc<dyn Fn(&str) -> Option<Secret> + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub struct Surroundings {
    /// The environment.
    pub lookup: Lookup,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The time.
    pub clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

impl Surroundings {
    /// No variables, no home, and the time of this machine; for tests.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            lookup: Arc::new(|_name| None),
            home: None,
            clock: Arc::new(jiff::Timestamp::now),
        }
    }

    /// These variables; for tests.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let owned: Vec<(String, Vec<u8>)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        Self {
            lookup: Arc::new(move |name| {
                let (_, value) = owned.iter().find(|(known, _)| known == name)?;
                Some(Secret::new(value.clone()))
            }),
            ..Self::empty()
        }
    }

    /// A value that is kept secret; none if it is empty.
    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        (self.lookup)(name).filter(|value| !value.expose().is_empty())
    }

    /// A value that is not secret.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.secret(name)?.expose().to_vec()).ok()
    }

    /// A value that is a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }
}
