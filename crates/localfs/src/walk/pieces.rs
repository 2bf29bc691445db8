//! The entries of the directory that the walk is in, looked at ahead piece by piece.
//!
//! Invariant: the looks at hand belong to the entries from the one that is asked for next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rustix::fd::OwnedFd;

use super::ahead::{Ahead, Asked, Room, Turn, is_old};
use super::listing::Names;
use super::look::{Look, Looker};

/// Entries in a piece: about a millisecond of work, beside which handing it over is nothing.
const PIECE_ENTRIES: usize = 256;
/// Pieces that are asked for: more than the threads there can be.
const PIECES_MAX: usize = 6;

/// Looks that were taken before the walk came to the directory, at its first entries.
pub(super) struct FirstLooks {
    pub(super) looks: Vec<Look>,
    pub(super) at: Instant,
    pub(super) room: Room,
}

/// See the module.
pub(super) struct Pieces {
    directory: Arc<OwnedFd>,
    names: Arc<Names>,
    /// Of the entries up to `end`; those that it lacks, the walk looks at itself.
    looks: std::vec::IntoIter<Look>,
    looked_at: Option<Instant>,
    end: usize,
    /// From `end` on.
    asked: VecDeque<Asked<Vec<Look>>>,
    /// The first entry that is in none of the pieces asked for.
    unasked: usize,
    /// What the first looks take of it.
    room: Option<Room>,
}

impl Pieces {
    pub(super) fn new(
        directory: &Arc<OwnedFd>,
        names: &Arc<Names>,
        first: Option<FirstLooks>,
    ) -> Self {
        let (looks, looked_at, room) = match first {
            Some(FirstLooks { looks, at, room }) => (looks, Some(at), Some(room)),
            None => (Vec::new(), None, None),
        };
        Self {
            directory: Arc::clone(directory),
            names: Arc::clone(names),
            end: looks.len(),
            unasked: looks.len(),
            looks: looks.into_iter(),
            looked_at,
            asked: VecDeque::new(),
            room,
        }
    }

    /// What was seen of the entry `index`; each one is asked for, in order. None if the walk is
    /// to look itself.
    pub(super) fn look(
        &mut self,
        index: usize,
        ahead: &mut Ahead,
        looker: &mut Looker,
    ) -> Option<Look> {
        if index == self.end {
            self.begin(ahead, looker);
        }
        let look = self.looks.next()?;
        let is_old = self.looked_at.is_none_or(is_old);
        (!is_old).then_some(look)
    }

    /// Goes on to the next piece; one that nobody was asked for is the walk's own.
    fn begin(&mut self, ahead: &mut Ahead, looker: &mut Looker) {
        drop(self.room.take());
        self.end = self.names.len().min(self.end + PIECE_ENTRIES);
        let asked = self.asked.pop_front();
        if asked.is_none() {
            self.unasked = self.end;
        }
        self.ask(ahead, looker);
        let looked = asked.and_then(|asked| ahead.wait(asked, looker));
        let (at, looks) = looked.unzip();
        (self.looked_at, self.looks) = (at, looks.unwrap_or_default().into_iter());
    }

    /// Has pieces looked at ahead.
    pub(super) fn ask(&mut self, ahead: &mut Ahead, looker: &Looker) {
        // A directory that is no larger than a piece is not worth it.
        let is_small = self.names.len() <= PIECE_ENTRIES;
        while ahead.is_on()
            && !is_small
            && self.asked.len() < PIECES_MAX
            && self.unasked < self.names.len()
        {
            let start = self.unasked;
            let (directory, names) = (Arc::clone(&self.directory), Arc::clone(&self.names));
            let stop = ahead.stop();
            let asked = ahead.ask(Turn::of_entries(start), looker, move |looker| {
                let is_stopped = || stop.is_wanted();
                Some(looker.look_at(&directory, &names, start, PIECE_ENTRIES, is_stopped))
            });
            self.asked.push_back(asked);
            self.unasked += PIECE_ENTRIES;
        }
    }
}
