//! Shown by 7: no certificate, a certificate of another cluster, a role that may not: refused by
//! every server, with the reason; and the programs say it to people.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, program};
use cairn_common::config::{self, IdentityFiles};
use cairn_common::identity::{ClusterAuthority, Identity, client_config_without_certificate};
use cairn_common::ids::{ClusterId, RequestId};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicTransport, Tuning};
use cairn_common::transport::{Call, Transport, TransportError};

const SERVICES: [Service; 5] =
    [Service::Metadata, Service::ChunkControl, Service::Admin, Service::Raft, Service::Chunk];
const ROLES: [Role; 4] = [Role::Metadata, Role::Chunk, Role::Mount, Role::Admin];

/// The servers of a cluster, and its authority.
struct Town {
    cluster: DevCluster,
    authority: ClusterAuthority,
    /// Address and role of every server.
    servers: Vec<(SocketAddr, Role)>,
}

impl Town {
    fn new() -> Self {
        let cluster = DevCluster::start();
        let pki = cluster.data().join("pki");
        let authority = ClusterAuthority::load(&pki.join("ca.pem"), &pki.join("ca.key")).expect("authority");
        let servers = cluster
            .servers()
            .iter()
            .map(|name| {
                let listen = config::load(&cluster.config(name)).expect("configuration").listen().expect("address");
                (listen, if name.starts_with("meta") { Role::Metadata } else { Role::Chunk })
            })
            .collect();
        Self { cluster, authority, servers }
    }

    /// Servers that offer a service.
    fn offering(&self, service: Service) -> impl Iterator<Item = SocketAddr> {
        // The administrators' service lives on the metadata servers.
        let role = service.server_role().unwrap_or(Role::Metadata);
        self.servers.iter().filter(move |(_, server)| *server == role).map(|(address, _)| *address)
    }

    fn issue(&self, authority: &ClusterAuthority, role: Role, name: &str) -> IdentityFiles {
        let folder = self.cluster.outside().join(authority.cluster().to_string());
        authority.issue_into(&folder, role, name).expect("identity")
    }
}

async fn ask(transport: &QuicTransport, address: SocketAddr, service: Service) -> Result<(), TransportError> {
    let call = Call {
        service,
        request: RequestId::random(),
        timeout: Duration::from_secs(5),
        // No message of any service: whoever gets past the door is told so.
        header: vec![0xff; 16].into(),
        payload: Vec::new(),
    };
    transport.call(address, call).await.map(|_| ())
}

fn transport(files: &IdentityFiles) -> QuicTransport {
    QuicTransport::new(&Identity::load(files).expect("identity")).expect("transport")
}

fn run(program_name: &str, arguments: &[&str], config: &Path, more: &[&Path]) -> (bool, String) {
    let output = Command::new("timeout")
        .arg("60")
        .arg(program(program_name))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .args(more)
        .output()
        .expect("timeout(1) starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A copy of a program's configuration with another identity.
fn disguised(town: &Town, name: &str, identity: IdentityFiles) -> PathBuf {
    let mut config = config::load(&town.cluster.config(name)).expect("configuration");
    config.identity = identity;
    config.metrics = None;
    let path = town.cluster.outside().join(format!("{name}-disguised.toml"));
    std::fs::write(&path, config.to_toml().expect("TOML")).expect("write");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_with_the_reason() {
    let town = Town::new();
    let cluster = town.authority.cluster();

    // Without a certificate.
    let ours = Identity::load(&town.issue(&town.authority, Role::Admin, "tester")).expect("identity");
    let ca = authority_certificate(town.authority.certificate_pem());
    let tls = client_config_without_certificate(&ca).expect("TLS");
    let nobody = QuicTransport::with_tls(cluster, tls, Tuning::default()).expect("transport");
    for (address, role) in &town.servers {
        let service = if *role == Role::Metadata { Service::Metadata } else { Service::Chunk };
        let refusal = ask(&nobody, *address, service).await.expect_err("no certificate");
        eprintln!("no certificate: {refusal}");
        assert!(matches!(refusal, TransportError::Identity { .. }), "{refusal}");
        assert!(refusal.to_string().contains("certificate"), "{refusal}");
    }

    // Of another cluster: neither side takes the other for its own.
    let foreign = ClusterAuthority::generate(ClusterId::random()).expect("authority");
    let mut stolen_name = ClusterAuthority::generate(cluster).expect("authority");
    for other in [&foreign, &mut stolen_name] {
        let stranger = transport(&town.issue(other, Role::Mount, "mount1"));
        for (address, role) in &town.servers {
            let service = if *role == Role::Metadata { Service::Metadata } else { Service::Chunk };
            let refusal = ask(&stranger, *address, service).await.expect_err("another cluster");
            eprintln!("another cluster: {refusal}");
            assert!(matches!(refusal, TransportError::Identity { .. }), "{refusal}");
        }
    }

    // Trusting the right authority, but with a certificate of the other: the server must refuse.
    let ca = authority_certificate(town.authority.certificate_pem());
    let mixed = mixed_client(&ca, &town.issue(&foreign, Role::Mount, "mount1"));
    let mixed = QuicTransport::with_tls(cluster, mixed, Tuning::default()).expect("transport");
    for (address, role) in &town.servers {
        let service = if *role == Role::Metadata { Service::Metadata } else { Service::Chunk };
        let refusal = ask(&mixed, *address, service).await.expect_err("another cluster's certificate");
        eprintln!("another cluster's certificate: {refusal}");
        assert!(matches!(refusal, TransportError::Identity { .. }), "{refusal}");
    }

    // A role that may not, for every role and service.
    for role in ROLES {
        let files = town.issue(&town.authority, role, &format!("tester-{}", role.as_str()));
        let transport = transport(&files);
        for service in SERVICES {
            for address in town.offering(service) {
                let answer = ask(&transport, address, service).await.expect_err("the message is none");
                let forbidden =
                    matches!(&answer, TransportError::Refused { error: ServiceError::Forbidden { .. }, .. });
                assert_eq!(forbidden, !service.admits(role), "{} to {service:?}: {answer}", role.as_str());
                if forbidden {
                    let text = answer.to_string();
                    assert!(text.contains(role.as_str()), "the reason names the role: {text}");
                }
            }
        }
    }
    drop(ours);
    town.cluster.wait_healthy();
}

#[test]
fn programs_say_why_they_are_refused() {
    let town = Town::new();
    let foreign = ClusterAuthority::generate(ClusterId::random()).expect("authority");

    let config = disguised(&town, "admin", town.issue(&foreign, Role::Admin, "admin"));
    let (ok, text) = run("cairnctl", &["status"], &config, &[]);
    eprintln!("cairnctl of another cluster: {text}");
    assert!(!ok && text.contains("certificate"), "{text}");

    let config = disguised(&town, "admin", town.issue(&town.authority, Role::Mount, "mount7"));
    let (ok, text) = run("cairnctl", &["status"], &config, &[]);
    eprintln!("cairnctl with a mount's certificate: {text}");
    assert!(!ok && text.contains("mount") && text.contains("refused"), "{text}");

    let point = town.cluster.outside().join("point");
    std::fs::create_dir(&point).expect("mkdir");
    let config = disguised(&town, "mount1", town.issue(&foreign, Role::Mount, "mount1"));
    let (ok, text) = run("cairn-mount", &[], &config, &[&point]);
    eprintln!("cairn-mount of another cluster: {text}");
    assert!(!ok && text.contains("certificate"), "{text}");

    let config = disguised(&town, "mount1", town.issue(&town.authority, Role::Admin, "admin2"));
    let (ok, text) = run("cairn-mount", &[], &config, &[&point]);
    eprintln!("cairn-mount with an administrator's certificate: {text}");
    assert!(!ok && text.contains("admin"), "{text}");
}

fn authority_certificate(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")
}

fn mixed_client(ca: &rustls::pki_types::CertificateDer<'static>, files: &IdentityFiles) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone()).expect("authority");
    let certificate = CertificateDer::from_pem_file(&files.certificate).expect("certificate");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("certificate and key fit");
    config.alpn_protocols = vec![cairn_common::protocol::ALPN_V1.to_vec()];
    config
}
