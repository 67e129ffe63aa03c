//! Linearizable reads by ReadIndex (Raft dissertation, section 6.4): the leader notes its committed
//! position, has a majority confirm by a heartbeat sent afterwards that it still leads, and waits
//! until that position is applied. A view taken then shows everything committed before the call.
//!
//! Calls that come while a round is under way share the next one, so the price is one heartbeat per
//! round, not per read.
//!
//! Why not the leader's lease, which needs no round: openraft's lease is sound only if (1) clocks do
//! not stop; its Instant is CLOCK_MONOTONIC, which stands still while the machine is suspended, so a
//! leader that was suspended would trust a lease that is over; (2) a voter keeps its promise across a
//! restart; openraft starts with an empty lease, so a voter that is killed and back within the lease
//! may elect another leader at once; (3) leader and voters agree on its length; openraft gives both
//! `election_timeout_max` with no margin for drift. SIGSTOP alone would do no harm (the check and the
//! committed position are taken at one moment inside the call). ReadIndex needs none of the three.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::protocol::ServiceError;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::handle::RaftHandle;
use super::metrics;
use super::types::TypeConfig;

/// Rounds that run at once: the second gathers while the first travels.
const ROUNDS_UNDER_WAY: usize = 2;
/// Reads that wait for a round; more are held back at the callers.
const QUEUE_LENGTH: usize = 8192;

type Waiter = oneshot::Sender<Result<(), ServiceError>>;

/// Confirms leadership for reads.
pub(super) struct ReadBarrier {
    waiters: mpsc::Sender<Waiter>,
    timeout: Duration,
}

impl ReadBarrier {
    /// Starts the task that runs the rounds; it ends with the barrier.
    pub(super) fn start(raft: RaftHandle, timeout: Duration) -> Self {
        let (waiters, queue) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(run(raft, queue, timeout));
        Self { waiters, timeout }
    }

    /// Waits for a round that begins now or later, at most the timeout.
    pub(super) async fn pass(&self) -> Result<(), ServiceError> {
        let stopped = || ServiceError::Unavailable { reason: "this server is stopping".into() };
        let late = || ServiceError::Unavailable { reason: format!("no majority answered within {:?}", self.timeout) };
        let (waiter, passed) = oneshot::channel();
        let wait = async {
            self.waiters.send(waiter).await.map_err(|_| stopped())?;
            passed.await.unwrap_or_else(|_| Err(stopped()))
        };
        tokio::time::timeout(self.timeout, wait).await.unwrap_or_else(|_| Err(late()))
    }
}

async fn run(raft: RaftHandle, mut queue: mpsc::Receiver<Waiter>, timeout: Duration) {
    let under_way = Arc::new(Semaphore::new(ROUNDS_UNDER_WAY));
    while let Some(first) = queue.recv().await {
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        let mut waiters = vec![first];
        while let Ok(waiter) = queue.try_recv() {
            waiters.push(waiter);
        }
        tokio::spawn(round(raft.clone(), waiters, permit, timeout));
    }
}

async fn round(raft: RaftHandle, waiters: Vec<Waiter>, permit: OwnedSemaphorePermit, timeout: Duration) {
    metrics::read_round(waiters.len());
    let confirmed = tokio::time::timeout(timeout, raft.raft().ensure_linearizable(ReadPolicy::ReadIndex)).await;
    drop(permit);
    let result = match confirmed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(explain(&raft, error)),
        Err(_) => Err(ServiceError::Unavailable { reason: format!("no majority answered within {timeout:?}") }),
    };
    waiters.into_iter().for_each(|waiter| drop(waiter.send(result.clone())));
}

fn explain(raft: &RaftHandle, error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> ServiceError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => raft.not_leader(),
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(error)) => {
            ServiceError::Unavailable { reason: error.to_string() }
        }
        RaftError::Fatal(error) => ServiceError::Internal { reason: error.to_string() },
    }
}
