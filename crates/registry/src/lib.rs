//! Image registries: a registry as a source and as a target.
//!
//! Invariant: bytes of manifests and blobs are never changed on the way, and none are kept whose
//! digest was not computed here.

mod address;
mod api;
mod auth;
mod capture;
mod digest;
mod discover;
mod error;
#[cfg(test)]
mod fuzz;
mod http;
mod layout;
mod manifest;
mod name;
mod options;
mod parallel;
mod platform;
mod restore;
mod source;

pub use address::{Address, InvalidAddress, Scheme};
pub use digest::{Digest, InvalidDigest};
pub use error::{CredentialsError, RegistryError};
pub use name::{ImageName, InvalidName, Reference, RepositoryName, Tag};
pub use options::{
    ConnectOptions, Credentials, PlainHttp, RegistryOptions, Repositories, RetryLimits,
};
pub use platform::{InvalidPlatform, Platform};
pub use restore::{LayoutTarget, RegistryTarget, TargetOptions, Verification};
pub use source::RegistrySource;
