//! A process's own identity: the authority that it trusts, its certificate and its key, checked to
//! belong together before anything is connected. It reads files and keeps the key in memory only.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::IdentityError;
use super::certificate_name::{cluster_of_authority, peer_of_certificate};
use crate::config::IdentityFiles;
use crate::durable_file;
use crate::transport::PeerIdentity;

/// The loaded identity of this process.
#[derive(Debug)]
pub struct Identity {
    peer: PeerIdentity,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Loads and checks the three files of a configuration.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let authority = certificate(&files.ca, "authority certificate")?;
        let own = certificate(&files.certificate, "certificate")?;
        let key_pem = durable_file::read(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|e| IdentityError::Content {
            path: files.key.clone(),
            expected: "private key",
            reason: e.to_string(),
        })?;
        Self::of_der(authority, own, key).map_err(|error| match error {
            IdentityError::Mismatch { reason, .. } | IdentityError::Name { reason } => {
                IdentityError::Mismatch { certificate: files.certificate.clone(), reason }
            }
            other => other,
        })
    }

    /// An identity of material in memory (tests and tools that have just issued it).
    pub fn of_der(
        authority: CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let peer = peer_of_certificate(&certificate)?;
        let cluster = cluster_of_authority(&authority)?;
        if cluster != peer.cluster {
            return Err(IdentityError::Mismatch {
                certificate: Default::default(),
                reason: format!("it is of cluster {}, the authority of cluster {cluster}", peer.cluster),
            });
        }
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let certified = rustls::sign::CertifiedKey::new(vec![certificate.clone()], signing);
        if certified.keys_match().is_err() {
            let reason = "the key is not this certificate's".to_owned();
            return Err(IdentityError::Mismatch { certificate: Default::default(), reason });
        }
        Ok(Self { peer, authority, certificate, key })
    }

    /// Cluster, role and name of this process.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// A secret that only this identity knows, the same in every life of the process, for one use.
    pub(crate) fn derived_secret(&self, context: &'static str) -> [u8; 32] {
        blake3::derive_key(context, self.key.secret_der())
    }
}

fn certificate(path: &Path, expected: &'static str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(&durable_file::read(path)?).map_err(|e| IdentityError::Content {
        path: path.to_path_buf(),
        expected,
        reason: e.to_string(),
    })
}
