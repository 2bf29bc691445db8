//! What clients over HTTP have in common: which certificates they trust, where names lead, and how long servers ask
//! to be left alone.
//!
//! Invariant: nothing here sends anything; what is asked, how often and with which credentials is
//! the clients' business.

mod names;
mod retry_after;
mod trust;

pub use names::agent;
pub use retry_after::retry_after;
pub use trust::{UnusableCertificates, trust, trust_nobody};
