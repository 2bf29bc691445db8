//! `refloat restore … --plan FILE`: a plan that somebody looked at, executed later.
//!
//! Invariant: it is executed only if planning anew, now, gives the same plan.

use std::path::Path;

use refloat_model::id::PointId;
use refloat_model::plan::{RestorePlan, RestoreRequest};
use serde::Deserialize;

use crate::command_error::{CommandError, ErrorKind, one_line};

/// The longest file that is taken for a plan; 100,000 objects take a fifth of it.
const PLAN_BYTES_MAX: u64 = 256 << 20;

/// How many changed steps an error names.
const CHANGES_SHOWN: usize = 5;

/// What `restore --dry-run --json` wrote.
#[derive(Deserialize)]
pub struct Accepted {
    /// The point it restores.
    point: PointId,
    /// What was asked for.
    pub request: RestoreRequest,
    plan: RestorePlan,
}

impl Accepted {
    /// Reads the document.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let read_error = |e: &std::io::Error| CommandError::io("read the plan", path.display(), e);
        let length = path.metadata().map_err(|e| read_error(&e))?.len();
        if length > PLAN_BYTES_MAX {
            let text = format!("{} is too long for a plan", path.display());
            return Err(CommandError::usage(text));
        }
        let text = std::fs::read(path).map_err(|e| read_error(&e))?;
        serde_json::from_slice(&text).map_err(|e| {
            let text = format!("{} is no plan: {}", path.display(), one_line(&e));
            CommandError::usage(text)
                .hint("write one with `refloat restore POINT --to … --dry-run --json > FILE`")
        })
    }

    /// Whether the plan that was made now is the one that was accepted.
    ///
    /// # Errors
    /// It is of another point, or the target changed since.
    pub fn check(&self, point: Option<PointId>, now: &RestorePlan) -> Result<(), CommandError> {
        if point != Some(self.point) {
            let text = format!("the plan is for the point {}", self.point.short());
            return Err(CommandError::new(ErrorKind::Refused, text)
                .hint("name that point instead of another one or latest"));
        }
        if *now == self.plan {
            return Ok(());
        }
        let changes = changes(&self.plan, now);
        let text = "the target is not as it was when the plan was made";
        Err(changes.into_iter().fold(
            CommandError::new(ErrorKind::Refused, text).hint("make a new plan and look at it"),
            CommandError::hint,
        ))
    }
}

/// What differs, for people; nothing only if what differs does not show in the steps.
fn changes(before: &RestorePlan, now: &RestorePlan) -> Vec<String> {
    if before.target != now.target {
        return vec![format!("it was made for {}", before.target)];
    }
    let differing = |a: &RestorePlan, b: &RestorePlan| -> Vec<String> {
        let steps = a.steps.iter();
        let others = steps.filter(|step| !b.steps.contains(step));
        others
            .take(CHANGES_SHOWN)
            .map(|step| format!("{} {}", step.action.word(), step.name))
            .collect()
    };
    let gone = differing(before, now).into_iter();
    let new = differing(now, before).into_iter();
    gone.map(|step| format!("no longer: {step}"))
        .chain(new.map(|step| format!("now: {step}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::item::ItemKind;
    use refloat_model::plan::{Action, Step};
    use refloat_model::tree_path::TreePath;

    fn plan(action: Action, state: &str) -> RestorePlan {
        RestorePlan {
            target: "https://there".into(),
            steps: vec![Step {
                kind: ItemKind::Object,
                name: "secrets/shop/db".into(),
                path: TreePath::root().child("x"),
                workload: None,
                action,
                bytes: None,
            }],
            findings: Vec::new(),
            state: state.into(),
            goes_on: false,
        }
    }

    #[test]
    fn a_plan_counts_for_its_point_and_its_target_only() {
        let point = PointId::from_random([7; 16]);
        let accepted = Accepted {
            point,
            request: RestoreRequest::default(),
            plan: plan(Action::Create, "a"),
        };
        let check = |point, now: &RestorePlan| match accepted.check(point, now) {
            Ok(()) => String::new(),
            Err(error) => error.render(),
        };
        assert_eq!(check(Some(point), &plan(Action::Create, "a")), "");
        let changed = check(Some(point), &plan(Action::Reuse, "a"));
        assert!(
            changed.contains("no longer: create secrets/shop/db")
                && changed.contains("now: reuse secrets/shop/db"),
            "{changed}"
        );
        let refused = check(Some(point), &plan(Action::Create, "b"));
        assert!(refused.contains("not as it was"), "{refused}");
        let other = check(None, &plan(Action::Create, "a"));
        assert!(other.contains("the plan is for the point"), "{other}");
    }
}
