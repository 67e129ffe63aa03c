//! Answers requests of the service `Chunk`. Requests go service → block store → disk; what a request
//! may ask for is bounded here, what it is answered is the block store's word.

mod get;
mod inventory;
mod put;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_common::limits::MAX_BLOCKS_PER_REQUEST;
use cairn_common::protocol::chunk::ChunkRequest;
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::disk_set::DiskSet;
use crate::replicate::Traffic;
use crate::report::TableKeeper;

/// Requests that read from disks at once; others wait.
const PARALLEL_READS: usize = 128;

/// The handler of the chunk server.
pub struct ChunkService {
    disks: Arc<DiskSet>,
    tables: Arc<TableKeeper>,
    traffic: Arc<Traffic>,
    reads: Semaphore,
}

impl ChunkService {
    /// Serves these disks.
    pub fn new(disks: Arc<DiskSet>, tables: Arc<TableKeeper>, traffic: Arc<Traffic>) -> Self {
        Self { disks, tables, traffic, reads: Semaphore::new(PARALLEL_READS) }
    }

    async fn answer(&self, peer: &PeerIdentity, incoming: Incoming) -> Result<Answer, ServiceError> {
        let _user = (peer.role == Role::Mount).then(|| self.traffic.begin());
        match incoming.message()? {
            ChunkRequest::Put { table, blocks } => {
                check_count(blocks.len())?;
                self.put(table, blocks, incoming.payload).await
            }
            ChunkRequest::Get { ranges } => {
                check_count(ranges.len())?;
                self.get(peer.role, ranges).await
            }
            ChunkRequest::Has { disk, blocks } => {
                check_count(blocks.len())?;
                self.has(disk, blocks).await
            }
            ChunkRequest::List { disk, partition, partitions, after, limit } => {
                self.list(disk, partition, partitions, after, limit).await
            }
        }
    }
}

#[async_trait]
impl RequestHandler for ChunkService {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        if incoming.service != Service::Chunk {
            return Err(ServiceError::Invalid { reason: "this is a chunk server".to_owned() });
        }
        let (request, bound) = (incoming.request, incoming.timeout);
        let result = match tokio::time::timeout(bound, self.answer(&peer, incoming)).await {
            Ok(result) => result,
            Err(_) => Err(ServiceError::Unavailable {
                reason: format!("the disks of this chunk server took longer than {bound:?}"),
            }),
        };
        if let Err(error) = &result {
            tracing::warn!(%request, peer = %peer.name, %error, "request refused");
        }
        result
    }
}

fn check_count(count: usize) -> Result<(), ServiceError> {
    if count > MAX_BLOCKS_PER_REQUEST {
        return Err(ServiceError::Invalid {
            reason: format!("{count} blocks in a request, at most {MAX_BLOCKS_PER_REQUEST}"),
        });
    }
    Ok(())
}

/// Work on a thread that may block failed.
fn ending(error: JoinError) -> ServiceError {
    ServiceError::Internal { reason: format!("a worker of the chunk server failed: {error}") }
}
