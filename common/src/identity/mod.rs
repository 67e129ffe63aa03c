//! Who a process is: the cluster's certificate authority, the certificates that it issues, and the
//! TLS configurations made of them. TLS 1.3 with certificates on both sides, always (P8). It opens
//! no connection and knows no service; `protocol::Service::admits` says what a role may do.

mod authority;
mod certificate_name;
mod process;
mod tls;

pub use authority::{Authority as ClusterAuthority, IssuedCertificate, Validity};
pub use certificate_name::{peer_of_certificate, server_name};
pub use process::Identity;
pub use tls::{client_config, client_config_without_certificate, server_config};

use std::path::PathBuf;

use crate::durable_file::DurableFileError;

/// Identity files that cannot be made or used. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{0}; identities are made by `cairnctl cluster init` and named in [identity] of the configuration")]
    File(#[from] DurableFileError),
    /// A file is no PEM of the expected kind.
    #[error("{path} holds no valid {expected}: {reason}; issue it again with cairnctl")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why it does not.
        reason: String,
    },
    /// A certificate does not name a member of a Cairn cluster.
    #[error("the certificate names no member of a Cairn cluster: {reason}")]
    Name {
        /// What is wrong.
        reason: String,
    },
    /// The files do not fit together.
    #[error("{certificate} does not fit: {reason}; issue it again with cairnctl")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The TLS library refused the material.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}
