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
use super::walker::append;

/// Subdirectories of one directory that are asked for.
const LEVEL_MAX: usize = 8;
/// Of all levels together, because each may hold a descriptor. When there are too many, those of
/// the upper levels are given up: by the time the walk is back there, they are old.
const ALL_LEVELS_MAX: usize = 16;
/// Below so many levels nothing is asked for: a place there is told by as many steps.
const LEVELS_MAX: usize = 64;
/// Entries of one subdirectory that are looked at when it is listed.
const FIRST_ENTRIES_MAX: usize = 1024;
/// A larger directory is left to the walk: its names alone take megabytes.
const NAMES_MAX: usize = 65_536;

/// What was seen of a subdirectory, and of its first entries.
pub(super) struct Seen {
    pub(super) opened: Result<Opened, Unopened>,
    pub(super) looks: Vec<Look>,
    pub(super) room: Room,
}

/// See the module.
#[derive(Default)]
pub(super) struct Subdirectories {
    asked: BTreeMap<Turn, Coming>,
    /// What leads to the current directory.
    here: Vec<Place>,
}

struct Coming {
    asked: Asked<Seen>,
    path: Vec<u8>,
    /// Whether its own subdirectories were asked for.
    is_done: bool,
}

/// A directory whose subdirectories come next.
struct Level<'a> {
    places: &'a [Place],
    path: &'a [u8],
    handle: &'a Arc<OwnedFd>,
    names: &'a mut Names,
}

/// By what means to ask; the function says whether the rules leave out a directory.
pub(super) struct Means<'a, F> {
    pub(super) ahead: &'a mut Ahead,
    pub(super) looker: &'a Looker,
    pub(super) leaves_out: F,
}

impl Subdirectories {
    /// Goes to this subdirectory of a directory so many levels deep; gives what was asked for.
    pub(super) fn enter(&mut self, depth: usize, place: Place) -> Option<Asked<Seen>> {
        self.here.truncate(depth.saturating_sub(1));
        self.here.push(place);
        if self.asked.is_empty() || self.here.len() > LEVELS_MAX {
            return None;
        }
        let turn = Turn::of_directory(self.here.clone());
        self.asked.remove(&turn).map(|coming| coming.asked)
    }

    /// The current directory is listed by the walk itself: what was asked for below it belongs to another
    /// listing, in which the same place may have had another name.
    pub(super) fn is_listed_anew(&mut self, ahead: &Ahead) {
        let below = |turn: &Turn| turn.places().starts_with(&self.here);
        while let Some(turn) = self.asked.keys().find(|turn| below(turn)).cloned() {
            if let Some(coming) = self.asked.remove(&turn) {
                ahead.forget(coming.asked);
            }
        }
    }

    /// Asks for the next few that the walk will come to: first those of the directory `path`, so
    /// many levels deep, of which `names` are left.
    pub(super) fn ask(
        &mut self,
        depth: usize,
        path: &[u8],
        (handle, names): (&Arc<OwnedFd>, &mut Names),
        mut means: Means<'_, impl FnMut(&[u8]) -> bool>,
    ) {
        if !means.ahead.is_on() || depth > LEVELS_MAX {
            return;
        }
        self.asked.retain(|_, coming| !coming.asked.is_old());
        let places = self.here.get(..depth.saturating_sub(1));
        let places = places.unwrap_or_default().to_vec();
        let turns = self.asked.keys();
        let below = turns.filter(|turn| turn.places().starts_with(&places));
        // Waking a thread costs something: not for each single one.
        if below.count() <= LEVEL_MAX / 2 {
            let level = Level {
                places: &places,
                path,
                handle,
                names,
            };
            self.ask_level(level, &mut means);
        }
        while self.asked.len() < ALL_LEVELS_MAX
            && let Some(turn) = self.next_arrived()
            && let Some(mut coming) = self.asked.remove(&turn)
        {
            coming.is_done = true;
            if let Some((handle, names)) = coming.asked.arrived_mut().and_then(subdirectories_of) {
                let level = Level {
                    places: turn.places(),
                    path: &coming.path,
                    handle: &handle,
                    names,
                };
                self.ask_level(level, &mut means);
            }
            drop(self.asked.insert(turn, coming));
        }
    }

    /// One that was listed, so that those in it can be asked for.
    fn next_arrived(&self) -> Option<Turn> {
        let mut coming = self.asked.iter();
        let found = coming.find(|(_, c)| !c.is_done && c.asked.has_arrived());
        found.map(|(turn, _)| turn.clone())
    }

    fn ask_level(&mut self, level: Level<'_>, means: &mut Means<'_, impl FnMut(&[u8]) -> bool>) {
        if level.places.len() >= LEVELS_MAX {
            return;
        }
        for (place, name, verdict) in level.names.first(LEVEL_MAX) {
            let mut path = level.path.to_vec();
            append(&mut path, name);
            if *verdict == Verdict::Open {
                *verdict = match (means.leaves_out)(&path) {
                    true => Verdict::LeftOut,
                    false => Verdict::Stays,
                };
            }
            let mut places = level.places.to_vec();
            places.push(place);
            let turn = Turn::of_directory(places);
            if *verdict == Verdict::LeftOut || self.asked.contains_key(&turn) {
                continue;
            }
            if !self.has_room(&turn, means.ahead) {
                break;
            }
            let asked = ask(turn.clone(), level.handle, name, means.ahead, means.looker);
            let coming = Coming {
                asked,
                path,
                is_done: false,
            };
            drop(self.asked.insert(turn, coming));
        }
    }

    /// Gives up what is less urgent, if that makes room.
    fn has_room(&mut self, turn: &Turn, ahead: &Ahead) -> bool {
        if self.asked.len() < ALL_LEVELS_MAX {
            return true;
        }
        match self.asked.last_entry() {
            Some(last) if last.key() > turn => {
                ahead.forget(last.remove().asked);
                true
            }
            _ => false,
        }
    }
}

/// The subdirectories of one that could be listed.
fn subdirectories_of(seen: &mut Seen) -> Option<(Arc<OwnedFd>, &mut Names)> {
    let opened = seen.opened.as_mut().ok()?;
    let names = &mut opened.contents.as_mut()?.directories;
    Some((Arc::clone(&opened.handle), names))
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
            if names.len() + contents.directories.len() > NAMES_MAX {
                return None;
            }
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

#[cfg(test)]
mod tests {
    use refloat_model::cancel::Cancel;
    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;
    use crate::walk::{Caches, LookAhead, Mounts};

    /// The directory may have been renamed, and another have its place: its old children are not those of
    /// the new listing.
    #[test]
    fn what_was_asked_for_below_a_listing_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("above/below")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = Arc::new(openat(CWD, folder.path(), flags, Mode::empty()).unwrap());
        let mut looker = Looker::new(Mounts::Enter, Caches::Capture, 0);
        let place_in = |names: &mut Names| names.first(1).map(|(place, ..)| place).next().unwrap();
        let mut names = looker.contents(&root).unwrap().directories;
        let above = place_in(&mut names);
        let opened = looker.open(&root, b"above").ok().unwrap();
        let below = place_in(&mut opened.contents.unwrap().directories);
        for is_anew in [false, true] {
            let mut ahead = Ahead::new(LookAhead::Threads(1), &Cancel::default());
            let mut subdirectories = Subdirectories::default();
            // The listing of the first comes when it comes.
            while subdirectories.asked.len() < 2 {
                let means = Means {
                    ahead: &mut ahead,
                    looker: &looker,
                    leaves_out: |_: &[u8]| false,
                };
                subdirectories.ask(1, b"", (&root, &mut names), means);
                std::thread::yield_now();
            }
            assert!(subdirectories.enter(1, above).is_some());
            if is_anew {
                subdirectories.is_listed_anew(&ahead);
            }
            assert_eq!(subdirectories.enter(2, below).is_none(), is_anew);
        }
    }
}
