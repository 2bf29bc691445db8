//! Storage on other machines against real servers.
//!
//! Invariant: every server listens on loopback, has its own folder, and ends with its test.
#![expect(clippy::unwrap_used, reason = "tests: a panic is a failed test")]

mod clouds;
mod line;
mod playground;
mod rest;
mod s3;
mod s3_proxy;
mod sftp;
mod tls;
mod webdav;
