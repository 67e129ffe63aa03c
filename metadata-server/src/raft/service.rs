//! Requests of other metadata servers (`Service::Raft`).

use std::sync::Arc;

use async_trait::async_trait;
use cairn_common::protocol::ServiceError;
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler};

use super::MetadataGroup;

/// Answers the other members of the group.
pub struct RaftService {
    _group: Arc<MetadataGroup>,
}

impl RaftService {
    /// Serves this group.
    pub fn new(group: Arc<MetadataGroup>) -> Self {
        Self { _group: group }
    }
}

#[async_trait]
impl RequestHandler for RaftService {
    async fn handle(&self, _peer: Arc<PeerIdentity>, _incoming: Incoming) -> Result<Answer, ServiceError> {
        Err(ServiceError::Unavailable { reason: "the group has not started".into() })
    }
}
