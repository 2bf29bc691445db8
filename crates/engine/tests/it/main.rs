//! The engine against a repository in memory and sources that do what a test says.

#![cfg(test)]

mod backup;
mod gaps;
mod parents;
mod partial;
mod playground;
mod retained;
