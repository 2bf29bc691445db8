//! Certificates.
//!
//! Invariant: a file of certificates that was named is used as a whole, or refused.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the certificates in {path}")]
pub struct UnusableCertificates {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Trusts the system's authorities, and those in a file.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn trust(ca_file: Option<&Path>) -> Result<TlsConfig, UnusableCertificates> {
    // Single files of the system's store that cannot be read do not matter; none at all does, and
    // then TLS says so.
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> = system
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    if let Some(path) = ca_file {
        roots.extend(authorities(path).map_err(|source| UnusableCertificates {
            path: path.to_owned(),
            source,
        })?);
    }
    Ok(with_roots(&roots))
}

/// For what goes unencrypted.
#[must_use]
pub fn trust_nobody() -> TlsConfig {
    with_roots(&[])
}

fn with_roots(roots: &[Certificate<'static>]) -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(roots))
        .unversioned_rustls_crypto_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .build()
}

fn authorities(
    path: &Path,
) -> Result<Vec<Certificate<'static>>, Box<dyn std::error::Error + Send + Sync>> {
    let mut found = Vec::new();
    for der in CertificateDer::pem_file_iter(path)? {
        found.push(Certificate::from_der(&der?).to_owned());
    }
    if found.is_empty() {
        return Err("it holds none".into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for content in [None, Some("no certificate\n")] {
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            let refused = trust(Some(&file)).map(|_| ()).unwrap_err();
            assert_eq!(refused.path, file);
        }
        assert!(trust(None).is_ok());
    }
}
