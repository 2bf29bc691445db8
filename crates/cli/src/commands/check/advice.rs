//! What to do next about what a check found.
//!
//! Invariant: of the repairs only the next one is named, in the order that loses least; after it
//! the check says more.

use refloat_repository::SnapshotId;
use refloat_repository::check::{BlobLoss, CheckFinding};

/// Names the next step, and what comes from elsewhere; empty if nothing is lost or damaged.
pub fn advice(findings: &[CheckFinding]) -> String {
    let mut text = String::new();
    if has(findings, |f| matches!(f, CheckFinding::KeyDamaged { .. })) {
        text.push_str(
            "next: `refloat key import FILE` puts keys back from an earlier `refloat key export`\n",
        );
    }
    if let Some(snapshot) = findings.iter().find_map(unreadable) {
        let short = snapshot.short();
        text.push_str(&format!(
            "next: bring what cannot be read back from a copy of the repository, or drop it with \
             `refloat forget --unreadable {short}`\n"
        ));
    }
    if has(findings, CheckFinding::is_withheld) {
        text.push_str(
            "next: see why the storage does not give out what cannot be read now; it is not known to be damaged, and \
             of a pack on a failing disk `refloat repair packs PACK` saves what can still be read\n",
        );
    }
    if let Some(repair) = repair(findings) {
        text.push_str(&format!("next: {repair}, then `refloat check` again\n"));
    }
    text
}

/// The repair that is next.
fn repair(findings: &[CheckFinding]) -> Option<&'static str> {
    use CheckFinding as F;
    let is_of_index = |f: &F| {
        matches!(
            f,
            F::UnreadableIndex { .. } | F::MissingPack { .. } | F::PackSize { .. }
        )
    };
    let is_not_indexed = |f: &F| {
        let loss = BlobLoss::NotIndexed;
        matches!(f, F::MissingBlob { loss: found, .. } if *found == loss)
    };
    if has(findings, |f| matches!(f, F::IndexMismatch { .. })) {
        // Otherwise it trusts the index where a pack's size fits.
        return Some("`refloat repair index --read-all-packs`");
    }
    if has(findings, is_of_index) {
        return Some("`refloat repair index`");
    }
    if has(findings, is_not_indexed) && has(findings, |f| matches!(f, F::UnindexedPack { .. })) {
        // Those packs may hold what is lost, or be of a backup that broke off.
        return Some(
            "`refloat repair index`, or `refloat repair snapshots` if the index is as it should be",
        );
    }
    if has(findings, |f| {
        matches!(f, F::DamagedPack { .. }) && !f.is_withheld()
    }) {
        return Some("`refloat repair packs`");
    }
    let is_lost = |f: &F| matches!(f, F::MissingBlob { .. } | F::InvalidTree { .. });
    has(findings, is_lost).then_some(
        "`refloat backup`, which stores again what is still there, and for the rest `refloat \
         repair snapshots`",
    )
}

fn has(findings: &[CheckFinding], is: impl Fn(&CheckFinding) -> bool) -> bool {
    findings.iter().any(is)
}

const fn unreadable(finding: &CheckFinding) -> Option<SnapshotId> {
    match finding {
        CheckFinding::UnreadableSnapshot { snapshot, .. } => Some(*snapshot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use refloat_repository::check::PackDamage;
    use refloat_repository::{BlobId, BlobKind, IndexId, PackId};

    use super::*;

    fn lost(loss: BlobLoss) -> CheckFinding {
        CheckFinding::MissingBlob {
            kind: BlobKind::Data,
            blob: BlobId([1; 32]),
            loss,
            paths: 1,
            snapshots: 1,
        }
    }

    #[test]
    fn the_next_repair_is_named_in_the_order_that_loses_least() {
        let pack = PackId([2; 32]);
        let damaged = CheckFinding::DamagedPack {
            pack,
            damage: PackDamage::Hash,
        };
        let missing = CheckFinding::MissingPack { pack };
        let unindexed = CheckFinding::UnindexedPack { pack, bytes: 9 };
        let mismatch = CheckFinding::IndexMismatch {
            pack,
            index_only: 1,
            header_only: 0,
        };
        let unreadable = CheckFinding::UnreadableIndex {
            index: IndexId([3; 32]),
            cause: "cut".to_owned(),
        };
        let (not_indexed, gone) = (lost(BlobLoss::NotIndexed), lost(BlobLoss::Damaged));
        for (findings, expected) in [
            (vec![], None),
            (vec![unindexed.clone()], None),
            (
                vec![missing, damaged.clone(), gone.clone()],
                Some("repair index`"),
            ),
            (vec![unreadable, not_indexed.clone()], Some("repair index`")),
            (
                vec![mismatch, damaged.clone()],
                Some("repair index --read-all-packs`"),
            ),
            (
                vec![not_indexed.clone(), unindexed],
                Some("repair index`, or `refloat repair snap"),
            ),
            (vec![damaged, gone.clone()], Some("repair packs`")),
            (vec![gone], Some("refloat backup`")),
            (vec![not_indexed], Some("refloat backup`")),
        ] {
            let named = repair(&findings);
            match expected {
                None => assert_eq!(named, None, "{findings:?}"),
                Some(text) => assert!(named.unwrap_or("").contains(text), "{named:?} {findings:?}"),
            }
        }
    }
}
