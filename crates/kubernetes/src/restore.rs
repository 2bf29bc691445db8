//! Back into a cluster: plan against the real one, then do exactly that.
//!
//! ```text
//! stored ──▶ sanitise ──▶ mapping ──▶ version ──▶ prepared ──▶ plan (compare, check, dry-run)
//! (a point)                                          └───────▶ execute (layer by layer)
//! ```
//!
//! Absent objects are *created* (a POST, which fails if somebody else was faster), differing ones
//! *replaced* (a PUT bound to the version that was compared). A patch bound to that version is used
//! where an object is shared with somebody else: a namespace's own service account, an existing
//! namespace. Applying everything on the server's side would be simpler, and would quietly overwrite
//! what appeared since the plan.
//!
//! Invariant: planning and executing prepare objects by the same pure functions.

mod change;
mod checks;
mod compare;
mod definitions;
mod execute;
mod finish;
#[cfg(test)]
mod fuzz;
mod gitops;
mod hold;
mod layer;
mod mapping;
mod operators;
mod plan;
mod prepare;
mod privileged;
mod recreate;
mod sanitise;
mod selection;
mod situation;
mod stored;
mod target;
mod transform;
mod unread;
mod version;
mod volumes;
mod write;

pub use target::KubernetesTarget;
