//! P8: who has no certificate of this cluster, or of the wrong role, gets nothing, and both sides say
//! why.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_common::identity::{Identity, IdentityError, Validity, client_config_without_certificate};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicTransport, Tuning};
use cairn_common::transport::{Transport, TransportError};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::{Cluster, Echo, call, eventually, local};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What the server logs. One per process, so each test that uses it runs in its own (nextest), or
    /// shares the text.
    fn capture() -> Self {
        static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
            log
        })
        .clone()
    }

    async fn says(&self, text: &str) {
        let has = || String::from_utf8_lossy(&self.0.lock()).contains(text);
        eventually(&format!("the server logs {text:?}"), has).await;
    }
}

fn identity_reason(result: Result<cairn_common::transport::Answer, TransportError>) -> String {
    match result.expect_err("must be refused") {
        TransportError::Identity { reason, .. } => reason,
        other => panic!("not an identity error: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_cluster_is_not_talked_to() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let echo = Arc::new(Echo::default());
    let server = theirs.serve(Role::Metadata, echo.clone());
    let transport = ours.transport(Role::Mount);
    let started = Instant::now();
    let reason = identity_reason(transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await);
    assert!(reason.contains("another cluster") && reason.contains("[identity]"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_cluster_is_refused_and_both_sides_say_why() {
    let log = Log::capture();
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let echo = Arc::new(Echo::default());
    let server = ours.serve(Role::Metadata, echo.clone());
    // It trusts our authority, as an attacker would, but its certificate is of another one that
    // claims to be of our cluster.
    let forged = cairn_common::identity::ClusterAuthority::generate(ours.authority.cluster()).unwrap();
    for (authority, name) in [(&theirs.authority, "foreign"), (&forged, "forged")] {
        let files = authority.issue_into(theirs.folder.path(), Role::Mount, name).unwrap();
        std::fs::write(&files.ca, ours.authority.certificate_pem()).unwrap();
        let loaded = Identity::load(&files);
        if name == "foreign" {
            // Already the files do not fit, before anything is connected.
            let error = loaded.unwrap_err();
            assert!(
                matches!(&error, IdentityError::Mismatch { .. }) && error.to_string().contains("foreign.pem"),
                "{error}"
            );
            continue;
        }
        let transport = QuicTransport::new(&loaded.unwrap()).unwrap();
        let reason = identity_reason(transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await);
        assert!(reason.contains("certificate"), "{reason}");
        log.says("connection refused: its certificate is of another cluster's authority").await;
    }
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_certificate_is_refused() {
    let log = Log::capture();
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Metadata, echo.clone());
    let ca = CertificateDer::from_pem_slice(cluster.authority.certificate_pem().as_bytes()).unwrap();
    let tls = client_config_without_certificate(&ca).unwrap();
    let transport = QuicTransport::with_tls(cluster.authority.cluster(), tls, Tuning::default()).unwrap();
    for _ in 0..2 {
        let reason = identity_reason(transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await);
        assert!(reason.contains("demands a certificate"), "{reason}");
    }
    log.says("connection refused: it showed no certificate").await;
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_only_what_it_may() {
    let log = Log::capture();
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Metadata, echo.clone());
    let transport = cluster.transport(Role::Mount);
    for service in [Service::Raft, Service::ChunkControl, Service::Admin] {
        // With data, which the server does not read.
        let payload = vec![vec![0; 8 << 20].into()];
        let error = transport.call(server.local_address(), call(service, "", payload)).await.unwrap_err();
        let TransportError::Refused { error: ServiceError::Forbidden { reason }, .. } = &error else {
            panic!("{error}");
        };
        assert!(reason.contains("mount") && reason.contains(&format!("{service:?}")), "{reason}");
    }
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
    log.says("which may not use the service Raft").await;
    // The connection serves what is allowed.
    transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_role_is_not_talked_to() {
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let transport = cluster.transport(Role::Mount);
    // A mount's certificate does not make a server at all; a chunk server is no metadata server.
    for role in [Role::Chunk, Role::Mount] {
        let server = cluster.serve(role, echo.clone());
        let reason = identity_reason(transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await);
        assert!(reason.contains("role") || reason.contains("TLS"), "{reason}");
    }
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused() {
    let log = Log::capture();
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Metadata, echo.clone());
    let files = cluster.authority.issue_into(cluster.folder.path(), Role::Mount, "old").unwrap();
    let validity = Validity { from_s: -7200, until_s: -3600 };
    let expired = cluster.authority.issue_for(Role::Mount, "old", validity).unwrap();
    expired.write(&files.certificate, &files.key).unwrap();
    let identity = Identity::load(&files).unwrap();
    let transport = QuicTransport::new(&identity).unwrap();
    let reason = identity_reason(transport.call(server.local_address(), call(Service::Metadata, "", vec![])).await);
    assert!(reason.contains("expired") && reason.contains("clocks"), "{reason}");
    log.says("expired").await;

    // The other way round: a server's certificate has expired.
    let expired = cluster.authority.issue_for(Role::Metadata, "old", validity).unwrap();
    expired.write(&files.certificate, &files.key).unwrap();
    let old = QuicServer::serve(local(0), &Identity::load(&files).unwrap(), echo.clone()).unwrap();
    let transport = cluster.transport(Role::Mount);
    let reason = identity_reason(transport.call(old.local_address(), call(Service::Metadata, "", vec![])).await);
    assert!(reason.contains("expired"), "{reason}");
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[test]
fn files_that_do_not_fit_are_refused_with_their_names() {
    let cluster = Cluster::new();
    let files = cluster.authority.issue_into(cluster.folder.path(), Role::Chunk, "chunk1").unwrap();
    assert_eq!(Identity::load(&files).unwrap().peer().name, "chunk1");

    let mut wrong = files.clone();
    wrong.key = cluster.authority.issue_into(cluster.folder.path(), Role::Chunk, "chunk2").unwrap().key;
    let error = Identity::load(&wrong).unwrap_err().to_string();
    assert!(error.contains("chunk1.pem") && error.contains("key"), "{error}");

    wrong.key = files.ca.clone();
    let error = Identity::load(&wrong).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("private key"), "{error}");

    wrong.key = "/nonexistent/key".into();
    let error = Identity::load(&wrong).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/key") && error.contains("cairnctl"), "{error}");
}

#[test]
fn an_authority_is_written_loaded_and_issues_again() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    let (certificate, key) = (cluster.folder.path().join("ca.pem"), cluster.folder.path().join("ca.key"));
    cluster.authority.write(&certificate, &key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = cairn_common::identity::ClusterAuthority::load(&certificate, &key).unwrap();
    assert_eq!(loaded.cluster(), cluster.authority.cluster());
    let files = loaded.issue_into(cluster.folder.path(), Role::Admin, "root").unwrap();
    let identity = Identity::load(&files).unwrap();
    assert_eq!((identity.peer().role, identity.peer().cluster), (Role::Admin, loaded.cluster()));
}
