//! Questions to the cluster and changes of it, as the rest of the core makes them.

use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;
use cairn_common::protocol::metadata::{Mutation, MutationResult, Query, QueryResult};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Filesystem;

impl Filesystem {
    /// A linearizable read.
    pub(crate) async fn ask(&self, request: RequestId, query: Query) -> Result<QueryResult, ClientError> {
        Ok(self.backend.query(request, query, false).await?.result?)
    }

    /// A change; after `TimedOut` it may still happen, once.
    pub(crate) async fn change(&self, request: RequestId, mutation: Mutation) -> Result<MutationResult, ClientError> {
        Ok(self.backend.mutate(request, mutation, Vec::new()).await?.result?)
    }

    /// A change whose answer is definite; it goes on if the future is dropped.
    pub(crate) fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
    ) -> BoxFuture<'static, Result<MutationResult, ClientError>> {
        let submitted = self.backend.submit(request, mutation, Vec::new());
        async move { Ok(submitted.await?.result?) }.boxed()
    }
}
