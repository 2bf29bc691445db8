//! Integration tests of folders as a source.

#![cfg(test)]

mod source;
mod tree;
