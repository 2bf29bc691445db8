//! Definitions: host, containers, networks, swarm objects.
//!
//! Invariant: a container's definition is the one it has now, not the one it had when the engine
//! was looked at; what is gone is a failure.

use refloat_model::outcome::Consistency;
use refloat_source::SourceError;
use serde_json::Value;

use super::{Session, Unknown, failed};
use crate::client::encode;
use crate::definition::{DaemonFile, NetworkDefinition, Object};
use crate::error::EngineError;

/// The largest `daemon.json` that is kept, in bytes.
const DAEMON_FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Session<'_> {
    pub(super) fn host(&mut self) -> Result<Consistency, SourceError> {
        let mut host = self.discovered.estate.host.clone();
        if self.source.is_local(self.discovered) {
            host.daemon_file = self.daemon_file();
        } else {
            self.note("the engine is on another machine: its daemon.json is not captured");
        }
        self.document(self.name, &host)?;
        Ok(Self::definition())
    }

    fn daemon_file(&mut self) -> Option<DaemonFile> {
        let path = &self.source.options().daemon_file;
        let shown = path.display().to_string();
        let metadata = std::fs::metadata(path);
        let result = match metadata {
            Ok(metadata) if metadata.len() > DAEMON_FILE_BYTES_MAX => {
                self.warn(format!("{shown} is larger than 1 MiB and is not captured"));
                return None;
            }
            Ok(_) => std::fs::read_to_string(path),
            Err(error) => Err(error),
        };
        match result {
            Ok(text) => Some(DaemonFile { path: shown, text }),
            // Most engines run without one.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.warn(format!("cannot read {shown}: {error}"));
                None
            }
        }
    }

    pub(super) fn container(&mut self, id: &str) -> Result<Consistency, SourceError> {
        let inspect = self.inspect(&format!("/containers/{}/json", encode(id)))?;
        let discovered = self.discovered;
        let names = |id: &str| discovered.container(id).map(|c| c.definition.name.clone());
        let mut definition = discovered
            .estate
            .definition(inspect, &names, &|mount| discovered.data_path(mount));
        let ran = discovered.container(id).is_some_and(|c| c.is_running());
        if ran && !definition.started && !self.source.holds.holds(id) {
            self.warn(
                "it was stopped during the backup, by a person or by another backup: a restore \
                 starts it all the same",
            );
        }
        // Whoever holds it, this backup or another, starts it again.
        definition.started |= ran;
        self.document(self.name, &definition)?;
        Ok(Self::definition())
    }

    pub(super) fn network(&mut self, name: &str) -> Result<Consistency, SourceError> {
        let inspect = self.inspect(&format!("/networks/{}", encode(name)))?;
        let network = NetworkDefinition::from_inspect(inspect);
        self.document(self.name, &network)?;
        Ok(Self::definition())
    }

    pub(super) fn swarm(&mut self, folder: &str, name: &str) -> Result<Consistency, SourceError> {
        let object = self
            .discovered
            .estate
            .swarm
            .iter()
            .find(|object| object.kind.folder() == folder && object.name == name)
            .ok_or_else(|| failed("find", self.item, Unknown))?;
        self.document(self.name, object)?;
        Ok(Self::definition())
    }

    /// The engine's answer about one object.
    pub(super) fn inspect(&self, target: &str) -> Result<Object, SourceError> {
        match self.client().get(target) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(self.fail("look at", EngineError::Incomplete("description"))),
            Err(error) => Err(self.fail("look at", error)),
        }
    }
}
