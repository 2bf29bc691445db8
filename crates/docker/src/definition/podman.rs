//! What only Podman's own API tells of a container: Docker's, by which containers are read and made,
//! has no words for it.
//!
//! Invariant: names only, never a value.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Options of `podman create` that say what a container is and that Docker does not have.
const OPTIONS: &[&str] = &[
    "chrootdirs",
    "gidmap",
    "group-entry",
    "health-on-failure",
    "health-startup-cmd",
    "hosts-file",
    "hostuser",
    "image-volume",
    "init-ctr",
    "no-hostname",
    "no-hosts",
    "passwd-entry",
    "personality",
    "requires",
    "rootfs",
    "sdnotify",
    "seccomp-policy",
    "subgidname",
    "subuidname",
    "systemd",
    "tz",
    "uidmap",
    "umask",
    "unsetenv",
    "unsetenv-all",
    "userns",
];

/// What a container has that Docker's API cannot ask for: no restore gives it back.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PodmanOnly {
    /// The pod it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Podman's secrets that it is given, as files or in its environment.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Options that it was created with, `--userns`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub options: BTreeSet<String>,
}

impl PodmanOnly {
    /// Whether Docker's API says everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// From the answer of Podman's own "inspect"; `pods` has names by id.
    pub(crate) fn from_inspect(inspect: &Value, pods: &HashMap<String, String>) -> Self {
        let strings = |pointer: &str| {
            let values = inspect.pointer(pointer).and_then(Value::as_array);
            let values = values.into_iter().flatten();
            values.filter_map(Value::as_str).collect::<Vec<&str>>()
        };
        let pod = inspect.get("Pod").and_then(Value::as_str);
        let pod = pod.filter(|id| !id.is_empty());
        let files = inspect.pointer("/Config/Secrets").and_then(Value::as_array);
        let files = files.into_iter().flatten();
        let mut only = Self {
            pod: pod.map(|id| pods.get(id).map_or(id, String::as_str).to_owned()),
            secrets: files
                .filter_map(|secret| Some(secret.get("Name")?.as_str()?.to_owned()))
                .collect(),
            options: BTreeSet::new(),
        };
        let command = strings("/Config/CreateCommand");
        let arguments = strings("/Config/Cmd");
        // What the container runs may have options of these names.
        only.take_options(command.strip_suffix(&arguments[..]).unwrap_or(&command));
        only
    }

    /// Secrets in the environment are told by the command alone.
    fn take_options(&mut self, command: &[&str]) {
        for (index, word) in command.iter().enumerate() {
            let Some(option) = word.strip_prefix("--") else {
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, command.get(index + 1).copied()),
            };
            if name == "secret" {
                let secret = value.and_then(|value| value.split(',').next());
                self.secrets.extend(secret.map(str::to_owned));
            } else if OPTIONS.contains(&name) {
                self.options.insert(format!("--{name}"));
            }
        }
    }
}

impl std::fmt::Display for PodmanOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pod = self.pod.iter().map(|pod| format!("pod {pod}"));
        let secrets = self.secrets.iter().map(|name| format!("secret {name}"));
        let all = pod.chain(secrets).chain(self.options.iter().cloned());
        f.write_str(&all.collect::<Vec<String>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_docker_cannot_say_is_found_and_arguments_are_no_options() {
        let pods = HashMap::from([("p1".to_owned(), "web".to_owned())]);
        let inspect = json!({"Pod": "p1", "Config": {
            "Secrets": [{"Name": "certificate", "ID": "1"}],
            "Cmd": ["serve", "--tz", "--secret=mine"],
            "CreateCommand": ["podman", "run", "-d", "--pod", "web", "--secret", "token,type=env",
                "--secret=certificate,mode=0400", "--userns=keep-id", "--env", "A=1", "app:1",
                "serve", "--tz", "--secret=mine"]}});
        let only = PodmanOnly::from_inspect(&inspect, &pods);
        assert_eq!(only.pod.as_deref(), Some("web"));
        assert_eq!(
            only.to_string(),
            "pod web, secret certificate, secret token, --userns"
        );
        // Through Docker's API: no command, no pod.
        let plain = json!({"Pod": "", "Config": {"Cmd": ["--tz"], "CreateCommand": null}});
        assert!(PodmanOnly::from_inspect(&plain, &pods).is_empty());
        let stranger = json!({"Pod": "p2"});
        let stranger = PodmanOnly::from_inspect(&stranger, &pods);
        assert_eq!(stranger.pod.as_deref(), Some("p2"));
    }
}
