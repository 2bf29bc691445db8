//! How consistent a copy of a mount is.
//!
//! Writers are asked before the copy and after it: one that stopped, started or appeared in
//! between wrote during the copy, whatever it does now.
//!
//! Invariant: never better than what is known: whoever cannot be asked counts as writing.

use std::collections::BTreeMap;

use refloat_model::outcome::Consistency;
use serde_json::Value;

use super::Session;
use crate::client::encode;
use crate::consistency::HeldBy;
use crate::definition::MountDefinition;

/// Everybody who has a mount writable, as they were at one moment.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Writers(BTreeMap<String, Writer>);

/// One container.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Writer {
    consistency: Consistency,
    /// When it was last started and last ended: another time means that it ran in between.
    times: (String, String),
}

impl Session<'_> {
    /// Asks about everybody who has it mounted writable.
    pub(super) fn writers(&self, fits: impl Fn(&MountDefinition) -> bool) -> Writers {
        let known = self.discovered.estate.containers.iter();
        let known = known.filter(|container| {
            let mounts = &container.definition.mounts;
            mounts.iter().any(|mount| fits(mount) && !mount.read_only)
        });
        Writers(
            known
                .map(|container| (container.id.clone(), self.writer(&container.id)))
                .collect(),
        )
    }

    /// How consistent a copy is that was made since `before`.
    pub(super) fn consistency_since(
        &self,
        before: &Writers,
        fits: impl Fn(&MountDefinition) -> bool,
    ) -> Consistency {
        let now = self.writers(&fits);
        if now != *before || self.has_new_writer(&fits) {
            return Consistency::Crash;
        }
        let states = now.0.values().map(|writer| writer.consistency);
        states.max().unwrap_or(Consistency::Application)
    }

    /// How consistent a copy of a container's own filesystem is, to which nobody else writes: `before` was it then.
    pub(super) fn consistency_of(&self, before: &Writer, container: &str) -> Consistency {
        let now = self.writer(container);
        match now == *before {
            true => now.consistency,
            false => Consistency::Crash,
        }
    }

    /// Asks about one container.
    pub(super) fn writer(&self, container: &str) -> Writer {
        let held = self.source.holds.how(container);
        if held == Some(HeldBy::Command) {
            return Writer::at(Consistency::Quiesced);
        }
        // Held by us does not mean that nobody else started it again: the engine says what it does.
        let target = format!("/containers/{}/json", encode(container));
        match self.client().get(&target) {
            Ok(inspect) => {
                let mut writer = Writer::of(inspect.get("State").unwrap_or(&Value::Null));
                if held.is_some() && writer.consistency == Consistency::Application {
                    writer.consistency = Consistency::Quiesced;
                }
                writer
            }
            Err(error) if error.is_not_found() => Writer::at(Consistency::Application),
            Err(_) => Writer::at(Consistency::Crash),
        }
    }

    /// Whether a container that was not there at the look at the engine may write to it.
    fn has_new_writer(&self, fits: impl Fn(&MountDefinition) -> bool) -> bool {
        let Ok(listed) = self.client().get("/containers/json?all=true") else {
            return true;
        };
        let ids = listed.as_array().into_iter().flatten();
        let ids = ids.filter_map(|container| container.get("Id")?.as_str());
        let mut new = ids.filter(|id| self.discovered.container(id).is_none());
        new.any(|id| {
            let target = format!("/containers/{}/json", encode(id));
            let inspect = match self.client().get(&target) {
                Ok(Value::Object(inspect)) => inspect,
                Err(error) if error.is_not_found() => return false,
                _ => return true,
            };
            // One that was made and never started wrote nothing: the readers of this program are.
            let is_idle = Writer::of(inspect.get("State").unwrap_or(&Value::Null)).never_ran();
            let definition = self
                .discovered
                .estate
                .definition(inspect, &|_| None, &|_| None);
            let mut mounts = definition.mounts.iter();
            !is_idle && mounts.any(|mount| fits(mount) && !mount.read_only)
        })
    }
}

impl Writer {
    fn at(consistency: Consistency) -> Self {
        Self {
            consistency,
            times: Default::default(),
        }
    }

    /// Reads the engine's `State`.
    fn of(state: &Value) -> Self {
        let flag = |key: &str| state.get(key).and_then(Value::as_bool) == Some(true);
        let time = |key: &str| {
            let time = state.get(key).and_then(Value::as_str);
            time.unwrap_or_default().to_owned()
        };
        let consistency = match (flag("Running") || flag("Restarting"), flag("Paused")) {
            (_, true) => Consistency::Quiesced,
            (true, false) => Consistency::Crash,
            (false, false) => Consistency::Application,
        };
        Self {
            consistency,
            times: (time("StartedAt"), time("FinishedAt")),
        }
    }

    /// Whether the container was never started: engines write the year 1 for "never".
    fn never_ran(&self) -> bool {
        self.consistency == Consistency::Application
            && (self.times.0.is_empty() || self.times.0.starts_with("0001-"))
    }
}
