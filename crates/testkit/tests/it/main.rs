//! The test kit tested, and the storages against their contract.

mod conformance;
mod faults;
mod restic;
