//! An object as a recovery point holds it: a document for people, and a line of what the server said.
//!
//! Invariant: both together are the object.

use serde_json::Value;

use crate::kind::name;
use crate::{noise, yaml};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SavedObject {
    pub(crate) name: String,
    /// YAML.
    pub(crate) document: Vec<u8>,
    /// JSON and a line feed.
    pub(crate) server: Vec<u8>,
}

impl SavedObject {
    pub(crate) fn of(mut object: Value) -> Self {
        let mut server = noise::split(&mut object).to_string().into_bytes();
        server.push(b'\n');
        Self {
            name: name(&object).to_owned(),
            document: yaml::write(&object).into_bytes(),
            server,
        }
    }
}
