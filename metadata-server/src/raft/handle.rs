//! The running Raft instance with what its users in this module need to know of it.

use std::sync::Arc;

use cairn_common::ids::{ClusterId, MetadataNodeId};
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::MetadataMember;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;

use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct RaftHandle {
    raft: Raft<TypeConfig, StateMachine>,
    own: Arc<MetadataMember>,
    cluster: ClusterId,
}

impl RaftHandle {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>, own: MetadataMember, cluster: ClusterId) -> Self {
        Self { raft, own: Arc::new(own), cluster }
    }

    pub(super) fn raft(&self) -> &Raft<TypeConfig, StateMachine> {
        &self.raft
    }

    pub(super) fn member(&self) -> &MetadataMember {
        &self.own
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What openraft last published.
    pub(super) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// A member of the newest configuration that this server has in its log.
    pub(super) fn known_member(&self, node: MetadataNodeId) -> Option<MetadataMember> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node.0).map(|member| member.0.clone())
    }

    /// The leader as far as this server knows.
    pub(super) fn leader(&self) -> Option<MetadataMember> {
        let leader = self.raft.metrics().borrow_watched().current_leader?;
        self.known_member(MetadataNodeId(leader))
    }

    /// The error for a request that only the leader can answer.
    pub(super) fn not_leader(&self) -> ServiceError {
        match self.leader() {
            Some(leader) if leader.node == self.own.node => ServiceError::Unavailable {
                reason: format!("{} has just become leader and is not ready, or is losing its majority", leader.name),
            },
            leader => ServiceError::NotLeader { leader: leader.map(|leader| leader.address) },
        }
    }
}
