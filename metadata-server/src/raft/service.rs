//! Requests of other metadata servers (`Service::Raft`). Refuses whoever is not the life that this
//! server's configuration knows, and whatever is meant for another life than this one.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_common::protocol::ServiceError;
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler};
use openraft::raft::AppendEntriesRequest;

use super::MetadataGroup;
use super::ballot::Ballot;
use super::handle::RaftHandle;
use super::metrics;
use super::snapshot_inbox::SnapshotInbox;
use super::state_machine::describe;
use super::types::Vote;
use super::wire::{Envelope, Life, RaftReply, RaftRequest, decode_entries};

/// Answers the other members of the group.
pub struct RaftService {
    raft: RaftHandle,
    inbox: Arc<SnapshotInbox>,
    ballot: Arc<Ballot>,
}

impl RaftService {
    /// Serves this group.
    pub fn new(group: Arc<MetadataGroup>) -> Self {
        let (raft, inbox, ballot) = group.serving();
        Self { raft, inbox, ballot }
    }

    fn check(&self, peer: &PeerIdentity, envelope: &Envelope) -> Result<(), ServiceError> {
        let own = Life::of(self.raft.member());
        let refuse = |reason: String| Err(ServiceError::Forbidden { reason });
        let Envelope { cluster, from, to, .. } = envelope;
        if *cluster != self.raft.cluster() {
            return refuse(format!("a message of cluster {cluster}, this server belongs to {}", self.raft.cluster()));
        }
        if *to != own {
            return refuse(format!(
                "a message for metadata server {} (incarnation {}); this is {} (incarnation {})",
                to.node, to.incarnation, own.node, own.incarnation
            ));
        }
        match self.raft.known_member(from.node) {
            Some(known) if known.incarnation != from.incarnation => refuse(format!(
                "metadata server {} is known with incarnation {}, not {}: a server that lost its data comes back \
                 under a new id (`cairnctl node replace`)",
                from.node, known.incarnation, from.incarnation
            )),
            Some(known) if known.name != peer.name => {
                refuse(format!("{} speaks for metadata server {}, which is {}", peer.name, from.node, known.name))
            }
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: RaftRequest, incoming: &Incoming) -> Result<RaftReply, ServiceError> {
        let raft = self.raft.raft();
        match request {
            RaftRequest::Append { vote, previous, committed, entries } => {
                let entries =
                    decode_entries(entries, &incoming.payload).map_err(|reason| ServiceError::Invalid { reason })?;
                let request = AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed };
                Ok(RaftReply::Append(raft.append_entries(request).await.map_err(internal)?))
            }
            RaftRequest::Vote(_) | RaftRequest::PreVote(_) if let Err(closed) = self.ballot.check() => Err(closed),
            RaftRequest::Vote(request) => Ok(RaftReply::Vote(raft.vote(request).await.map_err(internal)?)),
            RaftRequest::PreVote(request) => Ok(RaftReply::Vote(raft.pre_vote(request).await.map_err(internal)?)),
            RaftRequest::TransferLeader(request) => {
                Ok(RaftReply::TransferLeader(raft.handle_transfer_leader(request).await.map_err(internal)?))
            }
            RaftRequest::SnapshotBegin { transfer, meta, files } => {
                self.blocking(move |inbox| inbox.begin(transfer, meta, files)).await?;
                Ok(RaftReply::Ready)
            }
            RaftRequest::SnapshotPiece { transfer, file, offset, hash } => {
                let piece = incoming.payload.clone();
                self.blocking(move |inbox| inbox.piece(transfer, file, offset, hash, &piece)).await?;
                Ok(RaftReply::Ready)
            }
            RaftRequest::SnapshotInstall { transfer, vote } => self.install(transfer, vote).await,
        }
    }

    async fn install(&self, transfer: u128, vote: Vote) -> Result<RaftReply, ServiceError> {
        let snapshot = self.blocking(move |inbox| inbox.finish(transfer)).await?;
        let installed = self.raft.raft().install_full_snapshot(vote, describe(snapshot.clone())).await;
        if self.inbox.discard_unused(&snapshot) {
            tracing::info!("a snapshot was not needed, or came from a leader that is none any more");
        } else {
            metrics::snapshot("installed");
        }
        let response = installed.map_err(internal)?;
        Ok(RaftReply::SnapshotInstalled(response))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SnapshotInbox) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let inbox = self.inbox.clone();
        let result = cairn_common::blocking::run(move || work(&inbox)).await.map_err(internal)?;
        result.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => ServiceError::Invalid { reason: error.to_string() },
            io::ErrorKind::StorageFull => ServiceError::NoSpace { reason: error.to_string() },
            _ => internal(error),
        })
    }
}

fn internal(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::Internal { reason: error.to_string() }
}

#[async_trait]
impl RequestHandler for RaftService {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        let envelope: Envelope = incoming.message()?;
        if let Err(error) = self.check(&peer, &envelope) {
            tracing::warn!(%error, peer = %peer.name, request = %incoming.request, "a raft message is refused");
            return Err(error);
        }
        let reply = self.answer(envelope.request, &incoming).await?;
        Answer::message(&reply)
    }
}
