//! A name and a password for a server, as HTTP's basic authentication sends them.
//!
//! Invariant: neither is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refloat_model::secret::Secret;

/// See the module.
#[derive(Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Login {
    pub(crate) fn header(&self) -> String {
        let pair = [self.user.as_bytes(), b":", self.password.expose()].concat();
        let pair = zeroize::Zeroizing::new(pair);
        format!("Basic {}", STANDARD.encode(&*pair))
    }
}
