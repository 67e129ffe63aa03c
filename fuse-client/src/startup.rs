//! Brings a mount up and takes it down: identity, session, core, kernel, in this order, and back.

use std::path::Path;
use std::sync::Arc;

use cairn_common::client::{
    ChunkClient, ChunkClientSettings, ClientError, MetadataClient, MetadataClientSettings, TableSource,
};
use cairn_common::clock::SystemClock;
use cairn_common::config::NodeConfig;
use cairn_common::identity::{Identity, IdentityError};
use cairn_common::telemetry::metric_names::MOUNT_DIRTY_BYTES;
use cairn_common::transport::Transport;
use cairn_common::transport::quic::{QuicError, QuicTransport};
use tokio::sync::mpsc;

use crate::backend::{Backend, Cluster};
use crate::filesystem::Filesystem;
use crate::settings::MountSettings;

/// Why a mount does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network.
    #[error(transparent)]
    Network(#[from] QuicError),
    /// The cluster.
    #[error("no session with the cluster at {servers}: {error}")]
    Session {
        /// Who was asked.
        servers: String,
        /// What came back.
        error: ClientError,
    },
}

/// Opens a session and starts the core on it. Must run on the runtime that will serve the mount.
pub async fn connect(
    config: &NodeConfig,
    mount_point: &Path,
    settings: MountSettings,
) -> Result<Arc<Filesystem>, StartError> {
    let identity = Identity::load(&config.identity)?;
    let transport: Arc<dyn Transport> = Arc::new(QuicTransport::new(&identity)?);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let client = format!("{host}:{} ({})", mount_point.display(), config.name);
    let mut metadata_settings = MetadataClientSettings::new(config.metadata.clone(), client);
    metadata_settings.call_timeout = settings.call_timeout;
    let (events, received) = mpsc::unbounded_channel();
    let metadata = MetadataClient::open(transport.clone(), metadata_settings, Arc::new(SystemClock), events)
        .await
        .map_err(|error| {
            let servers = config.metadata.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            StartError::Session { servers, error }
        })?;
    tracing::info!(session = %metadata.session(), "session opened");
    let chunk_settings = ChunkClientSettings { call_timeout: settings.call_timeout, ..ChunkClientSettings::default() };
    let tables: Arc<dyn TableSource> = Arc::new(metadata.clone());
    let chunks = ChunkClient::new(transport, tables, chunk_settings);
    let backend: Arc<dyn Backend> = Arc::new(Cluster::new(metadata, chunks));
    let filesystem = Filesystem::start(backend, settings, received);
    let watched = Arc::downgrade(&filesystem);
    tokio::spawn(async move {
        while let Some(filesystem) = watched.upgrade() {
            metrics::gauge!(MOUNT_DIRTY_BYTES).set(filesystem.dirty_bytes() as f64);
            drop(filesystem);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    });
    Ok(filesystem)
}
