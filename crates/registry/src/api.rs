//! The distribution API: what a registry can be asked and told.
//!
//! Invariant: what is handed out was compared with its digest; a registry's word on its own
//! content counts for nothing.

mod blobs;
mod listing;
mod manifests;
mod push;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use refloat_model::cancel::Cancel;
use ureq::http::Method;

pub(crate) use blobs::BlobSource;
pub(crate) use manifests::{RawManifest, Resolved};
pub(crate) use push::Pushed;

use crate::address::Address;
use crate::auth::Scope;
use crate::error::RegistryError;
use crate::http::{Client, Request, refused};
use crate::options::ConnectOptions;

/// One registry.
#[derive(Clone)]
pub(crate) struct Registry {
    client: Arc<Client>,
    referrers: Arc<AtomicU8>,
}

/// Whether the registry lists referrers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReferrersApi {
    Unknown,
    Present,
    Absent,
}

impl Registry {
    /// Prepares a connection; nothing is sent yet.
    pub(crate) fn new(address: &Address, options: &ConnectOptions) -> Result<Self, RegistryError> {
        Ok(Self {
            client: Arc::new(Client::new(address, options)?),
            referrers: Arc::new(AtomicU8::new(0)),
        })
    }

    pub(crate) fn address(&self) -> &Address {
        self.client.address()
    }

    /// Whether a registry answers, and in which version of the API where it says so.
    pub(crate) fn version(&self, cancel: &Cancel) -> Result<Option<String>, RegistryError> {
        let scope = Scope::catalogue();
        let request = Request::new(Method::GET, self.client.url(""), &scope);
        let response = self.client.send(&request, cancel)?;
        match response.status().as_u16() {
            404 => return Err(RegistryError::NotARegistry(self.address().clone())),
            status if status >= 400 => return Err(refused(response)),
            _ => {}
        }
        let header = response.headers().get("docker-distribution-api-version");
        let is_page = response.headers().get("content-type").is_some_and(|value| {
            value
                .to_str()
                .is_ok_and(|text| text.starts_with("text/html"))
        });
        if is_page && header.is_none() {
            return Err(RegistryError::NotARegistry(self.address().clone()));
        }
        let printable = |text: &&str| text.len() < 40 && text.bytes().all(|b| b.is_ascii_graphic());
        Ok(header
            .and_then(|v| v.to_str().ok())
            .filter(printable)
            .map(str::to_owned))
    }

    pub(crate) fn referrers_api(&self) -> ReferrersApi {
        match self.referrers.load(Ordering::Relaxed) {
            1 => ReferrersApi::Present,
            2 => ReferrersApi::Absent,
            _ => ReferrersApi::Unknown,
        }
    }

    fn learn_referrers_api(&self, present: bool) {
        self.referrers
            .store(if present { 1 } else { 2 }, Ordering::Relaxed);
    }
}
