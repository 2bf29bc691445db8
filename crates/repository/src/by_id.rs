//! Entries in the order of their ids.
//!
//! Invariant: any ids do. Hostile ones are sorted by one thread, and looked up by halving.

use std::cmp::Ordering;
use std::sync::Mutex;

use crate::id::{BlobId, PackId, prefix};
use crate::parallel::{for_each, lock};

/// Fewer entries are sorted by comparing them.
const COMPARED_MAX: usize = 1024;
/// Fewer entries are not worth another thread.
const ENTRIES_PER_THREAD_MIN: usize = 16 << 10;

/// Sorts entries by their ids, those of one id by `rest`, in place, and many of them on all processors.
///
/// Ids are as good as random, so each of their bytes parts the entries evenly: each is moved near its
/// place without being compared, and only the few of a part are compared (the "American flag sort"
/// of `McIlroy`, Bostic and `McIlroy`, 1993).
pub(crate) fn sort<T: Send, Rest: Ord>(
    entries: &mut [T],
    id_of: impl Fn(&T) -> &BlobId + Sync,
    rest: impl Fn(&T) -> Rest + Sync,
) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(entries.len() / ENTRIES_PER_THREAD_MIN);
    if threads < 2 {
        sort_from(entries, 0, &id_of, &rest);
    } else {
        sort_on(threads, entries, &id_of, &rest);
    }
}

/// Sorts packs by their ids, so that what refers to them by number is the same in whatever order they came. Returns
/// the new number of each old one.
pub(crate) fn sort_packs(packs: &mut [PackId]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).take(packs.len()).collect();
    order.sort_unstable_by_key(|number| packs[*number as usize]);
    let mut renumbered = vec![0; order.len()];
    for (new, old) in (0..).zip(order) {
        renumbered[old as usize] = new;
    }
    packs.sort_unstable();
    renumbered
}

fn sort_on<T: Send, Rest: Ord>(
    threads: usize,
    entries: &mut [T],
    id_of: &(impl Fn(&T) -> &BlobId + Sync),
    rest: &(impl Fn(&T) -> Rest + Sync),
) {
    let sizes = group_by_byte(entries, |entry| id_of(entry).0[0]);
    let parts: Vec<_> = split(entries, &sizes).map(Mutex::new).collect();
    let _never_fails = for_each(&parts, threads, |part| {
        sort_from(&mut lock(part), 1, id_of, rest);
        Ok(())
    });
}

/// Sorts entries whose ids are equal in the bytes before `byte`.
fn sort_from<T, Rest: Ord>(
    entries: &mut [T],
    byte: usize,
    id_of: &impl Fn(&T) -> &BlobId,
    rest: &impl Fn(&T) -> Rest,
) {
    if entries.len() <= COMPARED_MAX || byte == size_of::<BlobId>() {
        return entries.sort_unstable_by(|one, other| {
            let by_rest = || rest(one).cmp(&rest(other));
            id_of(one).cmp(id_of(other)).then_with(by_rest)
        });
    }
    let sizes = group_by_byte(entries, |entry| id_of(entry).0[byte]);
    for part in split(entries, &sizes) {
        sort_from(part, byte + 1, id_of, rest);
    }
}

/// Splits entries into as many parts as there are sizes, which add up to all.
fn split<'e, T>(mut entries: &'e mut [T], sizes: &[usize]) -> impl Iterator<Item = &'e mut [T]> {
    sizes.iter().map(move |size| {
        let (part, others) = std::mem::take(&mut entries).split_at_mut(*size);
        entries = others;
        part
    })
}

/// Brings entries with equal bytes together, in the order of the bytes. Returns how many there are of each.
fn group_by_byte<T>(entries: &mut [T], byte_of: impl Fn(&T) -> u8) -> [usize; 256] {
    let mut sizes = [0; 256];
    for entry in &*entries {
        sizes[usize::from(byte_of(entry))] += 1;
    }
    // Where the next entry of each byte goes, and where the last one ends.
    let (mut next, mut ends) = ([0; 256], [0; 256]);
    let mut end = 0;
    for byte in 0..256 {
        next[byte] = end;
        end += sizes[byte];
        ends[byte] = end;
    }
    for byte in 0..256 {
        while next[byte] < ends[byte] {
            let at = next[byte];
            let other = usize::from(byte_of(&entries[at]));
            if other != byte {
                entries.swap(at, next[other]);
            }
            next[other] += 1;
        }
    }
    sizes
}

/// What is uniformly distributed, as hashes are.
pub(crate) trait Spread: Ord {
    /// The first eight bytes as a number: the order is that of these, where they differ.
    fn prefix(&self) -> u64;
}

impl Spread for &BlobId {
    fn prefix(&self) -> u64 {
        prefix(&self.0)
    }
}

impl Spread for u128 {
    fn prefix(&self) -> u64 {
        (*self >> 64) as u64
    }
}

/// Where in entries that are sorted by their ids the one of `id` is.
///
/// Interpolation search: ids are uniformly distributed, so a guess by the first eight bytes lands
/// within a few entries; falls back to halving, so hostile ids cost no more than a binary search.
pub(crate) fn position<'e, T, Id: Spread>(
    entries: &'e [T],
    id: Id,
    id_of: impl Fn(&'e T) -> Id,
) -> Option<usize> {
    let (mut low, mut high) = (0, entries.len());
    let key = id.prefix();
    let mut guesses = 0;
    while low < high {
        let middle = if guesses < 3 && high - low > 8 {
            guesses += 1;
            let bounds = [
                id_of(&entries[low]).prefix(),
                id_of(&entries[high - 1]).prefix(),
            ];
            interpolate(low..high, bounds, key)
        } else {
            low + (high - low) / 2
        };
        match id_of(&entries[middle]).cmp(&id) {
            Ordering::Equal => return Some(middle),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    None
}

/// Where in a range a key should be, by the keys at its ends.
fn interpolate(range: std::ops::Range<usize>, [first, last]: [u64; 2], key: u64) -> usize {
    if key <= first || first >= last {
        return range.start;
    }
    if key >= last {
        return range.end - 1;
    }
    let steps = (range.end - 1 - range.start) as u128;
    let share = u128::from(key - first) * steps / u128::from(last - first);
    range.start + usize::try_from(share).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of((id, _): &(BlobId, u32)) -> &BlobId {
        id
    }

    /// Sorts entries of an id and a number on any number of threads, in an order that is neither.
    fn check(ids: impl Iterator<Item = BlobId>) {
        let mut entries: Vec<(BlobId, u32)> = ids.zip(0..).collect();
        let count = entries.len();
        for at in 0..count {
            entries.swap(at, at * 7919 % count);
        }
        let mut expected = entries.clone();
        expected.sort_unstable_by_key(|(id, number)| (*id, std::cmp::Reverse(*number)));
        let rest = |(_, number): &(BlobId, u32)| std::cmp::Reverse(*number);
        let (mut by_one, mut by_three) = (entries.clone(), entries.clone());
        sort(&mut entries, id_of, rest);
        sort_from(&mut by_one, 0, &id_of, &rest);
        sort_on(3, &mut by_three, &id_of, &rest);
        assert!(
            [entries, by_one, by_three]
                .iter()
                .all(|sorted| *sorted == expected)
        );
    }

    #[test]
    fn any_ids_are_sorted_and_equal_ones_by_the_rest() {
        let honest = |number: u32| BlobId::of(&number.to_le_bytes());
        let many = 3 * u32::try_from(ENTRIES_PER_THREAD_MIN).unwrap();
        for count in [0, 1, 2, 1024, 1025, 5_000, many] {
            check((0..count).map(honest));
            // Each four times.
            check((0..count).map(|number| honest(number / 4)));
            // Nearly all begin as all others do.
            check((0..count).map(|number| {
                let mut id = [9; 32];
                id[28..].copy_from_slice(&(number % 3000).to_be_bytes());
                id[0] = if number % 1000 == 0 { 255 } else { 7 };
                BlobId(id)
            }));
            check((0..count).map(|_| BlobId([200; 32])));
            // All in one part, which each further byte parts again.
            check((0..count).map(|number| {
                let mut id = honest(number).0;
                id[0] = 7;
                BlobId(id)
            }));
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        let mut state = 7_u8;
        let mut ids: Vec<BlobId> = (0..2000_u32)
            .map(|number| {
                let mut id = [0; 32];
                state = state.wrapping_mul(181).wrapping_add(91);
                // Equal beginnings of all lengths, and bytes above and below 128.
                id[usize::from(state) % 32] = (number % 251) as u8;
                id[31] ^= state;
                BlobId(id)
            })
            .collect();
        let mut bytes: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        bytes.sort_unstable();
        assert!(ids.iter().map(|id| id.0).eq(bytes));
        ids.dedup();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(position(&ids, id, |id| id), Some(at));
        }
        assert_eq!(position(&ids, &BlobId([255; 32]), |id| id), None);
    }
}
