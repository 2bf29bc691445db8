//! Storage that fails on purpose: crashes, refusals, short lists, bad reads, lies.
//!
//! Invariant: what fails depends on the plan and on the numbers of calls only, so that a failing
//! case is repeated by its numbers.

mod plan;
mod storage;

pub use plan::{
    Aftermath, BadRead, BadReads, FaultPlan, Lie, Lies, MutationEffect, MutationFault, Selection,
    ShortLists,
};
pub use storage::{FaultyStorage, Mutation};
