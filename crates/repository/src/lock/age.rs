//! When a lock is dead.
//!
//! Invariant: where storage tells times, no lock is dead whose file is younger than thirty minutes
//! by the storage's own clock, whatever any other clock says.

/// A lock not refreshed for this long is dead.
const STALE_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);
/// A lock whose own time differs by more from its file's was written by a clock that is wrong, so
/// its own time says nothing.
const CREDIBLE_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// Before we have written a lock of our own, one that is older than this by our clock, or younger than
/// nothing, is passed over: the second look, with the storage's clock, decides.
const DOUBTFUL_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// What is known of the age of a lock.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// The time in it; none if it cannot be read.
    pub claimed: Option<jiff::Timestamp>,
    /// When storage wrote it, by the storage's clock; none if storage does not tell.
    pub modified: Option<jiff::Timestamp>,
    /// The moment by our clock.
    pub now: jiff::Timestamp,
    /// The moment by the storage's clock; none as long as we have written nothing, unless it tells the moment and not the
    /// times of files.
    pub storage_now: Option<jiff::Timestamp>,
}

/// Whether nobody refreshed the lock for thirty minutes.
///
/// Old by the storage's clock *and* by its own time: so a jump of either alone kills nothing. A
/// time of its own that contradicts the storage's, by lying in the future for example, is no
/// evidence.
pub fn is_dead(ages: &Ages) -> bool {
    if let (None, Some(modified)) = (ages.storage_now, ages.modified) {
        return ages.now.duration_since(modified).abs() > DOUBTFUL_AFTER;
    }
    let reference = ages.storage_now.unwrap_or(ages.now);
    // Where our clock and the storage's agree, the storage's spares what they differ by; where they
    // do not, one of them jumped, and nobody can tell which.
    let agree = ages.now.duration_since(reference).abs() <= CREDIBLE_WITHIN;
    let judge = if agree { reference } else { ages.now };
    let claimed_old = |claimed| judge.duration_since(claimed) > STALE_AFTER;
    let Some(modified) = ages.modified else {
        // Storage that tells its time and not the files': old by both, so that a jump of ours alone kills nothing.
        let stored_old = |claimed| reference.duration_since(claimed) > STALE_AFTER;
        return ages
            .claimed
            .is_some_and(|claimed| claimed_old(claimed) && stored_old(claimed));
    };
    let stored_old = reference.duration_since(modified) > STALE_AFTER;
    let silent = |claimed: jiff::Timestamp| {
        claimed.duration_since(modified).abs() > CREDIBLE_WITHIN || claimed_old(claimed)
    };
    stored_old && ages.claimed.is_none_or(silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes after some moment.
    fn at(minutes: i64) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
            + jiff::SignedDuration::from_hours(500_000)
            + jiff::SignedDuration::from_mins(minutes)
    }

    fn check(claimed: Option<i64>, modified: Option<i64>, now: i64, storage: Option<i64>) -> bool {
        is_dead(&Ages {
            claimed: claimed.map(at),
            modified: modified.map(at),
            now: at(now),
            storage_now: storage.map(at),
        })
    }

    #[test]
    fn only_what_is_silent_by_the_storages_clock_is_dead() {
        const DAY: i64 = 24 * 60;
        // Claimed time, file's time, our clock, storage's clock: dead?
        for (claimed, modified, now, storage, expected) in [
            (Some(0), Some(0), 31, Some(31), true),
            (Some(0), Some(0), 29, Some(29), false),
            // Our clock is a day ahead or behind; the holder is alive, or dead.
            (Some(0), Some(0), DAY, Some(3), false),
            (Some(0), Some(0), -DAY, Some(31), false),
            // The holder's clock is a day behind, ahead.
            (Some(-DAY), Some(0), 3, Some(3), false),
            (Some(-DAY), Some(0), 31, Some(31), true),
            (Some(DAY), Some(0), 3, Some(3), false),
            (Some(DAY), Some(0), 31, Some(31), true),
            (Some(20), Some(0), 31, Some(31), true),
            // Both are four minutes off, apart from each other.
            (Some(4), Some(0), 31, Some(35), true),
            // The storage's clock jumped; the holder refreshed three minutes ago.
            (Some(0), Some(0), 3, Some(DAY), false),
            // Unreadable: zero-length, torn, of a foreign key.
            (None, Some(0), 31, Some(31), true),
            (None, Some(0), 29, Some(29), false),
            (None, Some(0), DAY, Some(3), false),
            (None, None, DAY, None, false),
            // Storage tells its own time and not the files'.
            (Some(0), None, 31, Some(31), true),
            (Some(0), None, 31, Some(3), false),
            (Some(0), None, 3, Some(31), false),
            (Some(0), None, 31, None, true),
            // The first look only passes over.
            (Some(0), Some(0), 16, None, true),
            (Some(0), Some(0), -16, None, true),
            (Some(DAY), Some(0), 3, None, false),
            // Storage that tells no times.
            (Some(0), None, 31, None, true),
            (Some(0), None, 29, None, false),
        ] {
            let found = check(claimed, modified, now, storage);
            let case = (claimed, modified, now, storage);
            assert_eq!(found, expected, "{case:?}");
        }
    }
}
