//! What the file system stands on: the metadata group and the chunk servers, behind one trait, so
//! that tests can lose answers and refuse blocks. No POSIX semantics here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::client::{ChunkClient, ClientError, MetadataClient, VerifiedRange};
use cairn_common::ids::{DiskId, RequestId};
use cairn_common::protocol::metadata::{Mutation, MutationResult, Query, QueryResult};
use futures::future::BoxFuture;

/// A cluster as a mount sees it. Every call is bounded, except the future of [`Backend::submit`].
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// A linearizable read.
    async fn query(&self, request: RequestId, query: Query) -> Result<QueryResult, ClientError>;
    /// A change; after `TimedOut` it may still happen, once.
    async fn mutate(&self, request: RequestId, mutation: Mutation) -> Result<MutationResult, ClientError>;
    /// A change whose answer is definite, however long that takes; it goes on if the future is
    /// dropped.
    fn submit(&self, request: RequestId, mutation: Mutation)
    -> BoxFuture<'static, Result<MutationResult, ClientError>>;
    /// Makes a block durable on a write quorum; answers the owners that did not confirm.
    async fn put(&self, request: RequestId, block: BlockId, bytes: Bytes) -> Result<Vec<DiskId>, ClientError>;
    /// Verified bytes that cover a range of a block.
    async fn get(
        &self,
        request: RequestId,
        block: BlockId,
        block_bytes: u32,
        offset: u32,
        length: u32,
    ) -> Result<VerifiedRange, ClientError>;
    /// Answers a flush event.
    async fn flush_done(&self, ticket: u64) -> Result<(), ClientError>;
    /// Ends the session.
    async fn close(&self, bound: Duration) -> Result<(), ClientError>;
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
    async fn query(&self, request: RequestId, query: Query) -> Result<QueryResult, ClientError> {
        self.metadata.query(request, query).await
    }

    async fn mutate(&self, request: RequestId, mutation: Mutation) -> Result<MutationResult, ClientError> {
        self.metadata.mutate(request, mutation).await
    }

    fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
    ) -> BoxFuture<'static, Result<MutationResult, ClientError>> {
        self.metadata.submit(request, mutation)
    }

    async fn put(&self, request: RequestId, block: BlockId, bytes: Bytes) -> Result<Vec<DiskId>, ClientError> {
        self.chunks.put(request, block, bytes).await
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

    async fn flush_done(&self, ticket: u64) -> Result<(), ClientError> {
        self.metadata.flush_done(ticket).await
    }

    async fn close(&self, bound: Duration) -> Result<(), ClientError> {
        self.metadata.close(bound).await
    }

    fn is_fenced(&self) -> bool {
        *self.metadata.fenced().borrow()
    }
}

/// The error for an answer that does not belong to its question.
pub(crate) fn unexpected(what: &str) -> ClientError {
    ClientError::Protocol { reason: format!("the metadata server answered {what} with something else") }
}
