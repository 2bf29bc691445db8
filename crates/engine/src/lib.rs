//! Decisions: what is saved, restored and forgotten, and how it went.
//!
//! Every operation is a pure planner plus an executor that follows the plan. The engine knows the
//! repository and the source contract.
//!
//! Invariant: nothing here knows an adapter, prints, exits, reads the environment, a clock or a
//! source of randomness; all of these come in as arguments.

pub mod backup;
pub mod config;
pub mod diff;
pub mod find;
pub mod folder_changes;
pub mod folder_restore;
pub mod git_export;
pub mod manifest;
pub mod period;
pub mod point_list;
pub mod retention;
pub mod stored;
pub mod suggest;

/// The text of an error and its causes, each once, for reports that are data.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
