//! Linearizable reads. While the leader's lease is valid (see [`super::leader_lease`]) a read passes at
//! once: nobody else can have changed anything, and what this leader acknowledged it has applied.
//! Otherwise by ReadIndex (Raft dissertation, section 6.4): the leader notes its committed position,
//! has a majority confirm by a heartbeat sent afterwards that it still leads, and waits until that
//! position is applied; which makes a new lease. A view taken then shows everything committed
//! before the call.
//!
//! Calls that come while a round is under way share the next one, so the price is one heartbeat per
//! round, not per read. A lease that gets short while it is used is renewed before anybody has to wait.
//! (A process that is stopped between the check and its view does no harm: what it then shows was the
//! newest at a moment within the call.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_common::clock::Clock;
use cairn_common::protocol::ServiceError;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::handle::RaftHandle;
use super::leader_lease::LeaderLease;
use super::metrics;
use super::options::GroupTimings;
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
    shared: Arc<Shared>,
}

/// What calls and rounds share.
struct Shared {
    raft: RaftHandle,
    clock: Arc<dyn Clock>,
    /// The term, while this server leads and is ready to.
    leadership: watch::Receiver<Option<u64>>,
    lease: LeaderLease,
    /// A round that nobody waits for is on its way.
    renewing: AtomicBool,
    timeout: Duration,
}

impl ReadBarrier {
    /// Starts the task that runs the rounds; it ends with the barrier.
    pub(super) fn start(
        raft: RaftHandle,
        clock: Arc<dyn Clock>,
        leadership: watch::Receiver<Option<u64>>,
        timings: &GroupTimings,
    ) -> Self {
        let (waiters, queue) = mpsc::channel(QUEUE_LENGTH);
        let timeout = timings.propose_timeout;
        let (lease, renewing) = (LeaderLease::new(timings), AtomicBool::new(false));
        let shared = Arc::new(Shared { raft, clock, leadership, lease, renewing, timeout });
        tokio::spawn(run(shared.clone(), queue));
        Self { waiters, timeout, shared }
    }

    /// Passes under the lease, or waits for a round that begins now or later, at most the timeout.
    pub(super) async fn pass(&self) -> Result<(), ServiceError> {
        if self.passes_under_lease() {
            return Ok(());
        }
        let stopped = || ServiceError::Unavailable { reason: "this server is stopping".into() };
        let late = || ServiceError::Unavailable { reason: format!("no majority answered within {:?}", self.timeout) };
        let (waiter, passed) = oneshot::channel();
        let wait = async {
            self.waiters.send(waiter).await.map_err(|_| stopped())?;
            passed.await.unwrap_or_else(|_| Err(stopped()))
        };
        tokio::time::timeout(self.timeout, wait).await.unwrap_or_else(|_| Err(late()))
    }

    fn passes_under_lease(&self) -> bool {
        let Some(term) = *self.shared.leadership.borrow() else { return false };
        let Some(left) = self.shared.lease.remaining(term, self.shared.clock.monotonic()) else { return false };
        if self.shared.lease.is_short(left) && !self.shared.renewing.swap(true, Ordering::AcqRel) {
            let (waiter, _nobody) = oneshot::channel();
            if self.waiters.try_send(waiter).is_err() {
                // So many wait for rounds that the lease will be renewed anyway.
                self.shared.renewing.store(false, Ordering::Release);
            }
        }
        metrics::lease_read();
        true
    }
}

async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Waiter>) {
    let under_way = Arc::new(Semaphore::new(ROUNDS_UNDER_WAY));
    while let Some(first) = queue.recv().await {
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        let mut waiters = vec![first];
        while let Ok(waiter) = queue.try_recv() {
            waiters.push(waiter);
        }
        tokio::spawn(round(shared.clone(), waiters, permit));
    }
}

async fn round(shared: Arc<Shared>, waiters: Vec<Waiter>, permit: OwnedSemaphorePermit) {
    metrics::read_round(waiters.len());
    let timeout = shared.timeout;
    let (term, begun) = (*shared.leadership.borrow(), shared.clock.monotonic());
    let asked = shared.raft.raft().ensure_linearizable(ReadPolicy::ReadIndex);
    let confirmed = tokio::time::timeout(timeout, asked).await;
    drop(permit);
    // A round that spans two leaderships belongs to neither.
    if let (Ok(Ok(_)), Some(term)) = (&confirmed, term)
        && *shared.leadership.borrow() == Some(term)
    {
        shared.lease.confirm(term, begun);
    }
    shared.renewing.store(false, Ordering::Release);
    let result = match confirmed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(explain(&shared.raft, error)),
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
