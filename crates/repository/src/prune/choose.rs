//! What happens to each pack.
//!
//! Of a blob that is there several times one place is kept, even within one pack (rustic #392).
//! Packs all of whose used blobs are elsewhere go first, the most wasteful and the smallest before
//! others: so what an interrupted prune repacked stays and its old packs go.
//!
//! Invariant: every used blob has exactly one kept place, and it is in a pack that is kept or
//! repacked; one that is known to be damaged only if all others are.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::survey::Survey;
use super::{MaxUnused, PruneOptions, PruneStatistics};
use crate::catalogue::Catalogue;
use crate::format::pack::BlobKind;
use crate::id::PackId;
use crate::tree_walk::BitSet;

/// So many small packs are worth merging.
const SMALL_PACKS_MIN: usize = 10;

/// What happens to a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Keep,
    Repack,
    Delete,
}

/// See the module.
pub struct Choice {
    /// By pack number.
    pub fates: Vec<Fate>,
    /// By row: whether this place of a used blob is the one that is kept or copied.
    pub kept: BitSet,
    pub statistics: PruneStatistics,
}

/// One pack's blobs, in bytes.
#[derive(Clone, Copy, Default)]
struct Content {
    blobs: u64,
    unreferenced: u64,
    kept: u64,
    has_trees: bool,
    has_duplicates: bool,
}

impl Content {
    const fn unused(&self) -> u64 {
        self.blobs - self.kept
    }

    fn waste_per_mille(&self) -> u64 {
        let share = u128::from(self.unreferenced) * 1000 / u128::from(self.blobs.max(1));
        u64::try_from(share).unwrap_or(1000)
    }
}

impl Choice {
    pub fn of(survey: &Survey, options: &PruneOptions) -> Self {
        let catalogue = &survey.catalogue;
        let mut statistics = PruneStatistics::default();
        let mut contents = contents(survey, &mut statistics);
        let kept = keep_one_of_each(survey, &mut contents, &mut statistics);
        let fates = fates(catalogue, &contents, options);
        let mut choice = Self {
            fates,
            kept,
            statistics,
        };
        choice.spare_copies(survey);
        choice.sum_up(catalogue, &contents);
        choice
    }

    pub fn is_dead(&self, pack: usize) -> bool {
        self.fates[pack] != Fate::Keep
    }

    /// The packs of a fate.
    pub fn packs(&self, catalogue: &Catalogue, fate: Fate) -> BTreeSet<PackId> {
        self.numbers(fate)
            .map(|number| catalogue.packs()[number])
            .collect()
    }

    /// The numbers of the packs of a fate.
    pub fn numbers(&self, fate: Fate) -> impl Iterator<Item = usize> {
        let fates = self.fates.iter().enumerate();
        fates
            .filter(move |(_, found)| **found == fate)
            .map(|(number, _)| number)
    }

    /// What would be copied although another place of it stays anyway is not copied.
    fn spare_copies(&mut self, survey: &Survey) {
        let catalogue = &survey.catalogue;
        let moved = BitSet::new(catalogue.rows().len());
        for number in 0..catalogue.rows().len() {
            if !self.kept.contains(number) {
                continue;
            }
            let row = &catalogue.rows()[number];
            let stays = |fates: &[Fate], pack: usize| fates[pack] == Fate::Keep;
            let mut place = number;
            if !stays(&self.fates, row.pack()) {
                let mut copies = catalogue.copies(row.kind(), &row.id());
                let other = copies.find(|copy| {
                    stays(&self.fates, catalogue.rows()[*copy].pack())
                        && !survey.bad.contains(*copy)
                });
                place = other.unwrap_or(number);
            }
            let _once = moved.insert(place);
        }
        self.kept = moved;
    }

    fn sum_up(&mut self, catalogue: &Catalogue, contents: &[Content]) {
        let statistics = &mut self.statistics;
        statistics.packs = contents.len() as u64;
        for (number, content) in contents.iter().enumerate() {
            let bytes = catalogue.pack_size(number);
            statistics.pack_bytes += bytes;
            match self.fates[number] {
                Fate::Keep => statistics.remaining_unused_bytes += content.unused(),
                Fate::Delete => statistics.delete_bytes += bytes,
                Fate::Repack => {
                    statistics.repack_bytes += bytes;
                    for row in catalogue.rows_of_pack(number) {
                        if self.kept.contains(*row as usize) {
                            let row = &catalogue.rows()[*row as usize];
                            statistics.copy_bytes += u64::from(row.blob().length);
                        }
                    }
                }
            }
        }
    }
}

/// How much of each pack no snapshot needs.
fn contents(survey: &Survey, statistics: &mut PruneStatistics) -> Vec<Content> {
    let catalogue = &survey.catalogue;
    let mut contents = vec![Content::default(); catalogue.packs().len()];
    for_each_blob(catalogue, |copies| {
        let used = survey.used.contains(copies.start);
        let several = copies.len() > 1;
        for number in copies {
            let row = &catalogue.rows()[number];
            let bytes = u64::from(row.blob().length);
            let content = &mut contents[row.pack()];
            content.blobs += bytes;
            content.has_trees |= row.kind() == BlobKind::Tree;
            content.has_duplicates |= used && several;
            if !used {
                content.unreferenced += bytes;
                statistics.unused_blobs += 1;
                statistics.unused_bytes += bytes;
            }
        }
    });
    contents
}

/// By pack: whether all its used blobs are in packs that are not redundant.
fn redundant(survey: &Survey, contents: &[Content]) -> Vec<bool> {
    let catalogue = &survey.catalogue;
    let mut redundant = vec![false; contents.len()];
    let candidates = (0..contents.len()).filter(|pack| contents[*pack].has_duplicates);
    let mut candidates: Vec<usize> = candidates.collect();
    candidates.sort_by_key(|pack| {
        let content = &contents[*pack];
        (Reverse(content.waste_per_mille()), content.blobs, *pack)
    });
    for pack in candidates {
        redundant[pack] = catalogue.rows_of_pack(pack).iter().all(|number| {
            let row = &catalogue.rows()[*number as usize];
            let mut copies = catalogue.copies(row.kind(), &row.id());
            !survey.used.contains(copies.start)
                || copies.any(|copy| {
                    let other = catalogue.rows()[copy].pack();
                    other != pack && !redundant[other] && !survey.bad.contains(copy)
                })
        });
    }
    redundant
}

fn keep_one_of_each(
    survey: &Survey,
    contents: &mut [Content],
    statistics: &mut PruneStatistics,
) -> BitSet {
    let catalogue = &survey.catalogue;
    let kept = BitSet::new(catalogue.rows().len());
    let redundant = redundant(survey, contents);
    for_each_blob(catalogue, |copies| {
        if !survey.used.contains(copies.start) {
            return;
        }
        let best = copies.clone().min_by_key(|number| {
            let row = &catalogue.rows()[*number];
            let content = &contents[row.pack()];
            let place = (row.pack(), row.blob().offset);
            let waste = content.waste_per_mille();
            let is_bad = survey.bad.contains(*number);
            (
                is_bad,
                redundant[row.pack()],
                waste,
                Reverse(content.blobs),
                place,
            )
        });
        for number in copies {
            let row = &catalogue.rows()[number];
            let bytes = u64::from(row.blob().length);
            if Some(number) == best {
                let _once = kept.insert(number);
                contents[row.pack()].kept += bytes;
                statistics.used_blobs += 1;
                statistics.used_bytes += bytes;
            } else {
                statistics.duplicate_blobs += 1;
                statistics.duplicate_bytes += bytes;
            }
        }
    });
    kept
}

/// Calls back with the rows of each blob.
fn for_each_blob(catalogue: &Catalogue, mut visit: impl FnMut(std::ops::Range<usize>)) {
    let rows = catalogue.rows();
    let mut start = 0;
    while let Some(first) = rows.get(start) {
        let same =
            |row: &&crate::catalogue::Row| row.id() == first.id() && row.kind() == first.kind();
        let end = start + rows[start..].iter().take_while(same).count();
        visit(start..end);
        start = end;
    }
}

fn fates(catalogue: &Catalogue, contents: &[Content], options: &PruneOptions) -> Vec<Fate> {
    let mut fates = vec![Fate::Keep; contents.len()];
    let (mut partial, mut small) = (Vec::new(), Vec::new());
    for (number, content) in contents.iter().enumerate() {
        let is_small = catalogue.pack_size(number) < options.pack_bytes_min / 2;
        if content.kept == 0 {
            fates[number] = Fate::Delete;
        } else if content.unused() > 0 {
            partial.push(number);
        } else if is_small {
            small.push(number);
        }
    }
    // Trees first: every later walk reads them. Then whatever gives back most for its cost.
    partial.sort_by_key(|number| {
        let content = &contents[*number];
        let share = u128::from(content.unused()) * 1_000_000 / u128::from(content.blobs.max(1));
        (!content.has_trees, Reverse(share), *number)
    });
    let used: u64 = contents.iter().map(|content| content.kept).sum();
    let allowed = match options.max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::PerMille(share) => {
            let share = u128::from(share.min(1000));
            let waste = u128::from(used) * share / (1000 - share).max(1);
            u64::try_from(waste).unwrap_or(u64::MAX)
        }
    };
    let mut waste: u64 = partial
        .iter()
        .map(|number| contents[*number].unused())
        .sum();
    let mut budget = options.max_repack_bytes.unwrap_or(u64::MAX);
    for number in partial {
        if waste <= allowed {
            break;
        }
        if spend(&mut budget, catalogue.pack_size(number)) {
            fates[number] = Fate::Repack;
            waste -= contents[number].unused();
        }
    }
    // What is repacked leaves a last pack of each kind that may be small: counted now, so that the
    // next plan has nothing left to merge.
    let last_packs = if fates.contains(&Fate::Repack) { 2 } else { 0 };
    if small.len() + last_packs >= SMALL_PACKS_MIN {
        for number in small {
            if spend(&mut budget, catalogue.pack_size(number)) {
                fates[number] = Fate::Repack;
            }
        }
    }
    fates
}

/// Takes from the budget if there is enough.
const fn spend(budget: &mut u64, bytes: u64) -> bool {
    match budget.checked_sub(bytes) {
        Some(rest) => {
            *budget = rest;
            true
        }
        None => false,
    }
}
