//! `refloat`: backs up container estates and brings them back.
//!
//! This binary wires libraries together: arguments, environment, configuration, printing and exit
//! codes live here and nowhere else.
//!
//! Invariant: exactly one place prints errors ([`app`]) and one translates them
//! ([`command_error`]).

mod allocator;
mod app;
mod args;
mod belonging;
mod command_error;
mod commands;
mod deleter;
mod environment;
mod etcd_path;
mod exit_status;
mod home;
mod ledger;
mod mask;
mod other;
mod output;
mod password;
mod point;
mod progress;
mod random;
mod repository;
mod settings;
mod signals;
mod sources;
mod storage;
mod table;

fn main() -> std::process::ExitCode {
    allocator::map_large_buffers();
    app::run()
}
