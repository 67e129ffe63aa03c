//! openraft's way to the other members: requests over `Transport`. Keeps no state but the address;
//! every request has a bound.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::ids::{ClusterId, RequestId};
use cairn_common::protocol::admin::MetadataMember;
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::{Transport, TransportError, request};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::snapshot_folder::SnapshotFolder;
use super::snapshot_sender;
use super::state_machine::SnapshotOf;
use super::types::{Member, TypeConfig, Vote};
use super::wire::{Envelope, Life, RaftReply, RaftRequest, encode_entries};

/// Longest wait for the answer to entries: the receiver's disk may be busy.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the answer to a small request.
const SMALL_TIMEOUT: Duration = Duration::from_millis(500);

/// What all links of this server share.
pub(super) struct Network {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) cluster: ClusterId,
    pub(super) own: MetadataMember,
}

/// Makes links to members.
pub(super) struct Factory(pub(super) Arc<Network>);

/// The way to one member.
#[derive(Clone)]
pub(super) struct Link {
    network: Arc<Network>,
    target: MetadataMember,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Link;

    async fn new_client(&mut self, _target: u64, node: &Member) -> Link {
        Link { network: self.0.clone(), target: node.0.clone() }
    }
}

impl Link {
    /// Sends one request.
    pub(super) async fn send(
        &self,
        message: RaftRequest,
        payload: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<RaftReply, TransportError> {
        let envelope = Envelope {
            cluster: self.network.cluster,
            from: Life::of(&self.network.own),
            to: Life::of(&self.target),
            request: message,
        };
        let (address, transport) = (self.target.address, &*self.network.transport);
        let id = RequestId::random();
        let (reply, _) = request(transport, address, Service::Raft, id, timeout, &envelope, payload).await?;
        Ok(reply)
    }

    /// For errors: whom this link reaches.
    pub(super) fn target(&self) -> &MetadataMember {
        &self.target
    }

    async fn ask(&self, message: RaftRequest, payload: Vec<Bytes>, timeout: Duration) -> Result<RaftReply, Failure> {
        self.send(message, payload, timeout).await.map_err(|error| rpc_error(&error))
    }

    fn unexpected<T>(&self, reply: &RaftReply) -> Result<T, Failure> {
        let name = &self.target.name;
        Err(NetworkError::from_string(format!("{name} gave an answer to another question: {reply:?}")).into())
    }
}

type Failure = RPCError<TypeConfig>;

/// `Unreachable` makes openraft wait before it tries again.
pub(super) fn rpc_error(error: &TransportError) -> Failure {
    match error {
        TransportError::Unreachable { .. }
        | TransportError::Identity { .. }
        | TransportError::Refused {
            error: ServiceError::Forbidden { .. } | ServiceError::Unavailable { .. }, ..
        } => Unreachable::new(error).into(),
        TransportError::NoAnswer { .. } | TransportError::Invalid { .. } | TransportError::Refused { .. } => {
            NetworkError::new(error).into()
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Arc<SnapshotFolder>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let payload = encode_entries(&rpc.entries).map_err(|e| NetworkError::new(&e))?;
        let timeout = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND_TIMEOUT };
        let message = RaftRequest::Append {
            vote: rpc.vote,
            previous: rpc.prev_log_id,
            committed: rpc.leader_commit,
            entries: rpc.entries.len() as u32,
        };
        match self.ask(message, payload, timeout).await? {
            RaftReply::Append(response) => Ok(response),
            other => self.unexpected(&other),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        match self.ask(RaftRequest::Vote(rpc), Vec::new(), SMALL_TIMEOUT).await? {
            RaftReply::Vote(response) => Ok(response),
            other => self.unexpected(&other),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        match self.ask(RaftRequest::PreVote(rpc), Vec::new(), SMALL_TIMEOUT).await? {
            RaftReply::Vote(response) => Ok(response),
            other => self.unexpected(&other),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        match self.ask(RaftRequest::TransferLeader(rpc), Vec::new(), SMALL_TIMEOUT).await? {
            RaftReply::TransferLeader(response) => Ok(response),
            other => self.unexpected(&other),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot_sender::send(self, vote, snapshot) => sent,
        }
    }
}
