//! Integration tests of local folders: walking, restoring, and both under attack.

mod recorder;
mod walk;
