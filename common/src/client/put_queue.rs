//! One queue of puts a chunk server: blocks that wait go together in one request, so many small
//! blocks share one round trip and one fdatasync. What nobody waits for any more is dropped unsent.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::server_health::ServerHealth;
use crate::block::BlockId;
use crate::ids::{DiskId, RequestId, TableEpoch};
use crate::limits::{MAX_BLOCKS_PER_REQUEST, MAX_PAYLOAD_BYTES};
use crate::protocol::Service;
use crate::protocol::chunk::{ChunkReply, ChunkRequest, Encoding, PutBlock, PutOutcome};
use crate::telemetry::metric_names::MOUNT_PUT_BYTES;
use crate::transport::{Transport, TransportError, request};

/// Requests under way to one server at once.
const REQUESTS_PER_SERVER: usize = 6;
/// Blocks of one request together, in bytes (a larger single block goes alone).
const BATCH_BYTES: usize = 4 << 20;

/// A block for one disk.
#[derive(Debug)]
pub struct PutJob {
    /// Traces the call.
    pub request: RequestId,
    /// Table that it was placed by.
    pub table: TableEpoch,
    /// The block.
    pub block: BlockId,
    /// The disk.
    pub disk: DiskId,
    /// Its bytes.
    pub bytes: Bytes,
    /// They may use the disk's write reserve.
    pub reserve: bool,
    /// Where the outcome goes; dropped when nobody waits any more.
    pub outcome: oneshot::Sender<Result<PutOutcome, TransportError>>,
}

/// The queues of all servers.
pub struct PutQueues {
    transport: Arc<dyn Transport>,
    health: Arc<ServerHealth>,
    attempt_timeout: Duration,
    queues: Mutex<HashMap<SocketAddr, Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<PutJob>,
    under_way: usize,
}

impl PutQueues {
    /// No queues yet.
    pub fn new(transport: Arc<dyn Transport>, health: Arc<ServerHealth>, attempt_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { transport, health, attempt_timeout, queues: Mutex::new(HashMap::new()) })
    }

    /// Queues a block for a server; it goes at once if the server is not busy.
    pub fn push(self: &Arc<Self>, address: SocketAddr, job: PutJob) {
        let mut queues = self.queues.lock();
        let queue = queues.entry(address).or_default();
        queue.waiting.retain(|waiting| !waiting.outcome.is_closed());
        queue.waiting.push_back(job);
        if queue.under_way < REQUESTS_PER_SERVER {
            queue.under_way += 1;
            let queues = self.clone();
            tokio::spawn(async move { queues.drain(address).await });
        }
    }

    /// Sends batches until the queue is empty.
    async fn drain(self: Arc<Self>, address: SocketAddr) {
        // Whoever pushes at the same time gets into the batch.
        tokio::task::yield_now().await;
        loop {
            let batch = {
                let mut queues = self.queues.lock();
                let queue = queues.entry(address).or_default();
                let batch = next_batch(&mut queue.waiting);
                if batch.is_empty() {
                    queue.under_way -= 1;
                    return;
                }
                batch
            };
            self.send(address, batch).await;
        }
    }

    async fn send(&self, address: SocketAddr, batch: Vec<PutJob>) {
        // One request has one id and one epoch: of the first block.
        let (id, table) = (batch[0].request, batch[0].table);
        let blocks = batch
            .iter()
            .map(|job| PutBlock {
                block: job.block,
                disk: job.disk,
                encoding: Encoding::Plain,
                logical_bytes: job.bytes.len() as u32,
                stored_bytes: job.bytes.len() as u32,
                reserve: job.reserve,
            })
            .collect();
        let bytes: usize = batch.iter().map(|job| job.bytes.len()).sum();
        metrics::counter!(MOUNT_PUT_BYTES).increment(bytes as u64);
        let payload = batch.iter().map(|job| job.bytes.clone()).collect();
        let message = ChunkRequest::Put { table, blocks };
        let timeout = self.attempt_timeout;
        let sent = request(&*self.transport, address, Service::Chunk, id, timeout, &message, payload);
        let answer = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok((ChunkReply::Put(outcomes), _))) if outcomes.len() == batch.len() => Ok(outcomes),
            Ok(Ok(_)) => {
                Err(TransportError::Invalid { address, reason: "not the outcomes of the put that was sent".into() })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TransportError::NoAnswer { address, reason: format!("put not durable within {timeout:?}") }),
        };
        match answer {
            Ok(outcomes) => {
                self.health.answered(address);
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    let _ = job.outcome.send(Ok(outcome));
                }
            }
            Err(error) => {
                if !matches!(error, TransportError::Refused { .. }) {
                    self.health.failed(address);
                }
                tracing::debug!(request = %id, %error, blocks = batch.len(), "put failed");
                for job in batch {
                    let _ = job.outcome.send(Err(error.clone()));
                }
            }
        }
    }
}

fn next_batch(waiting: &mut VecDeque<PutJob>) -> Vec<PutJob> {
    const { assert!(BATCH_BYTES <= MAX_PAYLOAD_BYTES) }
    let mut batch: Vec<PutJob> = Vec::new();
    let mut bytes = 0;
    while let Some(job) = waiting.front() {
        let full = batch.len() == MAX_BLOCKS_PER_REQUEST || bytes + job.bytes.len() > BATCH_BYTES;
        let other_table = batch.first().is_some_and(|first| first.table != job.table);
        if !batch.is_empty() && (full || other_table) {
            break;
        }
        let Some(job) = waiting.pop_front() else { break };
        if !job.outcome.is_closed() {
            bytes += job.bytes.len();
            batch.push(job);
        }
    }
    batch
}
