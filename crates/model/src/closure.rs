//! Closure: is every reference of every workload captured, waived by name, or missing?
//!
//! Invariant: a reference is never dropped; what nobody provides is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::glob::Glob;
use crate::subject::{Subject, SubjectKind};
use crate::time::Timestamp;

/// A person's decision that a reference need not be captured, until a day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiver {
    /// Pattern over `kind:name`: `image:legacy/tool@*`.
    pub reference: Glob,
    /// Who decided.
    pub who: String,
    /// Why.
    pub why: String,
    /// The moment it ends; from then on the reference counts as missing again.
    pub until: Timestamp,
}

/// What is known of one reference.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ReferenceState {
    /// The point holds it.
    Captured {
        /// The sources whose copy has it; only for images, of which a point may hold several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        from: Vec<String>,
    },
    /// Not captured, and somebody said that this is fine.
    Waived {
        /// Who decided.
        who: String,
        /// Why.
        why: String,
        /// Until when.
        until: Timestamp,
    },
    /// Not captured.
    Missing {
        /// Why, where it is known: the outcome of the item that should have provided it.
        why: String,
    },
}

/// One reference and its state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// What is referred to.
    #[serde(flatten)]
    pub subject: Subject,
    /// For an image: what registries call it, `registry.local:5000/team/app@sha256:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
    /// Captured, waived or missing.
    #[serde(flatten)]
    pub state: ReferenceState,
}

/// One workload with all its references.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkloadClosure {
    /// The source.
    pub source: String,
    /// The workload.
    pub workload: String,
    /// Its references, sorted.
    pub references: Vec<ReferenceRecord>,
}

impl WorkloadClosure {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self
            .references
            .iter()
            .any(|r| matches!(r.state, ReferenceState::Missing { .. }))
    }
}

/// Decides each reference of one workload. `provided` names for each subject that the point holds
/// the sources whose copy has it.
///
/// `why_missing` explains a subject that nobody provides. Waivers that ended before `now` do not
/// count.
pub fn close(
    source: &str,
    workload: &str,
    requires: &[Subject],
    provided: &BTreeMap<Subject, BTreeSet<String>>,
    waivers: &[Waiver],
    now: Timestamp,
    why_missing: impl Fn(&Subject) -> String,
) -> WorkloadClosure {
    let unique: BTreeSet<&Subject> = requires.iter().collect();
    let state = |subject: &Subject| {
        if let Some(sources) = provided.get(subject) {
            let from = match subject.kind {
                SubjectKind::Image => sources.iter().cloned().collect(),
                _ => Vec::new(),
            };
            return ReferenceState::Captured { from };
        }
        let name = subject.to_string();
        match waivers
            .iter()
            .find(|w| w.until > now && w.reference.matches(&name))
        {
            Some(w) => ReferenceState::Waived {
                who: w.who.clone(),
                why: w.why.clone(),
                until: w.until,
            },
            None => ReferenceState::Missing {
                why: why_missing(subject),
            },
        }
    };
    let references = unique
        .into_iter()
        .map(|subject| ReferenceRecord {
            state: state(subject),
            digests: Vec::new(),
            subject: subject.clone(),
        })
        .collect();
    WorkloadClosure {
        source: source.to_owned(),
        workload: workload.to_owned(),
        references,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_captured_waived_or_missing_and_ended_waivers_do_not_count() {
        let subject = |name: &str| Subject::new("web", SubjectKind::Volume, name);
        let day = |seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        };
        let waiver = |pattern: &str, until| Waiver {
            reference: Glob::new(pattern).unwrap(),
            who: "ops".into(),
            why: "scratch".into(),
            until: day(until),
        };
        let closure = close(
            "web",
            "shop",
            &[
                subject("db"),
                subject("tmp"),
                subject("old"),
                subject("gone"),
                subject("db"),
            ],
            &BTreeMap::from([(subject("db"), BTreeSet::from(["web".to_owned()]))]),
            &[waiver("volume:tm*", 200), waiver("volume:old", 50)],
            day(100),
            |s| format!("nobody has {s}"),
        );
        let states: Vec<_> = closure
            .references
            .iter()
            .map(|r| (r.subject.name.as_str(), &r.state))
            .collect();
        let missing = |name: &str| ReferenceState::Missing {
            why: format!("nobody has volume:{name}"),
        };
        assert_eq!(
            states,
            [
                ("db", &ReferenceState::Captured { from: Vec::new() }),
                ("gone", &missing("gone")),
                ("old", &missing("old")),
                (
                    "tmp",
                    &ReferenceState::Waived {
                        who: "ops".into(),
                        why: "scratch".into(),
                        until: day(200)
                    }
                ),
            ]
        );
        assert!(!closure.is_closed());
    }

    #[test]
    fn records_of_older_points_say_captured_and_nothing_more() {
        let old = r#"{"source":"web","kind":"volume","name":"db","state":"captured"}"#;
        let record: ReferenceRecord = serde_json::from_str(old).unwrap();
        assert_eq!(record.state, ReferenceState::Captured { from: Vec::new() });
        assert_eq!(serde_json::to_string(&record).unwrap(), old);
    }
}
