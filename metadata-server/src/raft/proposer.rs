//! The queue of proposals. While entries are under way, proposals gather; the next entry takes all
//! that wait (at most 1 MiB), each stamped with the next tick of the hybrid clock. So one entry and
//! one log sync serve all who waited.
//!
//! Stamps grow along the log: only a leader that has applied an entry of its own term (and with it
//! everything before, whose stamps its clock has seen) proposes, and the entry is tied to that term.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::HybridClock;
use cairn_common::codec;
use cairn_common::ids::RequestId;
use cairn_common::limits::MAX_ENTRY_BYTES;
use cairn_common::protocol::ServiceError;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::handle::RaftHandle;
use super::metrics;
use super::types::{CommandBatch, TypeConfig};
use crate::namespace::command::{Action, Command, Outcome};

/// Entries that are proposed and not yet applied. More would make entries smaller, fewer would leave
/// the disk idle while an entry travels.
const ENTRIES_UNDER_WAY: usize = 4;
/// Proposals that wait; more are held back at the callers.
const QUEUE_LENGTH: usize = 8192;
/// What a command takes in an entry besides its action, at most, in bytes.
const COMMAND_OVERHEAD_BYTES: usize = 32;

type Answer = oneshot::Sender<Result<Outcome, ServiceError>>;

struct Proposal {
    request: RequestId,
    action: Action,
    bytes: usize,
    answer: Answer,
}

/// Takes proposals.
pub(super) struct Proposer {
    queue: mpsc::Sender<Proposal>,
    timeout: Duration,
}

impl Proposer {
    /// Starts the task that makes entries; it ends with the proposer.
    pub(super) fn start(
        raft: RaftHandle,
        clock: Arc<HybridClock>,
        leadership: watch::Receiver<Option<u64>>,
        timeout: Duration,
    ) -> Self {
        let (queue, proposals) = mpsc::channel(QUEUE_LENGTH);
        let batcher = Batcher { raft, clock, leadership, proposals, left_over: None };
        tokio::spawn(batcher.run());
        Self { queue, timeout }
    }

    /// Waits until the action is applied, at most the timeout.
    pub(super) async fn propose(&self, request: RequestId, action: Action) -> Result<Outcome, ServiceError> {
        let invalid = |reason: String| ServiceError::Invalid { reason };
        let bytes = codec::encode(&action).map_err(|e| invalid(e.to_string()))?.len() + COMMAND_OVERHEAD_BYTES;
        if bytes > MAX_ENTRY_BYTES {
            return Err(invalid(format!("a command of {bytes} bytes; an entry has at most {MAX_ENTRY_BYTES}")));
        }
        let (answer, outcome) = oneshot::channel();
        let proposal = Proposal { request, action, bytes, answer };
        let wait = async {
            self.queue.send(proposal).await.map_err(|_| stopped())?;
            outcome.await.unwrap_or_else(|_| Err(stopped()))
        };
        let late = || unavailable(format!("no majority confirmed the change within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, wait).await.unwrap_or_else(|_| Err(late()))
    }
}

struct Batcher {
    raft: RaftHandle,
    clock: Arc<HybridClock>,
    leadership: watch::Receiver<Option<u64>>,
    proposals: mpsc::Receiver<Proposal>,
    left_over: Option<Proposal>,
}

impl Batcher {
    async fn run(mut self) {
        let under_way = Arc::new(Semaphore::new(ENTRIES_UNDER_WAY));
        loop {
            let first = match self.left_over.take() {
                Some(proposal) => proposal,
                None => match self.proposals.recv().await {
                    Some(proposal) => proposal,
                    None => return,
                },
            };
            let Ok(permit) = under_way.clone().acquire_owned().await else { return };
            let batch = self.gather(first);
            if !batch.is_empty() {
                self.submit(batch, permit).await;
            }
        }
    }

    /// All that wait, up to the size of an entry. Who gave up waiting is left out.
    fn gather(&mut self, first: Proposal) -> Vec<Proposal> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(proposal) = next {
            if bytes + proposal.bytes > MAX_ENTRY_BYTES {
                self.left_over = Some(proposal);
                break;
            }
            if !proposal.answer.is_closed() {
                bytes += proposal.bytes;
                batch.push(proposal);
            }
            next = self.proposals.try_recv().ok();
        }
        batch
    }

    async fn submit(&self, batch: Vec<Proposal>, permit: OwnedSemaphorePermit) {
        let Some(term) = *self.leadership.borrow() else {
            let error = self.raft.not_leader();
            batch.into_iter().for_each(|proposal| drop(proposal.answer.send(Err(error.clone()))));
            return;
        };
        let mut answers = Vec::with_capacity(batch.len());
        let mut commands = Vec::with_capacity(batch.len());
        for Proposal { request, action, answer, .. } in batch {
            commands.push(Command { time: self.clock.now(), request, action });
            answers.push(answer);
        }
        metrics::proposed(commands.len());
        let entry = match CommandBatch::new(commands) {
            Ok(entry) => entry,
            Err(error) => return answer_all(answers, &internal(error.to_string())),
        };
        let (responder, result) = ProgressResponder::complete_only();
        if let Err(fatal) = self.raft.raft().write(entry).with_leader(term).responder(responder).await {
            return answer_all(answers, &internal(fatal.to_string()));
        }
        let raft = self.raft.clone();
        tokio::spawn(async move {
            match result.await {
                Ok(result) => deliver(&raft, answers, result),
                Err(_) => answer_all(answers, &stopped()),
            }
            drop(permit);
        });
    }
}

fn deliver(raft: &RaftHandle, answers: Vec<Answer>, result: ClientWriteResult<TypeConfig>) {
    let error = match result {
        Ok(response) => {
            let outcomes = response.data.0;
            if outcomes.len() == answers.len() {
                answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(Ok(outcome))));
                return;
            }
            internal(format!("{} outcomes for {} commands", outcomes.len(), answers.len()))
        }
        Err(ClientWriteError::ForwardToLeader(_)) => raft.not_leader(),
        Err(ClientWriteError::LogEntryDiscarded(_)) => {
            unavailable("the leader changed; the change may have been made or not".into())
        }
        Err(error) => internal(error.to_string()),
    };
    answer_all(answers, &error);
}

fn answer_all(answers: Vec<Answer>, error: &ServiceError) {
    answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
}

fn unavailable(reason: String) -> ServiceError {
    ServiceError::Unavailable { reason }
}

fn stopped() -> ServiceError {
    unavailable("this server is stopping; the change may have been made or not".into())
}

fn internal(reason: String) -> ServiceError {
    ServiceError::Internal { reason }
}
