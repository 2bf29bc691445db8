//! placeholder

pub mod docker;
