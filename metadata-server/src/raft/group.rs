//! [`MetadataGroup`]: this server's membership of the Raft group.

use std::sync::Arc;

use cairn_common::clock::HybridClock;
use cairn_common::ids::{MetadataNodeId, RequestId};
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::MetadataMember;
use tokio::sync::watch;

use super::options::{GroupError, GroupOptions};
use super::status::GroupStatus;
use crate::namespace::command::{Action, Outcome};
use crate::storage::ReadView;

/// This server's membership of the metadata group.
pub struct MetadataGroup {
    clock: HybridClock,
}

fn unavailable<T>() -> Result<T, ServiceError> {
    Err(ServiceError::Unavailable { reason: "the group has not started".into() })
}

impl MetadataGroup {
    /// Opens log and state, replays what is committed, joins the group.
    pub async fn start(options: GroupOptions) -> Result<Arc<Self>, GroupError> {
        let _ = HybridClock::new(options.clock);
        Err(GroupError::Raft("the group is not built yet".into()))
    }

    /// Queues the action; the leader drains its queue into one entry, stamps each command with the
    /// hybrid clock and answers when it is applied. `Unavailable` leaves it open whether it will be.
    pub async fn propose(&self, _request: RequestId, _action: Action) -> Result<Outcome, ServiceError> {
        unavailable()
    }

    /// After `Ok`, [`Self::view`] shows everything that was committed before this call began.
    pub async fn linearize(&self) -> Result<(), ServiceError> {
        unavailable()
    }

    /// The applied state at one point in time. Hold it shortly: it keeps old versions alive.
    pub fn view(&self) -> Box<dyn ReadView + Send + Sync> {
        unreachable!("start never succeeds yet")
    }

    /// The group as this server sees it.
    pub fn status(&self) -> GroupStatus {
        unreachable!("start never succeeds yet")
    }

    /// The term, while this server leads and has applied an entry of that term (so its state holds
    /// all that earlier leaders acknowledged); None otherwise.
    pub fn leadership(&self) -> watch::Receiver<Option<u64>> {
        watch::channel(None).1
    }

    /// Cluster time: ahead of the stamps of all applied commands.
    pub fn clock(&self) -> &HybridClock {
        &self.clock
    }

    /// Takes `new` in as a learner, waits until it has caught up, gives it the vote of `lost` and
    /// removes that one. May be called again after an error or under another leader.
    pub async fn replace_member(&self, _lost: MetadataNodeId, _new: MetadataMember) -> Result<(), ServiceError> {
        unavailable()
    }

    /// Leaves cleanly: flushes the state and stops every task.
    pub async fn shutdown(&self) {}
}
