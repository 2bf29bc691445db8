//! A real engine discovered and captured, through the public interface only.
//!
//! Each test starts engines of its own; where that is not possible it says so and is skipped.

#![cfg(test)]

mod capture;
mod consistency;
mod errors;
mod estate;
mod images;
mod podman;
mod shop;
mod swarm;
mod tcp;
mod tree;
