//! Subdirectories that are opened and listed before the walk comes to them.
//!
//! Invariant: nothing is asked for that the rules leave out; what they leave out may be what
//! hangs whoever opens it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::fd::OwnedFd;

use super::ahead::{Ahead, Asked, Room, Turn};
use super::listing::{Names, Place, Verdict};
use super::look::{Look, Looker, Opened, Unopened};

/// Subdirectories of one directory that are asked for.
const LEVEL_MAX: usize = 8;
/// Of all levels together, because each may hold a descriptor. When there are too many, those of
/// the upper levels are given up: by the time the walk is back there, they are old.
const ALL_LEVELS_MAX: usize = 16;
/// Entries of one subdirectory that are looked at when it is listed.
const FIRST_ENTRIES_MAX: usize = 1024;

/// What was seen of a subdirectory, and of its first entries.
pub(super) struct Seen {
    pub(super) opened: Result<Opened, Unopened>,
    pub(super) looks: Vec<Look>,
    pub(super) room: Room,
}

/// See the module.
#[derive(Default)]
pub(super) struct Subdirectories {
    asked: BTreeMap<Turn, Asked<Seen>>,
}

/// A directory whose subdirectories come next.
pub(super) struct Level<'a> {
    pub(super) depth: usize,
    pub(super) handle: &'a Arc<OwnedFd>,
    pub(super) names: &'a mut Names,
}

impl Subdirectories {
    /// What was asked for of this one.
    pub(super) fn take(&mut self, depth: usize, place: Place) -> Option<Asked<Seen>> {
        self.asked.remove(&Turn::of_subdirectory(depth, place))
    }

    /// Asks for the next few of this level.
    pub(super) fn ask(
        &mut self,
        level: Level<'_>,
        ahead: &mut Ahead,
        looker: &Looker,
        mut leaves_out: impl FnMut(&[u8]) -> bool,
    ) {
        let Level { depth, handle, .. } = level;
        let asked = self.asked.values();
        // Waking a thread costs something: not for each single one.
        if !ahead.is_on() || asked.filter(|a| a.depth() == depth).count() > LEVEL_MAX / 2 {
            return;
        }
        self.asked.retain(|_, asked| !asked.is_old());
        for (place, name, verdict) in level.names.first(LEVEL_MAX) {
            if *verdict == Verdict::Open {
                *verdict = match leaves_out(name) {
                    true => Verdict::LeftOut,
                    false => Verdict::Stays,
                };
            }
            let turn = Turn::of_subdirectory(depth, place);
            if *verdict == Verdict::LeftOut || self.asked.contains_key(&turn) {
                continue;
            }
            if !self.has_room(turn, ahead) {
                break;
            }
            let asked = ask(turn, handle, name, ahead, looker);
            drop(self.asked.insert(turn, asked));
        }
    }

    /// Gives up what is less urgent, if that makes room.
    fn has_room(&mut self, turn: Turn, ahead: &Ahead) -> bool {
        if self.asked.len() < ALL_LEVELS_MAX {
            return true;
        }
        match self.asked.last_entry() {
            Some(last) if *last.key() > turn => {
                ahead.forget(last.remove());
                true
            }
            _ => false,
        }
    }
}

fn ask(
    turn: Turn,
    parent: &Arc<OwnedFd>,
    name: &[u8],
    ahead: &mut Ahead,
    looker: &Looker,
) -> Asked<Seen> {
    let (parent, name) = (Arc::clone(parent), Box::<[u8]>::from(name));
    let (stop, mut room) = (ahead.stop(), ahead.room());
    ahead.ask(turn, looker, move |looker| {
        if stop.is_wanted() {
            return None;
        }
        let opened = looker.open(&parent, &name);
        let mut looks = Vec::new();
        if let Ok(Opened {
            handle,
            contents: Some(contents),
            ..
        }) = &opened
        {
            let names = &contents.others;
            let count = room.take(names.len().min(FIRST_ENTRIES_MAX));
            looks = looker.look_at(handle, names, 0, count, || stop.is_wanted());
        }
        Some(Seen {
            opened,
            looks,
            room,
        })
    })
}
