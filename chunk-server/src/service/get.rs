//! Get: ranges of blocks with their proofs. What the block store could not verify is never sent.

use std::sync::Arc;

use bytes::Bytes;
use cairn_common::ids::DiskId;
use cairn_common::limits::MAX_PAYLOAD_BYTES;
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::chunk::{ChunkReply, GetRange, GotRange};
use cairn_common::protocol::{Role, ServiceError};
use cairn_common::telemetry::metric_names;
use cairn_common::transport::Answer;

use super::{ChunkService, ending};
use crate::block_store::journal::News;
use crate::block_store::{DiskStore, ReadOutcome};

impl ChunkService {
    pub(super) async fn get(&self, role: Role, ranges: Vec<GetRange>) -> Result<Answer, ServiceError> {
        let stores: Vec<_> = ranges.iter().map(|range| self.disks.store(range.disk)).collect();
        // The semaphore is never closed.
        let _turn = self.reads.acquire().await.map_err(|error| ServiceError::Internal { reason: error.to_string() })?;
        let table = self.tables.current();
        cairn_common::blocking::run(move || read(role, &table, &ranges, &stores)).await.map_err(ending)?
    }
}

fn read(
    role: Role,
    table: &PartitionTable,
    ranges: &[GetRange],
    stores: &[Option<Arc<DiskStore>>],
) -> Result<Answer, ServiceError> {
    let mut got = Vec::with_capacity(ranges.len());
    let mut payload: Vec<Bytes> = Vec::with_capacity(ranges.len() * 2);
    let mut payload_bytes = 0;
    for (range, store) in ranges.iter().zip(stores) {
        let Some(store) = store else {
            got.push(GotRange::NoDisk);
            continue;
        };
        let (outcome, answer) = match store.read(&range.block, range.offset, range.length) {
            ReadOutcome::Found { block_bytes, data_offset, data, proof } => {
                let found = GotRange::Found {
                    block_bytes,
                    data_offset,
                    data_bytes: data.len() as u32,
                    proof_bytes: proof.len() as u32,
                };
                payload_bytes += data.len() + proof.len();
                if payload_bytes > MAX_PAYLOAD_BYTES {
                    return Err(ServiceError::Invalid {
                        reason: format!("the ranges are more than {MAX_PAYLOAD_BYTES} bytes: ask for fewer at once"),
                    });
                }
                let outcome = if data.len() == block_bytes as usize { "whole" } else { "part" };
                payload.extend([data, proof].into_iter().filter(|piece| !piece.is_empty()));
                (outcome, found)
            }
            ReadOutcome::Missing => {
                // A mount asks for what a commit names: an owner should have it. Other servers ask to find out.
                if role == Role::Mount && owns(table, range) {
                    store.journal().add(range.block, News::Damaged);
                }
                ("missing", GotRange::Missing)
            }
            ReadOutcome::Damaged => ("damaged", GotRange::Damaged),
            ReadOutcome::Failed => ("failed", GotRange::NoDisk),
        };
        metrics::counter!(metric_names::CHUNK_GETS, "outcome" => outcome).increment(1);
        got.push(answer);
    }
    metrics::counter!(metric_names::CHUNK_READ_BYTES).increment(payload_bytes as u64);
    Answer::with_payload(&ChunkReply::Got(got), payload)
}

/// Whether the table says that the disk has the block (not only that it will).
fn owns(table: &PartitionTable, range: &GetRange) -> bool {
    let has = |owners: &[DiskId]| owners.contains(&range.disk);
    table.pool == range.block.pool && table.row_of(&range.block).is_some_and(|row| has(&row.current))
}
