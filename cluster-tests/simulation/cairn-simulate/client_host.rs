//! A client: the real core of a mount (`Filesystem`) with the real clients of both services, and
//! workers that use it as programs do.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::{ChunkClient, ChunkClientSettings, MetadataClient, MetadataClientSettings, TableSource};
use cairn_common::protocol::metadata::SessionEvent;
use cairn_common::transport::Transport;
use cairn_mount::backend::{Backend, Cluster};
use cairn_mount::filesystem::Filesystem;
use cairn_mount::settings::MountSettings;
use tokio::sync::mpsc;

use crate::history::Life;
use crate::network::address_of;
use crate::planted::Planted;
use crate::worker::{Worker, Workload};

/// A call without an answer gives up after this; shorter than in production, so that runs end.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The client's task: opens a session, runs its workers, keeps the session until its runtime is
/// dropped. The metadata servers are the machines `0..metadata`.
pub(crate) async fn run(
    transport: Arc<dyn Transport>,
    life: Life,
    metadata: usize,
    workload: Arc<Workload>,
    seeds: Vec<u64>,
    planted: Option<Planted>,
) {
    let settings = MountSettings { call_timeout: CALL_TIMEOUT, ..MountSettings::default() };
    let servers: Vec<_> = (0..metadata).map(address_of).collect();
    let mut metadata_settings = MetadataClientSettings::new(servers, format!("client{}", life.client));
    metadata_settings.call_timeout = CALL_TIMEOUT;
    let (client, received) = loop {
        let (events, received) = mpsc::unbounded_channel();
        match MetadataClient::open(transport.clone(), metadata_settings.clone(), events).await {
            Ok(client) => break (client, received),
            Err(error) => tracing::info!(%error, "no session yet"),
        }
    };
    workload.session_opened(life, client.session());
    let chunk_settings = ChunkClientSettings { call_timeout: CALL_TIMEOUT, ..ChunkClientSettings::default() };
    let tables: Arc<dyn TableSource> = Arc::new(client.clone());
    let chunks = ChunkClient::new(transport, tables, chunk_settings);
    let mut fenced = client.fenced();
    let backend: Arc<dyn Backend> = Arc::new(Cluster::new(client, chunks));
    let received = match planted {
        Some(Planted::FlushAnsweredEarly) => answer_early(backend.clone(), received),
        _ => received,
    };
    let filesystem = Filesystem::start(backend, settings, received);
    for seed in seeds {
        let worker = Worker::new(filesystem.clone(), life, workload.clone(), seed);
        tokio::spawn(worker.run());
    }
    let _ = fenced.wait_for(|fenced| *fenced).await;
    workload.fenced(life);
    // Its programs still run into errors until somebody starts it anew.
    std::future::pending::<()>().await;
}

/// The planted bug: a flush is answered as soon as it is asked for.
fn answer_early(
    backend: Arc<dyn Backend>,
    mut received: mpsc::UnboundedReceiver<SessionEvent>,
) -> mpsc::UnboundedReceiver<SessionEvent> {
    let (events, forwarded) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            let SessionEvent::Flush { ticket, .. } = &event;
            // An answer that is lost is no planted bug; the real one follows.
            let _ = backend.flush_done(*ticket).await;
            if events.send(event).is_err() {
                return;
            }
        }
    });
    forwarded
}
