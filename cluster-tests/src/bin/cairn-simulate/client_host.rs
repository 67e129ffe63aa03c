//! A client: the real core of a mount (`Filesystem`) with the real clients of both services, and
//! programs that use it, through what a kernel believes or (every third mount) directly.

use std::sync::Arc;
use std::time::Duration;

use cairn_cluster_tests::checker::Life;
use cairn_common::client::{
    ChunkClient, ChunkClientSettings, ClientEvent, MetadataClient, MetadataClientSettings, TableSource,
};
use cairn_common::ids::RequestId;
use cairn_common::protocol::metadata::{Mutation, SessionEvent};
use cairn_common::transport::Transport;
use cairn_mount::backend::{Backend, Cluster};
use cairn_mount::filesystem::Filesystem;
use cairn_mount::settings::MountSettings;
use tokio::sync::mpsc;

use crate::clock::MachineClock;
use crate::inode_locks::InodeLocks;
use crate::network::address_of;
use crate::planted::Planted;
use crate::programs::Mounted;
use crate::sim_kernel::SimKernel;
use crate::worker::{Worker, Workload};

/// A call without an answer gives up after this; shorter than in production, so that runs end.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How much longer than it was told a kernel believes, if that is planted.
const TOO_LONG: Duration = Duration::from_secs(3);

/// The client's task: opens a session, runs its programs, keeps the session until its runtime is
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
    let clock = Arc::new(MachineClock);
    let (client, received) = loop {
        let (events, received) = mpsc::unbounded_channel();
        match MetadataClient::open(transport.clone(), metadata_settings.clone(), clock.clone(), events).await {
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
        Some(Planted::RecallAnsweredEarly) => answer_early(backend.clone(), received),
        _ => received,
    };
    let filesystem = Filesystem::start(backend, settings, received);
    let longer = if planted == Some(Planted::TtlLongerThanLease) { TOO_LONG } else { Duration::ZERO };
    let has_kernel = !seeds.iter().fold(0_u64, |sum, seed| sum ^ seed).is_multiple_of(3);
    let kernel = has_kernel.then(|| SimKernel::new(longer));
    if let Some(kernel) = &kernel {
        filesystem.set_kernel(kernel.clone());
    }
    let locks = Arc::new(InodeLocks::default());
    for seed in seeds {
        let mounted = Mounted { filesystem: filesystem.clone(), kernel: kernel.clone(), locks: locks.clone() };
        tokio::spawn(Worker::new(mounted, life, workload.clone(), seed).run());
    }
    let _ = fenced.wait_for(|fenced| *fenced).await;
    workload.fenced(life);
    // Its programs still run into errors until somebody starts it anew.
    std::future::pending::<()>().await;
}

/// The planted bug: a recall is answered, and an exclusive lease given up, as soon as it is asked for.
fn answer_early(
    backend: Arc<dyn Backend>,
    mut received: mpsc::UnboundedReceiver<ClientEvent>,
) -> mpsc::UnboundedReceiver<ClientEvent> {
    let (events, forwarded) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            if let ClientEvent::Asked(SessionEvent::Recall { inode, ticket, exclusive, .. }) = &event {
                if *exclusive {
                    let give_up = Mutation::GiveUpExclusive { inodes: vec![*inode] };
                    drop(backend.submit(RequestId::random(), give_up, Vec::new()).await);
                }
                // An answer that is lost is no planted bug; the real one follows.
                drop(backend.recall_done(*ticket, false).await);
            }
            if events.send(event).is_err() {
                return;
            }
        }
    });
    forwarded
}
