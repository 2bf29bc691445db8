//! A command to run inside a container, and how it gets its password there.
//!
//! Invariant: values from outside are arguments, never part of a script's text; a password comes
//! from the container's own environment or files, or goes in by the exec's environment.

use refloat_model::secret::Secret;

/// A command for an exec in the container, as the container's own user.
#[derive(Debug)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables for this exec beside the container's own. Empty for most recipes; only where a
    /// password stands nowhere inside the container but on its server's command line.
    pub environment: Vec<(&'static str, Secret)>,
}

impl Exec {
    /// A program with arguments and nothing else.
    pub(crate) fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
        }
    }

    /// `script` for the container's `sh`, which finds `arguments` as `"$@"`.
    pub(crate) fn script<S: Into<String>>(
        script: String,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut argv = vec![
            "sh".to_owned(),
            "-c".to_owned(),
            script,
            "refloat".to_owned(),
        ];
        argv.extend(arguments.into_iter().map(Into::into));
        Self {
            argv,
            environment: Vec::new(),
        }
    }
}

/// A shell function `first`: prints the value of the first of the named variables that is set, or
/// the content of the file that `NAME_FILE` names. Nothing is printed if there is none.
pub(crate) const FIRST: &str = r#"first() {
for name; do
eval "value=\${$name:-} file=\${${name}_FILE:-}"
if [ -n "$value" ]; then printf %s "$value"; return; fi
if [ -n "$file" ] && [ -r "$file" ]; then cat "$file"; return; fi
done
}
"#;

/// The line that ends a stream of statements: its echo proves that all before it arrived.
///
/// An exec's input can be cut without an error; a client would then run what it got and succeed.
pub(crate) const COMPLETE: &str = "refloat: all statements arrived";
