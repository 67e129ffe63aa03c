//! TLS configurations: version 1.3 only, aws-lc-rs named explicitly (never the process default),
//! certificates on both sides, ALPN of the wire version. No 0-RTT: a replayed change must not be.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{Identity, IdentityError};
use crate::protocol::ALPN_V1;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut store = RootCertStore::empty();
    store.add(authority.clone())?;
    Ok(Arc::new(store))
}

/// A server: shows its certificate, demands one of the cluster.
pub fn server_config(identity: &Identity) -> Result<ServerConfig, IdentityError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity.authority())?, provider())
        .build()
        .map_err(|e| IdentityError::Tls(rustls::Error::General(e.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate().clone()], identity.key().clone_key())?;
    config.alpn_protocols = vec![ALPN_V1.to_vec()];
    config.max_early_data_size = 0;
    // A resumed session would skip the check of the client's certificate after it has expired.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client: trusts the cluster's authority only, shows its certificate.
pub fn client_config(identity: &Identity) -> Result<ClientConfig, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(identity.authority())?)
        .with_client_auth_cert(vec![identity.certificate().clone()], identity.key().clone_key())?;
    config.alpn_protocols = vec![ALPN_V1.to_vec()];
    Ok(config)
}

/// A client that shows no certificate, as a stranger would: every server refuses it. For tests.
pub fn client_config_without_certificate(authority: &CertificateDer<'static>) -> Result<ClientConfig, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(authority)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_V1.to_vec()];
    Ok(config)
}
