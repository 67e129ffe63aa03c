//! What all handlers share: the group, the way to other servers, and the memory of the current
//! leadership, if this server leads.

use std::sync::Arc;

use cairn_common::clock::Clock;
use cairn_common::ids::RequestId;
use cairn_common::protocol::ServiceError;
use cairn_common::transport::Transport;
use parking_lot::RwLock;

use super::leader::Leader;
use super::table_cache::TableCache;
use super::timings::ServiceOptions;
use crate::namespace::command::{Action, Outcome};
use crate::raft::MetadataGroup;
use crate::storage::{ReadView, StorageError};

/// Shared by all handlers and background tasks.
pub(super) struct Context {
    pub(super) group: Arc<MetadataGroup>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: ServiceOptions,
    pub(super) table: TableCache,
    leader: RwLock<Option<Arc<Leader>>>,
}

impl Context {
    pub(super) fn new(
        group: Arc<MetadataGroup>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        options: ServiceOptions,
    ) -> Self {
        Self { group, transport, clock, options, table: TableCache::default(), leader: RwLock::new(None) }
    }

    /// The memory of the current leadership, or a redirection.
    pub(super) fn leader(&self) -> Result<Arc<Leader>, ServiceError> {
        self.leader.read().clone().ok_or_else(|| {
            let status = self.group.status();
            // This server may lead already but not have set up yet: the caller asks again.
            let leader = status.leader.filter(|leader| leader.node != status.member.node);
            ServiceError::NotLeader { leader: leader.map(|member| member.address) }
        })
    }

    /// Begins or ends a leadership; requests that wait under the old one are told.
    pub(super) fn set_leader(&self, leader: Option<Arc<Leader>>) {
        let old = std::mem::replace(&mut *self.leader.write(), leader);
        if let Some(old) = old {
            old.close();
        }
    }

    /// A view that shows all that was committed before this call.
    pub(super) async fn fresh_view(&self) -> Result<Box<dyn ReadView + Send + Sync>, ServiceError> {
        self.group.linearize().await?;
        Ok(self.group.view())
    }

    /// Proposes on behalf of nobody's request.
    pub(super) async fn propose(&self, action: Action) -> Result<Outcome, ServiceError> {
        self.group.propose(RequestId::random(), action).await
    }
}

/// A storage error on the way to a client. The server's log has it, too.
pub(super) fn broken(error: StorageError) -> ServiceError {
    tracing::error!(%error, "the state cannot be read");
    ServiceError::Internal { reason: format!("the metadata state cannot be read: {error}; see this server's log") }
}

/// An outcome that does not belong to the action.
pub(super) fn unexpected(outcome: &Outcome) -> ServiceError {
    ServiceError::Internal { reason: format!("the state machine answered with {outcome:?}") }
}
