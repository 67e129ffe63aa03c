//! Blocks on chunk servers: [`ChunkClient::put`] is done when a block is on stable storage on a write
//! quorum of its owners ([`super::block_write`]), [`ChunkClient::read`] gives only verified bytes
//! ([`super::block_read`]). It keeps no data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::error::ClientError;
use super::put_queue::PutQueues;
use super::server_health::ServerHealth;
use crate::block::BlockId;
use crate::ids::{DiskId, TableEpoch};
use crate::limits;
use crate::partition_table::PartitionTable;
use crate::transport::Transport;

/// Damage that was reported already is not reported again, up to so many.
const REPORTED_MAX: usize = 4096;

/// Where the partition table comes from, and where damage is reported to: the metadata group.
#[async_trait]
pub trait TableSource: Send + Sync + 'static {
    /// The newest table that is here.
    fn table(&self) -> Arc<PartitionTable>;
    /// A table newer than `known` if there is one.
    async fn refresh(&self, known: TableEpoch) -> Result<Arc<PartitionTable>, ClientError>;
    /// Tells of replicas that gave wrong bytes or none.
    async fn report_damage(&self, damaged: Vec<(BlockId, DiskId)>) -> Result<(), ClientError>;
}

/// Bounds of a chunk client.
#[derive(Clone, Debug)]
pub struct ChunkClientSettings {
    /// A whole put or read.
    pub call_timeout: Duration,
    /// One attempt at one server to make blocks durable: disks under load take their time.
    pub put_timeout: Duration,
    /// One attempt at one server to read.
    pub get_timeout: Duration,
    /// How long a put that has its quorum waits for the other owners.
    pub straggler_grace: Duration,
    /// A read that has no answer after this long asks a second server.
    pub hedge_after: Duration,
}

impl Default for ChunkClientSettings {
    fn default() -> Self {
        Self {
            call_timeout: limits::CALL_TIMEOUT,
            put_timeout: Duration::from_secs(8),
            get_timeout: limits::ATTEMPT_TIMEOUT,
            straggler_grace: Duration::from_millis(250),
            hedge_after: Duration::from_millis(100),
        }
    }
}

/// Bytes of a block that were checked against its name.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    /// Where they begin in the block; a multiple of `VERIFY_GROUP_BYTES`.
    pub offset: u32,
    /// The bytes: whole verification groups, or to the end of the block.
    pub bytes: Bytes,
}

/// Talks to chunk servers. Cheap to clone.
#[derive(Clone)]
pub struct ChunkClient {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) tables: Arc<dyn TableSource>,
    pub(super) settings: ChunkClientSettings,
    pub(super) health: Arc<ServerHealth>,
    pub(super) puts: Arc<PutQueues>,
    reported: Mutex<HashSet<(BlockId, DiskId)>>,
}

impl ChunkClient {
    /// A client that places blocks by the tables of `tables`.
    pub fn new(transport: Arc<dyn Transport>, tables: Arc<dyn TableSource>, settings: ChunkClientSettings) -> Self {
        let health = Arc::new(ServerHealth::default());
        let puts = PutQueues::new(transport.clone(), health.clone(), settings.put_timeout);
        let reported = Mutex::new(HashSet::new());
        Self { shared: Arc::new(Shared { transport, tables, settings, health, puts, reported }) }
    }
}

impl Shared {
    /// Reports a bad replica in the background, each once.
    pub(super) fn report_damage(self: &Arc<Self>, block: BlockId, disk: DiskId) {
        {
            let mut reported = self.reported.lock();
            if reported.len() >= REPORTED_MAX {
                reported.clear();
            }
            if !reported.insert((block, disk)) {
                return;
            }
        }
        let shared = self.clone();
        tokio::spawn(async move {
            if let Err(error) = shared.tables.report_damage(vec![(block, disk)]).await {
                tracing::warn!(%block, %disk, %error, "damage could not be reported");
                shared.reported.lock().remove(&(block, disk));
            }
        });
    }
}
