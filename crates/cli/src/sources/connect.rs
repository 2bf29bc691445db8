//! Making adapters.
//!
//! Invariant: nothing is contacted before discovery.

use std::sync::Arc;

use refloat_engine::config::{FilesConfig, SourceConfig};
use refloat_files::{FilesOptions, FilesSource, Mounts};
use refloat_source::Source;

use super::address::Declared;
use crate::command_error::{CommandError, ErrorKind};

/// The adapters of these sources.
///
/// # Errors
/// A source's configuration cannot be.
pub fn connect_all(declared: &[Declared]) -> Result<Vec<Arc<dyn Source>>, CommandError> {
    declared.iter().map(connect).collect()
}

fn connect(declared: &Declared) -> Result<Arc<dyn Source>, CommandError> {
    match &declared.config {
        SourceConfig::Files(config) => Ok(Arc::new(files(&declared.name, config)?)),
        SourceConfig::Docker(_) => Err(CommandError::usage("docker is not wired yet")),
    }
}

fn files(name: &str, config: &FilesConfig) -> Result<FilesSource, CommandError> {
    let options = FilesOptions {
        exclude: config.exclude.clone(),
        mounts: if config.one_file_system {
            Mounts::Skip
        } else {
            Mounts::Enter
        },
        ..FilesOptions::default()
    };
    FilesSource::new(name, config.paths.iter().cloned(), options)
        .map_err(|e| CommandError::of(ErrorKind::Usage, &e))
}
