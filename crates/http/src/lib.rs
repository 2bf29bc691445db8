//! What clients over HTTP have in common: which certificates they trust, and where names lead.
//!
//! Invariant: nothing here sends anything; what is asked, how often and with which credentials is
//! the clients' business.

mod names;
mod trust;

pub use names::agent;
pub use trust::{UnusableCertificates, trust, trust_nobody};
