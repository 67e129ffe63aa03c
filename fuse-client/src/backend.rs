//! What the file system stands on: the metadata group and the chunk servers, behind one trait, so
//! that tests can lose answers and refuse blocks. No POSIX semantics here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::client::{
    Answer, Changed, ChunkClient, ClientError, LeaseClock, MetadataClient, Placed, PutRoom, Reclaimed, VerifiedRange,
    WriteGrant,
};
use cairn_common::ids::{InodeId, LeaseGeneration, RequestId, SessionId, TableEpoch};
use cairn_common::protocol::locks::{LockRequest, LockWait};
use cairn_common::protocol::metadata::{Mutation, Query};
use futures::future::BoxFuture;

/// A cluster as a mount sees it. Every call is bounded, except the future of [`Backend::submit`].
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// A linearizable read. `lease`: ask for shared leases on what the answer tells about.
    async fn query(&self, request: RequestId, query: Query, lease: bool) -> Result<Answer, ClientError>;
    /// A change whose answer is definite, however long that takes; it goes on if the future is
    /// dropped. `covered`: inodes whose cached state is put aside until the answer comes.
    fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> BoxFuture<'static, Result<Changed, ClientError>>;
    /// Asks for shared leases on open files.
    async fn reclaim(&self, request: RequestId, inodes: Vec<InodeId>) -> Result<Reclaimed, ClientError>;
    /// Gives shared leases of a generation back; after an error they may still be taken.
    async fn return_leases(
        &self,
        request: RequestId,
        generation: LeaseGeneration,
        inodes: Vec<InodeId>,
    ) -> Result<(), ClientError>;
    /// How long leases may be acted on.
    fn leases(&self) -> Arc<LeaseClock>;
    /// What may be acknowledged to programs before it is committed.
    fn write_grant(&self) -> Arc<WriteGrant>;
    /// Everything of earlier generations is dropped, leases of open files are reclaimed.
    fn check_in(&self, generation: LeaseGeneration);
    /// Makes a block durable on a write quorum, by a table newer than `refused`; see [`ChunkClient::put`].
    async fn put(
        &self,
        request: RequestId,
        block: BlockId,
        bytes: Bytes,
        refused: Option<TableEpoch>,
        room: PutRoom,
    ) -> Result<Placed, ClientError>;
    /// Verified bytes that cover a range of a block.
    async fn get(
        &self,
        request: RequestId,
        block: BlockId,
        block_bytes: u32,
        offset: u32,
        length: u32,
    ) -> Result<VerifiedRange, ClientError>;
    /// Answers a recall. `open`: a program has the file open without a registration.
    async fn recall_done(&self, ticket: u64, open: bool) -> Result<(), ClientError>;
    /// Ends the session.
    async fn close(&self, bound: Duration) -> Result<(), ClientError>;
    /// Waits at most `wait` until nothing is in the way of a lock; to be repeated with the same ticket.
    async fn await_lock(
        &self,
        request: RequestId,
        ticket: u64,
        lock: LockRequest,
        wait: Duration,
    ) -> Result<LockWait, ClientError>;
    /// Gives such a wait up.
    async fn leave_lock_queue(&self, request: RequestId, ticket: u64) -> Result<(), ClientError>;
    /// The session.
    fn session(&self) -> SessionId;
    /// Whether the cluster has ended the session: nothing can be written any more.
    fn is_fenced(&self) -> bool;
}

/// A real cluster.
pub struct Cluster {
    metadata: MetadataClient,
    chunks: ChunkClient,
}

impl Cluster {
    /// A cluster reached through these clients.
    pub fn new(metadata: MetadataClient, chunks: ChunkClient) -> Self {
        Self { metadata, chunks }
    }
}

#[async_trait]
impl Backend for Cluster {
    async fn query(&self, request: RequestId, query: Query, lease: bool) -> Result<Answer, ClientError> {
        self.metadata.query(request, query, lease).await
    }

    fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> BoxFuture<'static, Result<Changed, ClientError>> {
        self.metadata.submit(request, mutation, covered)
    }

    async fn reclaim(&self, request: RequestId, inodes: Vec<InodeId>) -> Result<Reclaimed, ClientError> {
        self.metadata.reclaim(request, inodes).await
    }

    async fn return_leases(
        &self,
        request: RequestId,
        generation: LeaseGeneration,
        inodes: Vec<InodeId>,
    ) -> Result<(), ClientError> {
        self.metadata.return_leases(request, generation, inodes).await
    }

    fn leases(&self) -> Arc<LeaseClock> {
        self.metadata.leases().clone()
    }

    fn write_grant(&self) -> Arc<WriteGrant> {
        self.metadata.write_grant().clone()
    }

    fn check_in(&self, generation: LeaseGeneration) {
        self.metadata.check_in(generation);
    }

    async fn put(
        &self,
        request: RequestId,
        block: BlockId,
        bytes: Bytes,
        refused: Option<TableEpoch>,
        room: PutRoom,
    ) -> Result<Placed, ClientError> {
        self.chunks.put(request, block, bytes, refused, room).await
    }

    async fn get(
        &self,
        request: RequestId,
        block: BlockId,
        block_bytes: u32,
        offset: u32,
        length: u32,
    ) -> Result<VerifiedRange, ClientError> {
        self.chunks.read(request, block, block_bytes, offset, length).await
    }

    async fn recall_done(&self, ticket: u64, open: bool) -> Result<(), ClientError> {
        self.metadata.recall_done(ticket, open).await
    }

    async fn close(&self, bound: Duration) -> Result<(), ClientError> {
        self.metadata.close(bound).await
    }

    async fn await_lock(
        &self,
        request: RequestId,
        ticket: u64,
        lock: LockRequest,
        wait: Duration,
    ) -> Result<LockWait, ClientError> {
        self.metadata.await_lock(request, ticket, lock, wait).await
    }

    async fn leave_lock_queue(&self, request: RequestId, ticket: u64) -> Result<(), ClientError> {
        self.metadata.leave_lock_queue(request, ticket).await
    }

    fn session(&self) -> SessionId {
        self.metadata.session()
    }

    fn is_fenced(&self) -> bool {
        *self.metadata.fenced().borrow()
    }
}

/// The error for an answer that does not belong to its question.
pub(crate) fn unexpected(what: &str) -> ClientError {
    ClientError::Protocol { reason: format!("the metadata server answered {what} with something else") }
}
