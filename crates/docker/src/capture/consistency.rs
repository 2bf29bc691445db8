//! How consistent a copy of a mount is.
//!
//! Invariant: never better than what is known: whoever cannot be asked counts as writing.

use refloat_model::outcome::Consistency;
use serde_json::Value;

use super::Session;
use crate::client::encode;
use crate::definition::MountDefinition;

impl Session<'_> {
    /// Asks about everybody who has it mounted writable.
    pub(super) fn mount_consistency(&self, fits: impl Fn(&MountDefinition) -> bool) -> Consistency {
        let writers = self
            .discovered
            .estate
            .containers
            .iter()
            .filter(|container| {
                let mounts = &container.definition.mounts;
                mounts.iter().any(|mount| fits(mount) && !mount.read_only)
            });
        let mut consistency = Consistency::Application;
        for writer in writers {
            let now = if self.source.holds.holds(&writer.id) {
                Consistency::Quiesced
            } else {
                self.state(&writer.id)
            };
            consistency = consistency.max(now);
        }
        consistency
    }

    fn state(&self, container: &str) -> Consistency {
        let target = format!("/containers/{}/json", encode(container));
        match self.client().get(&target) {
            Ok(inspect) => {
                let flag = |key: &str| {
                    let state = inspect.get("State").and_then(|state| state.get(key));
                    state.and_then(Value::as_bool) == Some(true)
                };
                match (flag("Running") || flag("Restarting"), flag("Paused")) {
                    (_, true) => Consistency::Quiesced,
                    (true, false) => Consistency::Crash,
                    (false, false) => Consistency::Application,
                }
            }
            Err(error) if error.is_not_found() => Consistency::Application,
            Err(_) => Consistency::Crash,
        }
    }
}
