//! The engine against a repository in memory and sources that do what a test says.

mod backup;
mod parents;
mod playground;
