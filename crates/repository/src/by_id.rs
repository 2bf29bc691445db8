//! Entries in the order of their ids.
//!
//! Invariant: any ids do, hostile ones as well; those of honest hashes are merely fast.

use crate::id::{BlobId, prefix};

/// Where in entries that are sorted by their ids the one of `id` is.
///
/// Interpolation search: ids are uniformly distributed, so a guess by the first eight bytes lands
/// within a few entries; falls back to halving, so hostile ids cost no more than a binary search.
pub(crate) fn position<T>(
    entries: &[T],
    id: &BlobId,
    id_of: impl Fn(&T) -> &BlobId,
) -> Option<usize> {
    let (mut low, mut high) = (0, entries.len());
    let key = prefix(&id.0);
    let mut guesses = 0;
    while low < high {
        let middle = if guesses < 3 && high - low > 8 {
            guesses += 1;
            let bounds = [
                prefix(&id_of(&entries[low]).0),
                prefix(&id_of(&entries[high - 1]).0),
            ];
            interpolate(low..high, bounds, key)
        } else {
            low + (high - low) / 2
        };
        match id_of(&entries[middle]).cmp(id) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
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
