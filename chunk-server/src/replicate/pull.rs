//! One repair task: look at what is here, ask the sources one after another, check the bytes against
//! the block's name, store them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::ids::{DiskId, RequestId};
use cairn_common::protocol::Service;
use cairn_common::protocol::chunk::{ChunkReply, ChunkRequest, Encoding, GetRange, GotRange, PutOutcome};
use cairn_common::protocol::chunk_control::RepairTask;
use cairn_common::transport::request;

use super::Replicator;
use crate::block_store::journal::News;
use crate::block_store::{DiskStore, PreparedBlock, ReadOutcome};

/// One source has this long for a whole block.
const SOURCE_BOUND: Duration = Duration::from_secs(10);

/// A repair task that cannot be carried out now.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// The task is for a disk that this server cannot use.
    #[error("disk {0} is not here, or failed")]
    NoDisk(DiskId),
    /// No source gave the block's bytes.
    #[error("no source gave the block: {0}")]
    NoSource(String),
    /// The disk did not take it.
    #[error("the disk did not store it: {0:?}")]
    NotStored(PutOutcome),
    /// A thread of the runtime ended.
    #[error("the server is ending")]
    Ending,
}

impl Replicator {
    /// Makes the block whole and durable on the disk. True if it had to be copied.
    pub(super) async fn pull(&self, task: &RepairTask) -> Result<bool, PullError> {
        let store = self.disks.store(task.disk).ok_or(PullError::NoDisk(task.disk))?;
        if store.failure().is_some() {
            return Err(PullError::NoDisk(task.disk));
        }
        if is_whole(store.clone(), task.block).await? {
            store.journal().add(task.block, News::Repaired);
            return Ok(false);
        }
        let mut tried = Vec::new();
        for source in task.sources.iter().filter(|source| **source != task.disk) {
            match self.fetch(task.block, *source).await {
                Ok(prepared) => {
                    // No source tells the encoding; there is one only.
                    return match store.put(vec![prepared]).await.first() {
                        Some(PutOutcome::Durable) => {
                            store.journal().add(task.block, News::Repaired);
                            tracing::info!(block = %task.block, disk = %task.disk, from = %source, "repaired");
                            Ok(true)
                        }
                        outcome => Err(PullError::NotStored(outcome.copied().unwrap_or(PutOutcome::NoDisk))),
                    };
                }
                Err(reason) => tried.push(format!("disk {source}: {reason}")),
            }
        }
        Err(PullError::NoSource(if tried.is_empty() { "none is named".to_owned() } else { tried.join("; ") }))
    }

    async fn fetch(&self, block: BlockId, disk: DiskId) -> Result<PreparedBlock, String> {
        let table = self.tables.current();
        let location = table.disks.get(&disk).ok_or("not in the partition table")?;
        let message = ChunkRequest::Get { ranges: vec![GetRange { block, disk, offset: 0, length: u32::MAX }] };
        let answer: (ChunkReply, Bytes) = request(
            &*self.transport,
            location.address,
            Service::Chunk,
            RequestId::random(),
            SOURCE_BOUND,
            &message,
            Vec::new(),
        )
        .await
        .map_err(|error| error.to_string())?;
        match answer {
            (ChunkReply::Got(got), data) => match got.as_slice() {
                [GotRange::Found { data_offset: 0, .. }] => {
                    let prepare = move || PreparedBlock::check(block, Encoding::Plain, data.len() as u32, data);
                    cairn_common::blocking::run(prepare)
                        .await
                        .map_err(|_| "the server is ending")?
                        .ok_or_else(|| format!("{} ({}) sent other bytes", location.name, location.address))
                }
                other => Err(format!("{} ({}) answered {other:?}", location.name, location.address)),
            },
            _ => Err(format!("{} ({}) answered something else", location.name, location.address)),
        }
    }
}

/// Whether the block is here already, read and verified as a whole.
async fn is_whole(store: Arc<DiskStore>, block: BlockId) -> Result<bool, PullError> {
    let look = move || store.has(&block) && matches!(store.read(&block, 0, u32::MAX), ReadOutcome::Found { .. });
    cairn_common::blocking::run(look).await.map_err(|_| PullError::Ending)
}
