//! Put: checks that the bytes are what they are called and that this server should have them, then
//! hands them to the disks. Durability is the block store's: `Durable` is its word.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_common::ids::{DiskId, TableEpoch};
use cairn_common::limits::MAX_BLOCK_BYTES;
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::chunk::{ChunkReply, PutBlock, PutOutcome};
use cairn_common::telemetry::metric_names;
use cairn_common::transport::Answer;
use futures::future::join_all;

use super::{ChunkService, ending};
use crate::block_store::PreparedBlock;

/// Requests with no more bytes are hashed where they are; hopping to another thread costs more.
const HASH_INLINE_BYTES: usize = 64 << 10;

impl ChunkService {
    pub(super) async fn put(
        &self,
        epoch: TableEpoch,
        blocks: Vec<PutBlock>,
        payload: Bytes,
    ) -> Result<Answer, ServiceError> {
        let pieces = cut(&blocks, &payload)?;
        let table = self.tables.at_least(epoch).await;
        let mut outcomes = vec![PutOutcome::NoDisk; blocks.len()];
        let mut accepted = Vec::new();
        for (index, (block, data)) in blocks.into_iter().zip(pieces).enumerate() {
            if self.disks.store(block.disk).is_none() {
                continue;
            }
            if table.epoch >= epoch && !owns(&table, &block) {
                outcomes[index] = PutOutcome::NotOwner;
            } else {
                accepted.push((index, block, data));
            }
        }
        let prepared = if payload.len() <= HASH_INLINE_BYTES {
            prepare(accepted)
        } else {
            cairn_common::blocking::run(move || prepare(accepted)).await.map_err(ending)?
        };
        let mut by_disk: BTreeMap<DiskId, (Vec<usize>, Vec<PreparedBlock>)> = BTreeMap::new();
        for (index, disk, block) in prepared {
            match block {
                Some(block) => {
                    let (indices, blocks) = by_disk.entry(disk).or_default();
                    indices.push(index);
                    blocks.push(block);
                }
                None => outcomes[index] = PutOutcome::HashMismatch,
            }
        }
        let puts = by_disk.into_iter().filter_map(|(disk, (indices, blocks))| {
            let store = self.disks.store(disk)?;
            Some(async move { (indices, store.put(blocks).await) })
        });
        for (indices, stored) in join_all(puts).await {
            for (index, outcome) in indices.into_iter().zip(stored) {
                outcomes[index] = outcome;
            }
        }
        let refused = outcomes.iter().filter(|outcome| **outcome != PutOutcome::Durable).count();
        if refused > 0 {
            metrics::counter!(metric_names::CHUNK_PUTS, "outcome" => "refused").increment(refused as u64);
        }
        Answer::message(&ChunkReply::Put(outcomes))
    }
}

/// The bytes of each block; the lengths must fill the payload exactly.
fn cut(blocks: &[PutBlock], payload: &Bytes) -> Result<Vec<Bytes>, ServiceError> {
    let mut pieces = Vec::with_capacity(blocks.len());
    let mut at = 0;
    for block in blocks {
        let length = block.stored_bytes as usize;
        let end = at + length;
        if length == 0 || length > MAX_BLOCK_BYTES || end > payload.len() {
            return Err(ServiceError::Invalid {
                reason: format!("block {} is said to have {length} bytes, which cannot be", block.block),
            });
        }
        pieces.push(payload.slice(at..end));
        at = end;
    }
    if at != payload.len() {
        return Err(ServiceError::Invalid {
            reason: format!("the blocks have {at} bytes and the payload {}", payload.len()),
        });
    }
    Ok(pieces)
}

/// Whether the disk should have the block by this table. A table that does not say has no objection.
pub(super) fn owns(table: &PartitionTable, block: &PutBlock) -> bool {
    if table.pool != block.block.pool {
        return true;
    }
    table.row_of(&block.block).is_none_or(|row| row.current.contains(&block.disk) || row.next.contains(&block.disk))
}

fn prepare(accepted: Vec<(usize, PutBlock, Bytes)>) -> Vec<(usize, DiskId, Option<PreparedBlock>)> {
    accepted
        .into_iter()
        .map(|(index, put, data)| {
            let block = PreparedBlock::check(put.block, put.encoding, put.logical_bytes, data);
            (index, put.disk, block.map(|block| block.using_reserve(put.reserve)))
        })
        .collect()
}
