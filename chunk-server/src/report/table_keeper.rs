//! The partition table that this server has, and how it gets a newer one. A server without a table
//! knows nothing and judges nothing.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::table_cache::TableCache;
use cairn_common::ids::TableEpoch;
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest};
use tokio::sync::Mutex;

use super::leader::MetadataLeader;

/// A request that was placed by a newer table waits for it this long, then goes on without.
const FETCH_BOUND: Duration = Duration::from_secs(1);

/// Keeps the newest table.
pub struct TableKeeper {
    leader: Arc<MetadataLeader>,
    cache: TableCache,
    /// One fetch at a time; who waits looks again first.
    fetching: Mutex<()>,
}

impl TableKeeper {
    /// Knows no table yet.
    pub fn new(leader: Arc<MetadataLeader>) -> Self {
        Self { leader, cache: TableCache::default(), fetching: Mutex::new(()) }
    }

    /// The newest table known; without rows before the first one came.
    pub fn current(&self) -> Arc<PartitionTable> {
        self.cache.current()
    }

    /// A table that is no older than `epoch`, if it can be had soon; else the newest known.
    pub async fn at_least(&self, epoch: TableEpoch) -> Arc<PartitionTable> {
        if self.current().epoch < epoch {
            // Without it the caller goes on with what there is.
            let _ = tokio::time::timeout(FETCH_BOUND, self.fetch(epoch)).await;
        }
        self.current()
    }

    async fn fetch(&self, epoch: TableEpoch) {
        let _turn = self.fetching.lock().await;
        let known = self.current().epoch;
        if known >= epoch {
            return;
        }
        match self.leader.call(&ChunkControlRequest::PartitionTable { known }, FETCH_BOUND).await {
            Ok(ChunkControlReply::Table(Some(table))) if usable(&table) => {
                tracing::info!(epoch = %table.epoch, rows = table.rows.len(), "new partition table");
                self.cache.install(table);
            }
            Ok(ChunkControlReply::Table(None)) => {}
            Ok(other) => tracing::error!(answer = ?short(&other), "unexpected answer to a request for the table"),
            Err(error) => tracing::warn!(%error, "cannot fetch the partition table"),
        }
    }
}

/// Looking a block up divides by the number of rows, which must be a power of two.
fn usable(table: &PartitionTable) -> bool {
    table.rows.is_empty() || table.rows.len().is_power_of_two()
}

fn short(reply: &ChunkControlReply) -> &'static str {
    match reply {
        ChunkControlReply::Registered { .. } => "Registered",
        ChunkControlReply::Heard { .. } => "Heard",
        ChunkControlReply::Table(_) => "Table that cannot be used",
    }
}
