//! The certificate authority of one cluster. Whoever has its key can make any identity: the key is
//! written with mode 0600 and stays with the administrator; no server loads it. Files are durable
//! when a function has returned.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::IdentityError;
use super::certificate_name::{authority_uri, cluster_of_authority, member_uri, server_name};
use crate::config::{IdentityFiles, check_name};
use crate::durable_file::{self, Access};
use crate::ids::ClusterId;
use crate::protocol::Role;
use crate::transport::PeerIdentity;

const DAY_S: i64 = 24 * 3600;
const YEAR_S: i64 = 365 * DAY_S;

/// When a certificate is valid, in seconds relative to the moment of issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second; a day before now, because clocks differ.
    pub from_s: i64,
    /// Last second.
    pub until_s: i64,
}

impl Validity {
    /// 10 years for members: rotation is an operator's decision, not a time bomb.
    pub const MEMBER: Self = Self { from_s: -DAY_S, until_s: 10 * YEAR_S };
    /// 30 years for the authority.
    pub const AUTHORITY: Self = Self { from_s: -DAY_S, until_s: 30 * YEAR_S };

    fn apply(self, params: &mut CertificateParams) {
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::seconds(self.from_s);
        params.not_after = now + time::Duration::seconds(self.until_s);
    }
}

/// The authority with its key.
pub struct Authority {
    cluster: ClusterId,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, not yet written anywhere.
pub struct IssuedCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key: secret.
    pub key_pem: String,
}

impl Authority {
    /// A new authority for a cluster, in memory.
    pub fn generate(cluster: ClusterId) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        Validity::AUTHORITY.apply(&mut params);
        params.distinguished_name = distinguished_name(&format!("Cairn cluster {cluster}"));
        params.subject_alt_names = vec![SanType::URI(authority_uri(cluster).try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { cluster, certificate_pem, key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Writes certificate and key durably, the key with mode 0600.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), IdentityError> {
        durable_file::write_with(key, self.key_pem.as_bytes(), Access::Owner)?;
        durable_file::write(certificate, self.certificate_pem.as_bytes())?;
        Ok(())
    }

    /// Loads what [`Self::write`] wrote.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificate_pem = durable_file::read_to_string(certificate)?;
        let key_pem = durable_file::read_to_string(key)?;
        let content = |path: &Path, expected, reason: String| IdentityError::Content {
            path: path.to_path_buf(),
            expected,
            reason,
        };
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| content(certificate, "authority certificate", e.to_string()))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|e| content(key, "authority key", e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, pair)
            .map_err(|e| content(certificate, "authority certificate", e.to_string()))?;
        Ok(Self { cluster: cluster_of_authority(&der)?, certificate_pem, key_pem, issuer })
    }

    /// The cluster that it is the authority of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The authority's certificate, which every member needs.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate with [`Validity::MEMBER`].
    pub fn issue(&self, role: Role, name: &str) -> Result<IssuedCertificate, IdentityError> {
        self.issue_for(role, name, Validity::MEMBER)
    }

    /// Issues a certificate. Errors: a name that is none ([`check_name`]).
    pub fn issue_for(&self, role: Role, name: &str, validity: Validity) -> Result<IssuedCertificate, IdentityError> {
        check_name(name).map_err(|reason| IdentityError::Name { reason: format!("the name {reason}") })?;
        let peer = PeerIdentity { cluster: self.cluster, role, name: name.to_owned() };
        let mut params = CertificateParams::default();
        validity.apply(&mut params);
        params.distinguished_name = distinguished_name(name);
        params.subject_alt_names = vec![
            SanType::DnsName(server_name(role, self.cluster).try_into()?),
            SanType::URI(member_uri(&peer).try_into()?),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Metadata | Role::Chunk => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Mount | Role::Admin => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedCertificate { certificate_pem, key_pem: key.serialize_pem() })
    }

    /// Issues a certificate and writes the three files of an identity into `folder` (made if
    /// missing): `ca.pem`, `<name>.pem`, `<name>.key`.
    pub fn issue_into(&self, folder: &Path, role: Role, name: &str) -> Result<IdentityFiles, IdentityError> {
        let issued = self.issue(role, name)?;
        let files = IdentityFiles {
            ca: folder.join("ca.pem"),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        durable_file::create_folder(folder)?;
        durable_file::write(&files.ca, self.certificate_pem.as_bytes())?;
        issued.write(&files.certificate, &files.key)?;
        Ok(files)
    }
}

impl IssuedCertificate {
    /// Writes certificate and key durably, the key with mode 0600.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), IdentityError> {
        durable_file::write_with(key, self.key_pem.as_bytes(), Access::Owner)?;
        durable_file::write(certificate, self.certificate_pem.as_bytes())?;
        Ok(())
    }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Cairn");
    name.push(DnType::CommonName, common_name);
    name
}
