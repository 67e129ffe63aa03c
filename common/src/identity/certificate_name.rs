//! What a certificate says about its holder: a DNS name `<role>.<cluster>.cairn.internal`, which
//! TLS checks against the server that a client wants, and a URI `cairn://<cluster>/<role>/<name>`,
//! which the server reads. The authority's own certificate carries `cairn://<cluster>`. It checks no
//! signature: TLS has done that before anybody asks here.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::IdentityError;
use crate::config::check_name;
use crate::ids::ClusterId;
use crate::protocol::Role;
use crate::transport::PeerIdentity;

const SCHEME: &str = "cairn://";

/// The TLS server name of every server with this role in this cluster.
pub fn server_name(role: Role, cluster: ClusterId) -> String {
    format!("{}.{cluster}.cairn.internal", role.as_str())
}

pub(super) fn member_uri(peer: &PeerIdentity) -> String {
    format!("{SCHEME}{}/{}/{}", peer.cluster, peer.role.as_str(), peer.name)
}

pub(super) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

/// The member that a certificate names. Errors: not one `cairn://` URI, or not of this form.
pub fn peer_of_certificate(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, IdentityError> {
    let uri = cairn_uri(certificate)?;
    parse_member(&uri).ok_or_else(|| IdentityError::Name { reason: format!("it says {uri:?}") })
}

pub(super) fn cluster_of_authority(certificate: &CertificateDer<'_>) -> Result<ClusterId, IdentityError> {
    let uri = cairn_uri(certificate)?;
    uri.strip_prefix(SCHEME).and_then(|cluster| cluster.parse().ok()).ok_or_else(|| IdentityError::Name {
        reason: format!("an authority says cairn://<cluster>, this says {uri:?}"),
    })
}

fn cairn_uri(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let unreadable = |reason: String| IdentityError::Name { reason };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| unreadable(e.to_string()))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| unreadable(e.to_string()))?
        .ok_or_else(|| unreadable("it has no alternative names".to_owned()))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(unreadable(format!("it has no {SCHEME} name"))),
        (Some(_), Some(_)) => Err(unreadable(format!("it has more than one {SCHEME} name"))),
    }
}

fn parse_member(uri: &str) -> Option<PeerIdentity> {
    let mut words = uri.strip_prefix(SCHEME)?.split('/');
    let (cluster, role, name) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || check_name(name).is_err() {
        return None;
    }
    Some(PeerIdentity { cluster: cluster.parse().ok()?, role: Role::parse(role)?, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_round_trip_and_refusals() {
        let peer = PeerIdentity { cluster: ClusterId::random(), role: Role::Chunk, name: "chunk-1.a".into() };
        assert_eq!(parse_member(&member_uri(&peer)), Some(peer.clone()));
        for wrong in [
            format!("cairn://{}", peer.cluster),
            format!("cairn://{}/chunk/", peer.cluster),
            format!("cairn://{}/chunk/a/b", peer.cluster),
            format!("cairn://{}/king/a", peer.cluster),
            "cairn://x/chunk/a".to_owned(),
            format!("https://{}/chunk/a", peer.cluster),
        ] {
            assert_eq!(parse_member(&wrong), None, "{wrong}");
        }
    }
}
