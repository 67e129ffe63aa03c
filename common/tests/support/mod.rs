//! What the transport tests share: a cluster's authority in a temporary folder, identities, and a
//! handler that does what the request says.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::identity::{ClusterAuthority, Identity};
use cairn_common::ids::{ClusterId, RequestId};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicServerHandle, QuicTransport};
use cairn_common::transport::{Answer, Call, Incoming, PeerIdentity, RequestHandler};
use tempfile::TempDir;

/// An authority and where its identities are written.
pub struct Cluster {
    pub authority: ClusterAuthority,
    pub folder: TempDir,
}

impl Cluster {
    pub fn new() -> Self {
        let authority = ClusterAuthority::generate(ClusterId::random()).unwrap();
        Self { authority, folder: tempfile::tempdir().unwrap() }
    }

    pub fn identity(&self, role: Role, name: &str) -> Identity {
        Identity::load(&self.authority.issue_into(self.folder.path(), role, name).unwrap()).unwrap()
    }

    pub fn serve(&self, role: Role, handler: Arc<dyn RequestHandler>) -> QuicServerHandle {
        QuicServer::serve(local(0), &self.identity(role, "server"), handler).unwrap()
    }

    pub fn transport(&self, role: Role) -> QuicTransport {
        QuicTransport::new(&self.identity(role, "client")).unwrap()
    }
}

pub fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Answers with the same message and payload; `sleep:<ms>` waits first, `fail` and `panic` do that.
#[derive(Default)]
pub struct Echo {
    pub started: AtomicUsize,
    pub finished: AtomicUsize,
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, _: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let word = String::from_utf8_lossy(&incoming.header).into_owned();
        if let Some(ms) = word.strip_prefix("sleep:") {
            tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        match word.as_str() {
            "fail" => Err(ServiceError::NoSpace { reason: "disk1 is full".to_owned() }),
            "panic" => panic!("as the request wished"),
            _ => Ok(Answer { header: incoming.header, payload: vec![incoming.payload] }),
        }
    }
}

pub fn call(service: Service, word: &str, payload: Vec<Bytes>) -> Call {
    Call {
        service,
        request: RequestId::random(),
        timeout: Duration::from_secs(5),
        header: Bytes::copy_from_slice(word.as_bytes()),
        payload,
    }
}

/// Waits until the condition holds; fails the test after five seconds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
