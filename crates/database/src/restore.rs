//! Bringing a dump back: files to place before the server starts, or statements for a running one.
//!
//! Invariant: a step counts as done only with its exit status *and* the sign that all of its
//! input arrived, because the input of an exec can be cut in silence.

use crate::engine::Engine;
use crate::exec::{COMPLETE, Exec};

/// How to bring one dump file back.
#[derive(Debug)]
pub struct DumpRestore {
    /// The dump file, as it is called in the point.
    pub file_name: String,
    /// The database it holds; none for accounts and for engines that dump everything at once.
    pub database: Option<String>,
    /// Files to put into the data volume while the server is stopped; it loads them when it
    /// starts. Empty for engines that are filled while they run.
    pub placed_files: Vec<PlacedFile>,
    /// Paths in the data volume to remove, with all below, before placing: they would win over
    /// what is placed.
    pub removals: Vec<String>,
    /// Commands for the running server, in order; the first that is rejected ends the restore.
    pub steps: Vec<RestoreStep>,
    /// To be run, in order, if one of `steps` was rejected: the database is then as before.
    /// Running it twice does no harm.
    pub undo: Vec<RestoreStep>,
}

/// A file to be put into the data volume before the server starts, owned like its folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedFile {
    /// The absolute path inside the container.
    pub path: String,
    /// What goes there.
    pub content: PlacedContent,
}

/// What a placed file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlacedContent {
    /// The dump.
    Dump,
    /// This text.
    Text(String),
}

/// What a command reads from its standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Nothing: the input is closed at once.
    None,
    /// This text, then the end.
    Text(String),
    /// The dump file, then `suffix`, then the end.
    Dump {
        /// Statements that prove that all before them arrived.
        suffix: &'static str,
    },
}

/// How much of the end of what a command printed [`RestoreStep::judge`] has to be given.
pub const JUDGED_BYTES: usize = 64 << 10;

/// One command of a restore.
#[derive(Debug)]
pub struct RestoreStep {
    /// What it does, for reports: `load shop`.
    pub title: String,
    /// The command.
    pub exec: Exec,
    /// Its standard input.
    pub input: Input,
    pub(crate) proof: Proof,
}

/// What a step must show besides exit status 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// Nothing.
    ExitStatus,
    /// The closing line on standard output.
    Complete,
    /// The closing line, and on standard error no SQL error but "exists already" (42710).
    CompleteOrDuplicate,
    /// The closing line, which is printed only if no index is invalid.
    NoInvalidIndex,
    /// mongorestore's count of failed documents, which must be 0.
    NoDocumentFailed,
}

/// Why a restore step does not count as done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepRejected {
    /// The command ended badly, or it is not known how it ended.
    #[error("{title}: exit status {code:?}")]
    ExitStatus {
        /// The step.
        title: String,
        /// The status; none if it is not known.
        code: Option<i64>,
    },
    /// Its input was cut: the closing statement never ran.
    #[error("{title}: the input did not arrive to its end")]
    Cut {
        /// The step.
        title: String,
    },
    /// Statements failed.
    #[error("{title}: statements failed with SQL state {states}")]
    Failed {
        /// The step.
        title: String,
        /// The SQL states, the first ten.
        states: String,
    },
    /// An index was not built to its end.
    #[error("{title}: an index is invalid")]
    InvalidIndex {
        /// The step.
        title: String,
    },
    /// So much was complained of that its beginning is not known.
    #[error("{title}: more complaints than can be judged")]
    Unjudged {
        /// The step.
        title: String,
    },
    /// Documents could not be restored, or the client did not say that all could.
    #[error("{title}: mongorestore does not report 0 failed documents")]
    DocumentsFailed {
        /// The step.
        title: String,
    },
}

/// A file in the point that this engine's recipe cannot have written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file_name:?} is no dump of {engine}")]
pub struct UnknownDump {
    /// The engine.
    pub engine: Engine,
    /// The file.
    pub file_name: String,
}

impl DumpRestore {
    /// For a running server, without a way back.
    pub(crate) fn running(
        file_name: &str,
        database: Option<String>,
        steps: Vec<RestoreStep>,
    ) -> Self {
        Self {
            file_name: file_name.to_owned(),
            database,
            placed_files: Vec::new(),
            removals: Vec::new(),
            steps,
            undo: Vec::new(),
        }
    }
}

impl RestoreStep {
    /// Decides whether the step did all its work.
    ///
    /// `stdout` and `stderr` are all that the command printed, or at least its last
    /// [`JUDGED_BYTES`].
    ///
    /// # Errors
    /// It did not; the database is to be undone.
    pub fn judge(
        &self,
        exit_code: Option<i64>,
        stdout: &[u8],
        stderr: &[u8],
    ) -> Result<(), StepRejected> {
        let title = || self.title.clone();
        if exit_code != Some(0) {
            return Err(StepRejected::ExitStatus {
                title: title(),
                code: exit_code,
            });
        }
        let complete = || match stdout.trim_ascii_end().ends_with(COMPLETE.as_bytes()) {
            true => Ok(()),
            false => Err(StepRejected::Cut { title: title() }),
        };
        match self.proof {
            Proof::ExitStatus => Ok(()),
            Proof::Complete => complete(),
            Proof::NoInvalidIndex => {
                complete().map_err(|_| StepRejected::InvalidIndex { title: title() })
            }
            Proof::CompleteOrDuplicate if stderr.len() >= JUDGED_BYTES => {
                Err(StepRejected::Unjudged { title: title() })
            }
            Proof::CompleteOrDuplicate => {
                let states = foreign_states(stderr);
                if states.is_empty() {
                    complete()
                } else {
                    Err(StepRejected::Failed {
                        title: title(),
                        states: states.join(", "),
                    })
                }
            }
            Proof::NoDocumentFailed => {
                let text = String::from_utf8_lossy(stderr);
                match text.contains(" 0 document(s) failed to restore") {
                    true => Ok(()),
                    false => Err(StepRejected::DocumentsFailed { title: title() }),
                }
            }
        }
    }
}

/// SQL states on psql's standard error (`VERBOSITY=sqlstate`: `psql:<stdin>:14: ERROR:  42710`)
/// other than `duplicate_object`. Codes, because the words are in the server's language.
fn foreign_states(stderr: &[u8]) -> Vec<String> {
    const DUPLICATE_OBJECT: &str = "42710";
    /// Classes of success, warning and no data.
    const NO_ERROR: [&str; 3] = ["00", "01", "02"];
    const LISTED_MAX: usize = 10;
    String::from_utf8_lossy(stderr)
        .lines()
        .filter_map(|line| {
            let state = line.rsplit(":  ").next().unwrap_or(line).trim();
            if state.len() == 5 && state.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Some(state.to_owned());
            }
            // A psql older than 12 does not know the setting and gives words.
            let words = line.contains("sqlstate") || line.contains("ERROR");
            words.then(|| "unknown".to_owned())
        })
        .filter(|state| state != DUPLICATE_OBJECT && !NO_ERROR.contains(&&state[..2]))
        .take(LISTED_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(proof: Proof) -> RestoreStep {
        RestoreStep {
            title: "load shop".into(),
            exec: Exec::new(["psql"]),
            input: Input::None,
            proof,
        }
    }

    #[test]
    fn a_step_without_its_closing_line_is_rejected() {
        let title = || "load shop".to_owned();
        let judge = |proof, code, out: &str, err: &str| {
            step(proof).judge(code, out.as_bytes(), err.as_bytes())
        };
        let complete = format!("1\n{COMPLETE}\n");
        assert_eq!(judge(Proof::Complete, Some(0), &complete, ""), Ok(()));
        assert_eq!(
            judge(Proof::Complete, Some(0), "1\n", ""),
            Err(StepRejected::Cut { title: title() })
        );
        for code in [None, Some(3)] {
            assert_eq!(
                judge(Proof::Complete, code, &complete, ""),
                Err(StepRejected::ExitStatus {
                    title: title(),
                    code
                })
            );
        }
        let duplicate = "psql:<stdin>:14: FEHLER:  42710\n";
        assert_eq!(
            judge(Proof::CompleteOrDuplicate, Some(0), &complete, duplicate),
            Ok(())
        );
        let denied = "psql:<stdin>:14: ERROR:  42710\npsql:<stdin>:15: ERROR:  42501\n";
        assert_eq!(
            judge(Proof::CompleteOrDuplicate, Some(0), &complete, denied),
            Err(StepRejected::Failed {
                title: title(),
                states: "42501".into()
            })
        );
        let roles = duplicate.repeat(JUDGED_BYTES / duplicate.len() + 1);
        assert_eq!(
            judge(Proof::CompleteOrDuplicate, Some(0), &complete, &roles),
            Err(StepRejected::Unjudged { title: title() })
        );
        assert_eq!(
            judge(Proof::NoInvalidIndex, Some(0), "", ""),
            Err(StepRejected::InvalidIndex { title: title() })
        );
        assert_eq!(
            judge(
                Proof::NoDocumentFailed,
                Some(0),
                "",
                "3 document(s) restored successfully. 0 document(s) failed to restore."
            ),
            Ok(())
        );
        assert_eq!(
            judge(
                Proof::NoDocumentFailed,
                Some(0),
                "",
                "2 document(s) restored successfully. 10 document(s) failed to restore."
            ),
            Err(StepRejected::DocumentsFailed { title: title() })
        );
    }
}
