//! What is done to an application so that its data is consistent, and undone afterwards.
//!
//! Invariant: whatever was done is undone, in reverse order, once: by `resume`, or by dropping.

mod hold;

use std::collections::BTreeMap;

pub(crate) use hold::{HeldBy, HoldRequest, Holds, hold};

const PREFIX: &str = "refloat.";
const BEFORE: &str = "refloat.before";
const AFTER: &str = "refloat.after";
const PAUSE: &str = "refloat.pause";
const STOP: &str = "refloat.stop";
const EXCLUDE: &str = "refloat.exclude";
const DUMP: &str = "refloat.dump";

/// What is done with one container, from its labels or the policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Consistency {
    /// Command to run inside before capture; a failure means the workload is not consistent.
    pub before: Option<HookCommand>,
    /// Command to run inside after capture, always.
    pub after: Option<HookCommand>,
    /// Whether the container is held meanwhile.
    pub hold: Hold,
    /// Whether a recognised database is dumped.
    pub dump: DumpMode,
    /// Whether the container and its data are left out.
    pub exclude: bool,
}

/// A command inside a container: program and arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookCommand(pub Vec<String>);

/// How a container is held while it is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hold {
    /// It runs on.
    #[default]
    Run,
    /// Its processes are frozen.
    Pause,
    /// It is stopped and started again.
    Stop,
}

/// Whether databases are dumped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DumpMode {
    /// If one is recognised and not held.
    #[default]
    Auto,
    /// No.
    None,
}

impl HookCommand {
    /// A JSON list is program and arguments; anything else is for the container's `sh`.
    fn parse(text: &str) -> Result<Self, ()> {
        if text.trim_start().starts_with('[') {
            return match serde_json::from_str::<Vec<String>>(text) {
                Ok(argv) if !argv.is_empty() => Ok(Self(argv)),
                _ => Err(()),
            };
        }
        if text.trim().is_empty() {
            return Err(());
        }
        Ok(Self(vec!["sh".into(), "-c".into(), text.to_owned()]))
    }
}

impl Consistency {
    /// What the labels say, over what the policy says. The second value names labels that are not
    /// understood: a typing error may not pass for consent.
    pub(crate) fn from_labels<'a>(
        policy: Self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> (Self, Vec<String>) {
        let labels: BTreeMap<_, _> = labels
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let mut result = policy;
        let mut complaints = Vec::new();
        for (name, value) in labels {
            if !result.apply(name, value) {
                complaints.push(format!("label {name} is not understood and has no effect"));
            }
        }
        (result, complaints)
    }

    fn apply(&mut self, name: &str, value: &str) -> bool {
        let held = |word: Hold, now: Hold| match value.trim() {
            "true" => Some(word),
            "false" if now == word => Some(Hold::Run),
            "false" => Some(now),
            _ => None,
        };
        match name {
            BEFORE => set(&mut self.before, HookCommand::parse(value).ok().map(Some)),
            AFTER => set(&mut self.after, HookCommand::parse(value).ok().map(Some)),
            PAUSE => {
                let hold = held(Hold::Pause, self.hold);
                set(&mut self.hold, hold)
            }
            STOP => {
                let hold = held(Hold::Stop, self.hold);
                set(&mut self.hold, hold)
            }
            EXCLUDE => set(&mut self.exclude, value.trim().parse().ok()),
            DUMP => {
                let mode = match value.trim() {
                    "auto" | "true" => Some(DumpMode::Auto),
                    "none" | "false" => Some(DumpMode::None),
                    _ => None,
                };
                set(&mut self.dump, mode)
            }
            _ => false,
        }
    }

    /// For a container that the engine removes, with its anonymous volumes, as soon as it stops:
    /// what would stop it pauses it. Gives what a person should know.
    pub(crate) fn without_stop(&mut self) -> Option<String> {
        if self.hold != Hold::Stop {
            return None;
        }
        self.hold = Hold::Pause;
        Some("is removed by the engine when it stops (--rm): paused instead of stopped".to_owned())
    }

    /// Whether capture needs anything done to the container.
    pub(crate) fn is_needed(&self) -> bool {
        self.before.is_some() || self.after.is_some() || self.hold != Hold::Run
    }
}

/// Whether a volume's labels say that its data is left out.
pub(crate) fn excludes(labels: &BTreeMap<String, String>) -> bool {
    labels
        .get(EXCLUDE)
        .is_some_and(|value| value.trim() == "true")
}

fn set<T>(place: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *place = value;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_win_over_the_policy_and_typing_errors_are_named() {
        let policy = Consistency {
            hold: Hold::Pause,
            dump: DumpMode::None,
            ..Consistency::default()
        };
        let (found, complaints) = Consistency::from_labels(
            policy,
            [
                ("refloat.before", "fsfreeze -f /data"),
                ("refloat.after", r#"["fsfreeze", "-u", "/data"]"#),
                ("refloat.stop", "true"),
                ("refloat.dump", "auto"),
                ("refloat.exlude", "true"),
                ("refloat.exclude", "yes please"),
                ("other", "x"),
            ],
        );
        let argv = |words: &[&str]| HookCommand(words.iter().map(ToString::to_string).collect());
        assert_eq!(
            found,
            Consistency {
                before: Some(argv(&["sh", "-c", "fsfreeze -f /data"])),
                after: Some(argv(&["fsfreeze", "-u", "/data"])),
                hold: Hold::Stop,
                dump: DumpMode::Auto,
                exclude: false,
            }
        );
        assert_eq!(
            complaints,
            [
                "label refloat.exclude is not understood and has no effect",
                "label refloat.exlude is not understood and has no effect",
            ]
        );
    }

    #[test]
    fn a_label_can_take_back_what_the_policy_wants() {
        let policy = Consistency {
            hold: Hold::Stop,
            ..Consistency::default()
        };
        let (found, _) = Consistency::from_labels(policy, [("refloat.stop", "false")]);
        assert_eq!(found.hold, Hold::Run);
    }
}
