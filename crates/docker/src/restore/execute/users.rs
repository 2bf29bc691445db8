//! Whoever uses data that is about to be replaced: stopped before, started after the last of it.
//!
//! Invariant: nobody runs on data that is half replaced: who was stopped for data that did not
//! come back stays stopped.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;

use super::Execution;
use crate::error::chain;
use crate::locality::is_own_container;
use crate::restore::failure::Failure;
use crate::restore::plan::{starting_order, waits_for};
use crate::restore::present::PresentContainer;
use crate::restore::selection::namespaces_of;

impl Execution<'_> {
    /// Refuses, before anything is touched, what must not be stopped.
    pub(super) fn may_be_stopped(&self, users: &[PresentContainer]) -> Result<(), Failure> {
        for user in users {
            let name = &user.definition.name;
            if let Some(why) = why_not_stopped(user, self.replaces(user))
                && self.is_running(name)?
            {
                return Err(Failure::Needs(why));
            }
        }
        Ok(())
    }

    /// Stops users of a volume or of a place of the host; containers that are replaced are removed
    /// now. Gives the names of those that wait for the data.
    pub(super) fn release(&mut self, users: &[PresentContainer]) -> Result<Vec<String>, Failure> {
        let mut waiting = Vec::new();
        for user in users {
            let name = &user.definition.name;
            if self.replaces(user) {
                self.remove_container(name)?;
            } else if self.waiting.contains(name) {
                waiting.push(name.clone());
            } else if self.is_running(name)? {
                self.waiting.insert(name.clone());
                waiting.push(name.clone());
                self.stop(name)?;
            }
        }
        Ok(waiting)
    }

    /// Says of whom the data is half replaced: they are not started again.
    pub(super) fn withhold(&mut self, subject: String, users: Vec<String>) {
        let names = match users.as_slice() {
            [] => String::new(),
            some => format!("; {} stay stopped", some.join(", ")),
        };
        let message = format!("its data is partly replaced{names}");
        self.findings.push(Finding::error(subject, message));
        self.withheld.extend(users);
    }

    /// Starts those whose data is all there, in the order in which they need each other; databases
    /// are started by the steps that fill them. Who is in a namespace of one that was started
    /// again is in a dead one until it is as well.
    pub(super) fn restart_users(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let present = &self.tools.present;
        let containers = present.containers.iter();
        let containers = containers.map(|(name, found)| (name.as_str(), &found.definition));
        let (order, _circles) = starting_order(&waits_for(&containers.collect()));
        let (mut renewed, mut findings) = (BTreeSet::new(), Vec::new());
        for user in order.iter().filter_map(|name| present.containers.get(name)) {
            let name = &user.definition.name;
            let mut owners = namespaces_of(&user.definition).into_iter();
            let done = if waiting.contains(name) {
                if self.withheld.contains(name) || self.waits_for_dump(name) {
                    continue;
                }
                self.start(name)
            } else if !self.replaces(user) && owners.any(|owner| renewed.contains(&owner)) {
                self.renew(user)
            } else {
                continue;
            };
            renewed.insert(name.clone());
            if let Err(failure) = done {
                let subject = format!("container {name}");
                findings.push(Finding::error(subject, chain(&failure)));
            }
        }
        self.findings.extend(findings);
    }

    /// Stops and starts one that ran, if that does no harm. In the process namespace of one that was
    /// stopped it has ended already.
    fn renew(&self, user: &PresentContainer) -> Result<(), Failure> {
        let name = &user.definition.name;
        if !user.definition.started {
            return Ok(());
        }
        if why_not_stopped(user, false).is_some() {
            let why = "the container whose namespace it shares was started again: start it again \
                       as well";
            return Err(Failure::Needs(why.to_owned()));
        }
        self.stop(name)?;
        self.start(name)
    }
}

/// Why a container that uses what is replaced must not be stopped, and what to do about it.
pub(in crate::restore) fn why_not_stopped(
    user: &PresentContainer,
    replaced: bool,
) -> Option<String> {
    let name = &user.definition.name;
    if is_own_container(&user.id) {
        return Some(format!(
            "container {name} uses it, would be stopped, and this program runs in it: restore from \
             outside of it"
        ));
    }
    (user.vanishes() && !replaced).then(|| {
        format!(
            "container {name} uses it, and the engine removes that container and its anonymous \
             volumes when it stops (--rm): end it yourself first"
        )
    })
}
