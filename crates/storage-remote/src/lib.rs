//! Storage on other machines: S3, restic's REST server, WebDAV, Azure, Google Cloud and SFTP.
//!
//! Invariant: calls are synchronous and are not repeated here; what may be tried again is said by
//! the kind of an error.

#[cfg(test)]
mod adversity;
mod aside;
mod azure;
mod basic;
#[cfg(test)]
mod broken;
mod failure;
mod google;
mod http;
#[cfg(test)]
mod identities;
mod machine;
#[cfg(test)]
mod misleading;
mod objects;
mod rest;
mod s3;
mod sftp;
mod skew;
#[cfg(test)]
mod stand_in;
mod surroundings;
mod tokens;
#[cfg(test)]
mod vouching;
mod webdav;
mod xml;

use std::path::PathBuf;
use std::sync::Arc;

use refloat_storage::SharedStorage;
use refloat_storage::location::{Endpoint, RemoteAddress, Service};
use refloat_storage::temporaries::Temporaries;

pub use azure::AzureOptions;
pub use basic::Login;
pub use http::{ConnectError, ConnectOptions, PlainHttp, Proxies};
use objects::ObjectStorage;
pub use s3::{Addressing, LockMode, ObjectLock, S3Options};
pub use surroundings::{Lookup, Surroundings};

/// What is said of a storage beside its address.
#[derive(Debug, Default)]
pub struct Options {
    /// Of every service.
    pub connect: ConnectOptions,
    /// For REST servers and WebDAV.
    pub login: Option<Login>,
    /// For S3.
    pub s3: S3Options,
    /// For Azure.
    pub azure: AzureOptions,
    /// For Google: the server, if it is another one.
    pub google: Option<Endpoint>,
    /// For SFTP: a configuration of `ssh` instead of the user's.
    pub ssh_config: Option<PathBuf>,
}

/// The storage at an address; nothing is contacted yet.
///
/// # Errors
/// The address may not be used this way, or options do not fit.
pub fn open(
    address: &RemoteAddress,
    options: Options,
    around: &Surroundings,
) -> Result<SharedStorage, ConnectError> {
    let Options {
        connect,
        login,
        s3,
        azure,
        google,
        ssh_config,
    } = options;
    let connect = &connect;
    Ok(match address.service {
        Service::S3 => Arc::new(ObjectStorage(s3::S3::new(address, s3, connect, around)?)),
        Service::Rest => Arc::new(ObjectStorage(rest::Rest::new(address, login, connect)?)),
        Service::WebDav => {
            let webdav = webdav::WebDav::new(address, login, connect, around)?;
            Arc::new(ObjectStorage(webdav))
        }
        Service::AzureBlob => {
            let azure = azure::Azure::new(address, &azure, connect, around)?;
            Arc::new(ObjectStorage(azure))
        }
        Service::GoogleCloud => {
            let google = google::Google::new(address, google, connect, around)?;
            Arc::new(ObjectStorage(google))
        }
        Service::Sftp => Arc::new(sftp::Sftp::new(address, ssh_config, connect, around)?),
    })
}

/// Where files have other names while they are being written, if this address is such a place;
/// nothing is contacted yet.
///
/// # Errors
/// As [`open`].
pub fn temporaries(
    address: &RemoteAddress,
    options: Options,
    around: &Surroundings,
) -> Result<Option<Box<dyn Temporaries>>, ConnectError> {
    let (connect, login) = (&options.connect, options.login);
    Ok(match address.service {
        Service::WebDav => {
            let webdav = webdav::WebDav::new(address, login, connect, around)?;
            Some(Box::new(ObjectStorage(webdav)))
        }
        Service::Sftp => {
            let sftp = sftp::Sftp::new(address, options.ssh_config, connect, around)?;
            Some(Box::new(sftp))
        }
        // An object appears when the whole of it has come.
        Service::S3 | Service::Rest | Service::AzureBlob | Service::GoogleCloud => None,
    })
}

fn endpoint_of(address: &RemoteAddress) -> Result<&Endpoint, ConnectError> {
    let missing = || ConnectError::Options(format!("{address} names no server"));
    address.endpoint.as_ref().ok_or_else(missing)
}
