//! Integration tests of folders as a source.

#![cfg(test)]

mod as_user;
mod source;
mod tree;
