//! What is known of a container before anything is run in it.
//!
//! Invariant: borrowed from the container's definition; values may be secrets and are not kept.

/// A container as its definition describes it, whatever engine runs it.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    /// The image reference as the definition names it: `docker.io/library/postgres:15`.
    pub image: &'a str,
    /// The effective environment, `NAME=value`; only `NAME` where the value is not known (a
    /// Kubernetes secret reference).
    pub environment: &'a [String],
    /// The effective command: entry point and arguments. Empty where it is not known.
    pub command: &'a [String],
}

impl<'a> Container<'a> {
    /// Whether the environment has the variable, known value or not, and not empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.environment
            .iter()
            .any(|variable| match variable.split_once('=') {
                Some((n, value)) => n == name && !value.is_empty(),
                None => variable == name,
            })
    }

    /// The variable's value, where it is set and known.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.environment
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .find(|(n, value)| *n == name && !value.is_empty())
            .map(|(_, value)| value)
    }

    /// The value of a command line option, given as `--name value`, `--name=value`, or one of
    /// these inside a shell's script word. The last one counts, as servers have it.
    pub(crate) fn option(&self, name: &str) -> Option<&'a str> {
        let words = self.words();
        let mut found = None;
        for (index, word) in words.iter().enumerate() {
            if *word == name {
                found = words.get(index + 1).copied().or(found);
            } else if let Some(value) = word.strip_prefix(name).and_then(|w| w.strip_prefix('=')) {
                found = Some(value);
            }
        }
        found.map(|value| value.trim_matches(['"', '\'']))
    }

    /// The words of the command: its arguments, and in the place of a shell's script
    /// (`sh -c "exec mongod"`) the words of the script.
    pub(crate) fn words(&self) -> Vec<&'a str> {
        let mut words = Vec::new();
        let mut after_c = false;
        for argument in self.command {
            if after_c {
                words.extend(argument.split_whitespace());
            } else {
                words.push(argument.as_str());
            }
            // Also -ec and -lc.
            after_c = argument.len() <= 4 && argument.starts_with('-') && argument.ends_with('c');
        }
        words
    }
}

/// Says nothing of the environment's values and the command, which may hold secrets.
impl std::fmt::Debug for Container<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_every_spelling() {
        let option = |words: &[&str], name: &str| {
            let command: Vec<String> = words.iter().map(ToString::to_string).collect();
            let container = Container {
                image: "redis",
                environment: &[],
                command: &command,
            };
            container.option(name).map(str::to_owned)
        };
        let port = Some("6380".to_owned());
        assert_eq!(option(&["redis-server", "--port", "6380"], "--port"), port);
        assert_eq!(option(&["x", "--port=1", "--port=6380"], "--port"), port);
        assert_eq!(
            option(&["sh", "-c", "exec redis-server --port '6380'"], "--port"),
            port
        );
        assert_eq!(option(&["redis-server", "--ports", "1"], "--port"), None);
        assert_eq!(
            option(&["redis-server", "--requirepass", "a b"], "--requirepass"),
            Some("a b".to_owned())
        );
    }

    #[test]
    fn debug_shows_no_values() {
        let environment = ["PGPASSWORD=hunter2".to_owned()];
        let container = Container {
            image: "postgres",
            environment: &environment,
            command: &[],
        };
        assert_eq!(
            format!("{container:?}"),
            r#"Container { image: "postgres", .. }"#
        );
    }
}
