//! A rustls client configuration from PEM files, with the *ring* provider.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::settings::{SettingsError, Tls, invalid};

/// Builds the configuration. The provider is given explicitly, so that nothing depends on which
/// provider a process has installed.
pub(crate) fn client_config(given: &Tls) -> Result<ClientConfig, SettingsError> {
    let roots = trusted(given)?;
    let identity = identity(given)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid("tls", "", &e.to_string()))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((path, chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|e| file("tls.cert_file", path, &format!("does not fit the key: {e}")))?
        }
    };
    config.alpn_protocols = given.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}

fn trusted(given: &Tls) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &given.ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(invalid("tls.ca_file", "", "a file: this system has no trusted certificates"));
        }
        return Ok(roots);
    };
    for certificate in certificates("tls.ca_file", path)? {
        roots.add(certificate).map_err(|e| file("tls.ca_file", path, &e.to_string()))?;
    }
    Ok(roots)
}

type Identity<'a> = (&'a Path, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(given: &Tls) -> Result<Option<Identity<'_>>, SettingsError> {
    match (&given.cert_file, &given.key_file) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(invalid("tls.key_file", "", "the key of tls.cert_file")),
        (None, Some(_)) => Err(invalid("tls.cert_file", "", "the certificate of tls.key_file")),
        (Some(cert), Some(key)) => {
            let chain = certificates("tls.cert_file", cert)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| file("tls.key_file", key, &e.to_string()))?;
            Ok(Some((cert, chain, secret)))
        }
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| file(key, path, &e.to_string()))?.collect();
    let found = found.map_err(|e| file(key, path, &e.to_string()))?;
    if found.is_empty() {
        return Err(file(key, path, "holds no PEM certificate"));
    }
    Ok(found)
}

fn file(key: &'static str, path: &Path, reason: &str) -> SettingsError {
    SettingsError::File { key, path: path.to_owned(), reason: reason.to_owned() }
}
