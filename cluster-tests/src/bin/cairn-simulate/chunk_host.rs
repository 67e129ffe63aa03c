//! What a chunk server's machine keeps over crashes, and how the server is started on it: the real
//! service, block store, reporter and repair over a disk in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cairn_chunk::block_store::index::Index;
use cairn_chunk::block_store::options::Threads;
use cairn_chunk::block_store::{DiskStore, StoreOptions};
use cairn_chunk::disk_set::DiskSet;
use cairn_chunk::replicate::{Replicator, Traffic};
use cairn_chunk::report::{Introduction, MetadataLeader, Reporter, TableKeeper};
use cairn_chunk::service::ChunkService;
use cairn_common::ids::{DiskUuid, Incarnation};
use cairn_common::protocol::ServiceError;
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler, Transport};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::disk::{SimDisk, SimIndex};
use crate::network::{Network, Node, address_of};

/// Small, so that there are several.
const SEGMENT_BYTES: u64 = 1 << 20;

/// One machine.
pub(crate) struct ChunkHost {
    node: Node,
    pub(crate) disk: SimDisk,
    index: SimIndex,
    dice: Arc<Mutex<StdRng>>,
}

impl ChunkHost {
    pub(crate) fn new(node: Node, dice: StdRng) -> Self {
        Self { node, disk: SimDisk::default(), index: SimIndex::default(), dice: Arc::new(Mutex::new(dice)) }
    }

    /// The process is about to end: nothing that it still does reaches the disk.
    pub(crate) fn detach(&self) {
        self.disk.detach();
        self.index.crash();
    }

    /// Power loss, after the process is gone.
    pub(crate) fn lose_power(&self, dice: &mut StdRng) {
        self.disk.lose_power(dice);
    }

    /// The server's task: it runs until its runtime is dropped. The metadata servers are the machines
    /// `0..metadata`.
    pub(crate) fn start(
        &self,
        network: Arc<Network>,
        transport: Arc<dyn Transport>,
        life: u64,
        metadata: usize,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (node, disk, index, dice) = (self.node, self.disk.open(), self.index.open(), self.dice.clone());
        async move {
            let uuid = DiskUuid(node as u128 + 2001);
            let options =
                StoreOptions { segment_bytes: SEGMENT_BYTES, threads: Threads::Callers, ..StoreOptions::default() };
            let index = Index::open_on(index, uuid).expect("the index opens");
            let store = DiskStore::open_on(disk, index, uuid, options).expect("the disk opens");
            let disks = Arc::new(DiskSet::of_stores(vec![Arc::new(store)]));
            let servers: Vec<_> = (0..metadata).map(address_of).collect();
            let leader = Arc::new(MetadataLeader::new(transport.clone(), &servers).expect("there are servers"));
            let tables = Arc::new(TableKeeper::new(leader.clone()));
            let traffic = Arc::new(Traffic::default());
            let replicator = Replicator::new(transport, disks.clone(), tables.clone(), traffic.clone());
            let service = Arc::new(ChunkService::new(disks.clone(), tables.clone(), traffic));
            let name = format!("chunk{node}");
            let introduction = Introduction {
                incarnation: Incarnation(node as u128 + 3001),
                name: name.clone(),
                address: address_of(node),
                failure_domain: name,
            };
            let reporter = Reporter::new(introduction, leader, disks, tables, replicator);
            network.serve(node, life, Arc::new(SlowDisk { service, dice }));
            reporter.run().await;
        }
    }
}

/// A disk takes its time: requests wait before they are carried out, and before they are answered.
struct SlowDisk {
    service: Arc<ChunkService>,
    dice: Arc<Mutex<StdRng>>,
}

impl SlowDisk {
    async fn wait(&self) {
        let micros = {
            let mut dice = self.dice.lock();
            if dice.random_bool(0.01) { dice.random_range(5_000..80_000) } else { dice.random_range(50..2_000) }
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

#[async_trait]
impl RequestHandler for SlowDisk {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        self.wait().await;
        let answer = self.service.handle(peer, incoming).await;
        self.wait().await;
        answer
    }
}
