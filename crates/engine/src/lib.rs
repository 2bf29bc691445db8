//! Decisions: what is saved, restored and forgotten, and how it went.
//!
//! Every operation is a pure planner plus an executor that follows the plan. The engine knows the
//! repository and the source contract.
//!
//! Invariant: nothing here knows an adapter, prints, exits, reads the environment, a clock or a
//! source of randomness; all of these come in as arguments.

pub mod config;
pub mod period;
pub mod point_list;
pub mod retention;
pub mod suggest;
