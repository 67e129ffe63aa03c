//! A running chunk server, put together from its parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::identity::Identity;
use cairn_common::ids::Incarnation;
use cairn_common::transport::Transport;
use cairn_common::transport::quic::{QuicError, QuicServer, QuicServerHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::disk_set::DiskSet;
use crate::replicate::{Replicator, Traffic};
use crate::report::leader::LeaderError;
use crate::report::{Introduction, MetadataLeader, Reporter, TableKeeper};
use crate::service::ChunkService;

/// Requests under way get this long when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What a server is started with.
pub struct ServerSettings {
    /// Address to listen on; others reach the server there, too.
    pub listen: SocketAddr,
    /// The metadata servers.
    pub metadata: Vec<SocketAddr>,
    /// What fails together with this server.
    pub failure_domain: String,
    /// The life of the data folder.
    pub incarnation: Incarnation,
}

/// A server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The network end cannot be made.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// No metadata servers.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Others could not reach the server.
    #[error("`listen` is {0}, where no other server can reach this one: write the address of this machine")]
    Unreachable(SocketAddr),
}

/// A server that serves and reports until it is stopped.
pub struct ChunkServer {
    quic: QuicServerHandle,
    reporter: JoinHandle<()>,
    registered: watch::Receiver<bool>,
}

impl ChunkServer {
    /// Starts serving and reporting; must be called inside a tokio runtime.
    pub fn start(
        identity: &Identity,
        transport: Arc<dyn Transport>,
        disks: Arc<DiskSet>,
        settings: ServerSettings,
    ) -> Result<Self, ServerError> {
        if settings.listen.ip().is_unspecified() {
            return Err(ServerError::Unreachable(settings.listen));
        }
        let leader = Arc::new(MetadataLeader::new(transport.clone(), &settings.metadata)?);
        let tables = Arc::new(TableKeeper::new(leader.clone()));
        let traffic = Arc::new(Traffic::default());
        let replicator = Replicator::new(transport, disks.clone(), tables.clone(), traffic.clone());
        let service = Arc::new(ChunkService::new(disks.clone(), tables.clone(), traffic));
        let quic = QuicServer::serve(settings.listen, identity, service)?;
        let introduction = Introduction {
            incarnation: settings.incarnation,
            name: identity.peer().name.clone(),
            address: quic.local_address(),
            failure_domain: settings.failure_domain,
        };
        let reporter = Reporter::new(introduction, leader, disks, tables, replicator);
        let registered = reporter.registered();
        Ok(Self { quic, reporter: tokio::spawn(reporter.run()), registered })
    }

    /// Where it listens, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.quic.local_address()
    }

    /// Turns true when the cluster knows the server.
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.clone()
    }

    /// Takes no more requests and answers those under way.
    pub async fn stop(self) {
        self.reporter.abort();
        self.quic.shutdown(STOP_GRACE).await;
    }
}
