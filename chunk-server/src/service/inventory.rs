//! Has and list: what a disk holds, durable and whole as far as is known.

use cairn_common::block::BlockId;
use cairn_common::ids::{DiskId, PartitionId};
use cairn_common::limits::MAX_BLOCKS_PER_REQUEST;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::chunk::ChunkReply;
use cairn_common::transport::Answer;

use super::{ChunkService, ending};

impl ChunkService {
    /// A disk that is not here has nothing.
    pub(super) async fn has(&self, disk: DiskId, blocks: Vec<BlockId>) -> Result<Answer, ServiceError> {
        let held = match self.disks.store(disk) {
            None => vec![false; blocks.len()],
            Some(store) => {
                let look = move || blocks.iter().map(|block| store.has(block)).collect();
                cairn_common::blocking::run(look).await.map_err(ending)?
            }
        };
        Answer::message(&ChunkReply::Has(held))
    }

    /// Unlike `has` an error where the disk is not here: an empty list would say that nothing is left.
    pub(super) async fn list(
        &self,
        disk: DiskId,
        partition: PartitionId,
        partitions: u32,
        after: Option<BlockId>,
        limit: u32,
    ) -> Result<Answer, ServiceError> {
        if !partitions.is_power_of_two() || partition.0 >= partitions {
            return Err(ServiceError::Invalid { reason: format!("there is no partition {partition} of {partitions}") });
        }
        let limit = (limit as usize).clamp(1, MAX_BLOCKS_PER_REQUEST);
        let store = self
            .disks
            .store(disk)
            .filter(|store| store.failure().is_none())
            .ok_or_else(|| ServiceError::Internal { reason: format!("disk {disk} is not here, or failed") })?;
        let list = move || store.list(partition, partitions, after.as_ref(), limit);
        let (blocks, end) = cairn_common::blocking::run(list)
            .await
            .map_err(ending)?
            .map_err(|error| ServiceError::Internal { reason: error.to_string() })?;
        Answer::message(&ChunkReply::Listed { blocks, end })
    }
}
