//! Brings a mount up and takes it down: identity, session, core, kernel, in this order, and back.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_common::client::{
    ChunkClient, ChunkClientSettings, ClientError, MetadataClient, MetadataClientSettings, TableSource,
};
use cairn_common::clock::SystemClock;
use cairn_common::config::NodeConfig;
use cairn_common::identity::{Identity, IdentityError};
use cairn_common::telemetry::metric_names::{
    MOUNT_CACHE_HITS, MOUNT_CACHE_MISSES, MOUNT_DIRTY_BYTES, MOUNT_LEASES, MOUNT_OPEN_FILES, MOUNT_WRITE_GRANT_BYTES,
};
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
    tokio::spawn(publish_metrics(Arc::downgrade(&filesystem)));
    Ok(filesystem)
}

/// Tells the recorder what the mount counts by itself, every second, while it lasts.
async fn publish_metrics(filesystem: Weak<Filesystem>) {
    while let Some(filesystem) = filesystem.upgrade() {
        let (hits, misses) = filesystem.hits_and_misses();
        metrics::gauge!(MOUNT_DIRTY_BYTES).set(filesystem.dirty_bytes() as f64);
        metrics::gauge!(MOUNT_WRITE_GRANT_BYTES).set(filesystem.granted_bytes() as f64);
        metrics::gauge!(MOUNT_OPEN_FILES).set(filesystem.open_handles() as f64);
        metrics::gauge!(MOUNT_LEASES).set(filesystem.leases_held() as f64);
        metrics::counter!(MOUNT_CACHE_HITS).absolute(hits);
        metrics::counter!(MOUNT_CACHE_MISSES).absolute(misses);
        drop(filesystem);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
