//! Who has what is replaced, and what lies in it that is not the point's.

use std::path::Path;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};

use super::super::execute::why_not_stopped;
use super::super::plan::{Planner, is_made};
use super::super::present::PresentContainer;
use super::super::strangers;

pub(super) fn check(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let present = planner.ground.present;
    let made = planner.steps.iter().filter(|step| is_made(&step.action));
    for step in made {
        let users: Vec<&PresentContainer> = match step.kind {
            ItemKind::Volume => {
                let name = planner.names.of(ItemKind::Volume, &step.name);
                present.stopped_for_volume(name).collect()
            }
            ItemKind::Bind => present
                .users_of_bind(&step.name, planner.ground.reach)
                .collect(),
            _ => continue,
        };
        let running = users.into_iter().filter(|user| user.definition.started);
        let running: Vec<&PresentContainer> = running.collect();
        let subject = format!("{} {}", step.kind.word(), step.name);
        for user in &running {
            let is_replaced = planner.replaces(&user.definition.name);
            if let Some(message) = why_not_stopped(user, is_replaced) {
                findings.push(Finding::error(subject.clone(), message));
            }
        }
        // Users of volumes are named where volumes are decided.
        if step.kind == ItemKind::Bind && !running.is_empty() {
            let names: Vec<&str> = running.iter().map(|u| u.definition.name.as_str()).collect();
            let message = format!("{} will be stopped while it is replaced", names.join(", "));
            findings.push(Finding::warning(subject.clone(), message));
        }
        if let Some(why) = mounted_inside(planner, step) {
            findings.push(Finding::error(subject, why));
        }
    }
}

/// Why a place that is replaced must not be, because of what is mounted in it.
fn mounted_inside(planner: &Planner<'_>, step: &Step) -> Option<String> {
    let reach = planner.ground.reach;
    if !reach.is_local() || !matches!(step.action, Action::Replace { .. }) {
        return None;
    }
    let found = match step.kind {
        ItemKind::Bind if Path::new(&step.name).is_dir() => {
            strangers::mounted(planner.point, &step.path, Path::new(&step.name))
        }
        ItemKind::Volume => {
            let (volume, at) = planner.ground.present.volumes.get(&step.name)?;
            let mounts = strangers::mounts_below(&reach.volume_folder(volume, at)?);
            mounts.map(|mounts| mounts.into_iter().next())
        }
        _ => return None,
    };
    match found {
        Ok(stranger) => Some(strangers::why_mounted(&stranger?)),
        Err(failure) => Some(crate::error::chain(&failure)),
    }
}
