//! What a comparison came to.
//!
//! Invariant: every difference says against what, so that three sides can be told apart.

use std::path::PathBuf;

use refloat_kubernetes::drift::{FieldDrift, Manager, ObjectKey};
use refloat_model::finding::Finding;
use refloat_model::id::PointId;
use serde::Serialize;

use crate::exit_status::ExitStatus;
use crate::table;

#[derive(Serialize)]
pub struct Report {
    /// The point that was compared.
    pub point: Option<PointId>,
    pub git: Option<PathBuf>,
    /// Comparisons of two versions of an object.
    pub compared: u64,
    /// Whether everything could be compared.
    pub complete: bool,
    pub differences: Vec<Difference>,
    pub findings: Vec<Finding>,
}

/// One object that is not as it should be.
#[derive(Serialize)]
pub struct Difference {
    pub cluster: String,
    pub object: ObjectKey,
    /// What it was compared with.
    pub against: Side,
    pub state: State,
    /// Whether a person wrote one of the fields.
    pub by_hand: bool,
    pub fields: Vec<FieldDrift>,
    /// Of an object that was not there: who wrote it.
    pub managers: Vec<Manager>,
}

impl Report {
    pub fn new(point: Option<PointId>, git: &Option<PathBuf>) -> Self {
        Self {
            point,
            git: git.clone(),
            compared: 0,
            complete: true,
            differences: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Something could not be compared.
    pub fn incomplete(&mut self, subject: &str, why: String) {
        self.complete = false;
        self.findings.push(Finding::error(subject, why));
    }

    /// Leaves out what a program did. What is gone stays: no server keeps a record of who removed
    /// it, so it may well have been a person.
    pub fn only_by_hand(&mut self) {
        for difference in &mut self.differences {
            let fields = &mut difference.fields;
            fields.retain(|field| {
                field.after.is_none() || field.managers.iter().any(|manager| manager.by_hand)
            });
        }
        self.differences.retain(|difference| {
            difference.by_hand
                || difference.state == State::Missing
                || !difference.fields.is_empty()
        });
    }

    pub const fn status(&self) -> ExitStatus {
        if !self.differences.is_empty() {
            ExitStatus::Differences
        } else if self.complete {
            ExitStatus::Success
        } else {
            ExitStatus::Incomplete
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Point,
    Git,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Fields differ.
    Changed,
    /// It is gone.
    Missing,
    /// It was not there.
    Extra,
}

/// For people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for difference in &report.differences {
        let against = match difference.against {
            Side::Point => "point",
            Side::Git => "git",
        };
        let state = match difference.state {
            State::Changed => "changed",
            State::Missing => "missing",
            State::Extra => "extra",
        };
        let object = table::printable(&difference.object.to_string());
        let cluster = &difference.cluster;
        text.push_str(&format!(
            "{state:<8} {object} (against {against} of {cluster})\n"
        ));
        writers(&mut text, 4, &difference.managers);
        for field in &difference.fields {
            let show = |value: &Option<serde_json::Value>| {
                let shown = value.as_ref().map(ToString::to_string);
                shown.unwrap_or_else(|| "-".to_owned())
            };
            let (before, after) = (show(&field.before), show(&field.after));
            let line = format!("{}: {before} -> {after}", field.field);
            text.push_str(&format!("    {}\n", table::printable(&line)));
            writers(&mut text, 8, &field.managers);
        }
    }
    let count = table::count(report.differences.len() as u64, "difference");
    let state = if report.complete { "" } else { ", INCOMPLETE" };
    let compared = table::count(report.compared, "comparison");
    text.push_str(&format!("{count} in {compared}{state}\n"));
    text
}

fn writers(text: &mut String, indent: usize, managers: &[Manager]) {
    for manager in managers {
        let hand = if manager.by_hand { ", by hand" } else { "" };
        let line = format!("by {} {}{hand}", manager.name, manager.time);
        text.push_str(&format!("{:indent$}{}\n", "", table::printable(&line)));
    }
}
