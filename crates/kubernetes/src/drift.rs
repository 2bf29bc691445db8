//! How an object differs from what it should be, and who made it so.
//!
//! `document` reads both sides and drops what only the server says, `walk` finds the fields that
//! differ, `owners` looks each up in what the server records of its writers
//! (`metadata.managedFields`).
//!
//! Invariant: values of Secrets are never part of an answer.

mod amount;
mod defaults;
mod document;
mod elements;
mod owners;
mod walk;

pub use document::{Document, ObjectKey, is_encrypted, server_line};
pub use owners::Manager;
pub use walk::{Compare, FieldDrift, compare};

#[cfg(test)]
mod tests;
