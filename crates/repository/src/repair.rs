//! Making a damaged repository whole again, as far as its bytes go.
//!
//! The order that loses least: the index, from what packs say of themselves; the packs, from what
//! is undamaged in them; then the snapshots, without what is lost for good. Each of these can be
//! repeated, and has nothing to do the second time.
//!
//! All of them need an exclusive lock, because they replace indexes or delete packs; only
//! snapshots are repaired beside writers.
//!
//! Invariant: nothing is deleted before its replacement is stored, and everything that is given up
//! is named.

mod index;
mod packs;
mod salvage;
mod snapshots;

pub use index::{
    HeaderReading, IndexRepairPlan, IndexRepairReport, PreparedIndexRepair, plan_index_repair,
};
pub use packs::{PackRepairReport, repair_packs};
pub use salvage::SalvagedPack;
pub use snapshots::{
    OldSnapshots, PreparedSnapshotRepair, REPAIRED_TAG, RepairedSnapshot, SnapshotRepairPlan,
    plan_snapshot_repair,
};
