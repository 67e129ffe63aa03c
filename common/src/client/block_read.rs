//! Reads a range of a block from the best replica, checks it against the block's name, and goes on
//! to the next replica when the bytes are wrong, missing or slow. The promise: bytes that come out
//! are the block's bytes (P5).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::chunk_client::{ChunkClient, Shared, VerifiedRange};
use super::error::ClientError;
use crate::block::{BlockHash, BlockId};
use crate::block_tree;
use crate::ids::{DiskId, RequestId};
use crate::partition_table::{DiskLocation, PartitionTable};
use crate::protocol::Service;
use crate::protocol::chunk::{ChunkReply, ChunkRequest, GetRange, GotRange};
use crate::telemetry::metric_names::{MOUNT_FAILOVERS, MOUNT_GET_BYTES, MOUNT_VERIFICATION_FAILURES};
use crate::transport::request as send_request;
use bytes::Bytes;

/// First wait before another round over the replicas, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Ranges above this length, in bytes, are hashed on the blocking pool: about 0.1 ms.
const HASH_INLINE_BYTES: usize = 256 << 10;

/// What is read.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    request: RequestId,
    block: BlockId,
    block_bytes: u32,
    offset: u32,
    length: u32,
}

/// Why a replica did not help.
#[derive(Debug)]
enum Miss {
    /// It does not have the right bytes: another one must, and repair is told.
    Bad(String),
    /// It may have them.
    Unsure(String),
}

impl ChunkClient {
    /// The verification groups that cover `[offset, offset + length)` of a block of `block_bytes`.
    /// Waits at most `call_timeout`. `NoReplica`: every owner was asked and answered with something
    /// else.
    pub async fn read(
        &self,
        request: RequestId,
        block: BlockId,
        block_bytes: u32,
        offset: u32,
        length: u32,
    ) -> Result<VerifiedRange, ClientError> {
        let wanted = Wanted { request, block, block_bytes, offset, length };
        let waited = self.shared.settings.call_timeout;
        let deadline = Instant::now() + waited;
        let mut back_off = BACK_OFF.0;
        let mut rounds_with_all_bad = 0;
        loop {
            let table = self.shared.tables.table();
            let (tried, all_bad) = match read_round(&self.shared, wanted, &table, deadline).await {
                Ok(range) => return Ok(range),
                Err(misses) => {
                    let all_bad = !misses.is_empty() && misses.iter().all(|miss| matches!(miss, Miss::Bad(_)));
                    let said: Vec<String> = misses
                        .into_iter()
                        .map(|miss| match miss {
                            Miss::Bad(said) | Miss::Unsure(said) => said,
                        })
                        .collect();
                    (said.join("; "), all_bad)
                }
            };
            if all_bad {
                rounds_with_all_bad += 1;
                if rounds_with_all_bad > 1 {
                    return Err(ClientError::NoReplica { block, tried });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut { what: "read a block", waited, tried });
            }
            tracing::warn!(%request, %block, tried, "no replica has answered yet");
            tokio::time::sleep(back_off.min(left)).await;
            back_off = (back_off * 2).min(BACK_OFF.1);
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(Err(error)) = tokio::time::timeout(left, self.shared.tables.refresh(table.epoch)).await {
                match error {
                    ClientError::SessionFenced { .. } | ClientError::Refused { .. } => return Err(error),
                    other => tracing::debug!(%request, error = %other, "no newer table"),
                }
            }
        }
    }
}

/// Asks the owners one after another, a further one whenever the last is slow, until one has given
/// right bytes.
async fn read_round(
    shared: &Arc<Shared>,
    wanted: Wanted,
    table: &PartitionTable,
    deadline: Instant,
) -> Result<VerifiedRange, Vec<Miss>> {
    let mut candidates = candidates(shared, table, &wanted.block).into_iter();
    let mut asked = FuturesUnordered::new();
    let mut misses = Vec::new();
    let mut ask_next = true;
    let mut last = None;
    loop {
        if ask_next && let Some((disk, location)) = candidates.next() {
            last = Some(location.address);
            asked.push(async move { (disk, ask(shared, wanted, disk, &location).await) });
        }
        if asked.is_empty() {
            return Err(misses);
        }
        let hedge_at = (Instant::now() + shared.settings.hedge_after).min(deadline);
        match tokio::time::timeout_at(hedge_at, asked.next()).await {
            Ok(Some((_, Ok(range)))) => return Ok(range),
            Ok(Some((disk, Err(miss)))) => {
                metrics::counter!(MOUNT_FAILOVERS, "kind" => "chunk").increment(1);
                tracing::debug!(request = %wanted.request, block = %wanted.block, %disk, ?miss, "replica did not help");
                misses.push(miss);
                ask_next = true;
            }
            Ok(None) => ask_next = true,
            Err(_) if Instant::now() >= deadline => {
                misses.push(Miss::Unsure("no answer from the others".into()));
                return Err(misses);
            }
            Err(_) => {
                if let Some(address) = last.take() {
                    shared.health.slow(address);
                }
                ask_next = true;
            }
        }
    }
}

/// Owners in the order in which to ask them.
fn candidates(shared: &Shared, table: &PartitionTable, block: &BlockId) -> Vec<(DiskId, DiskLocation)> {
    let Some(row) = table.row_of(block) else { return Vec::new() };
    let mut ranked: Vec<_> = row
        .write_set()
        .into_iter()
        .filter_map(|disk| table.disks.get(&disk).map(|location| (disk, location.clone())))
        .map(|(disk, location)| {
            let (trouble, reads) = shared.health.rank(location.address);
            let filling = !row.current.contains(&disk);
            ((trouble, filling, reads, rand::random::<u16>()), disk, location)
        })
        .collect();
    ranked.sort_by_key(|(rank, ..)| *rank);
    ranked.into_iter().map(|(_, disk, location)| (disk, location)).collect()
}

/// One attempt at one replica, verified.
async fn ask(
    shared: &Arc<Shared>,
    wanted: Wanted,
    disk: DiskId,
    location: &DiskLocation,
) -> Result<VerifiedRange, Miss> {
    let Wanted { request, block, block_bytes, offset, length } = wanted;
    let address = location.address;
    let say = |what: &str| format!("{} (disk {disk}): {what}", location.name);
    let _reading = shared.health.reading(address);
    let message = ChunkRequest::Get { ranges: vec![GetRange { block, disk, offset, length }] };
    let timeout = shared.settings.get_timeout;
    let sent = send_request(&*shared.transport, address, Service::Chunk, request, timeout, &message, Vec::new());
    let (reply, payload) = match tokio::time::timeout(timeout, sent).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            shared.health.failed(address);
            return Err(Miss::Unsure(say(&error.to_string())));
        }
        Err(_) => {
            shared.health.failed(address);
            return Err(Miss::Unsure(say("no answer")));
        }
    };
    shared.health.answered(address);
    metrics::counter!(MOUNT_GET_BYTES).increment(payload.len() as u64);
    let bad = |what: &str| {
        tracing::warn!(%request, %block, %disk, server = location.name, what, "bad replica, read around");
        shared.report_damage(block, disk);
        Err(Miss::Bad(say(what)))
    };
    let got = match &reply {
        ChunkReply::Got(got) if got.len() == 1 => got[0],
        _ => return Err(Miss::Unsure(say("not the answer to the question"))),
    };
    match got {
        GotRange::Missing => bad("block is missing"),
        GotRange::Damaged => bad("block is damaged"),
        GotRange::NoDisk => Err(Miss::Unsure(say("disk is not there"))),
        GotRange::Found { data_offset, data_bytes, proof_bytes, .. } => {
            let (data_end, end) = (data_bytes as usize, data_bytes as usize + proof_bytes as usize);
            let covers = data_offset <= offset
                && u64::from(data_offset) + u64::from(data_bytes)
                    >= u64::from(block_bytes).min(u64::from(offset) + u64::from(length));
            if end != payload.len() || !covers {
                metrics::counter!(MOUNT_VERIFICATION_FAILURES).increment(1);
                return bad("not the range that was asked for");
            }
            let (data, proof) = (payload.slice(..data_end), payload.slice(data_end..));
            // The length of the block is ours, from the extent, never the server's.
            match verify(block.hash, block_bytes, data_offset, data.clone(), proof).await {
                Ok(()) => Ok(VerifiedRange { offset: data_offset, bytes: data }),
                Err(error) => {
                    metrics::counter!(MOUNT_VERIFICATION_FAILURES).increment(1);
                    bad(&error)
                }
            }
        }
    }
}

async fn verify(hash: BlockHash, block_bytes: u32, data_offset: u32, data: Bytes, proof: Bytes) -> Result<(), String> {
    let small = data.len() <= HASH_INLINE_BYTES;
    let check = move || block_tree::verify(&hash, block_bytes, data_offset, &data, &proof).map_err(|e| e.to_string());
    if small {
        return check();
    }
    crate::blocking::run(check).await.unwrap_or_else(|error| Err(error.to_string()))
}
