//! The command line as people and scripts see it: standard output, standard error, exit code.
//!
//! Snapshots are API: a change in one is a change for users. To write them anew:
//! `INSTA_UPDATE=always cargo test -p refloat-cli`, then read the difference.

#![cfg(test)]

mod anomaly;
mod bad_input;
mod ceilings;
mod cli_env;
mod cluster_drift;
mod cluster_faults;
mod cluster_git;
mod concurrent;
mod config;
mod control_plane;
mod docker;
mod engine_images;
mod etcd;
mod find;
mod folder_restore;
mod images_in_use;
mod interruption;
mod keys;
mod kills;
mod kubernetes;
mod leaks;
mod ledger;
mod live_folder;
mod lost_tree;
mod memory;
mod power_cuts;
mod registry;
mod registry_and_docker;
mod registry_faults;
mod registry_interrupted;
mod registry_lies;
mod repair;
mod retention;
mod there_and_back;
mod unreadable;
mod usage;
