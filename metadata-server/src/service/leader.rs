//! What a leader keeps in memory for one leadership. Nothing here is replicated and nothing must
//! be: a new leader starts all timers anew, learns the rest from the next reports, and finds the
//! work of repair in the state.

use tokio::sync::{Notify, watch};

use super::activity::SessionActivity;
use super::events::LeaseDesk;
use super::locks::LockDesk;
use super::repair::RepairDesk;
use super::reserve::ReserveDesk;
use super::roster::Roster;
use crate::lease::LeaseTable;
use crate::namespace::cluster::ClusterRecord;
use crate::write_reserve::Ledger;

/// Memory of one leadership.
pub(super) struct Leader {
    /// What the cluster is.
    pub(super) cluster: ClusterRecord,
    /// Signs of life of sessions.
    pub(super) sessions: SessionActivity,
    /// Leases of mounts, and what mounts are asked.
    pub(super) leases: LeaseDesk,
    /// What mounts may acknowledge before it is committed.
    pub(super) reserve: ReserveDesk,
    /// Mounts that wait for locks.
    pub(super) locks: LockDesk,
    /// Chunk servers and what they reported.
    pub(super) roster: Roster,
    /// Work for chunk servers.
    pub(super) repair: RepairDesk,
    /// Wakes the placement task: the set of disks may have changed.
    pub(super) disks_changed: Notify,
    closed: watch::Sender<bool>,
}

impl Leader {
    pub(super) fn new(cluster: ClusterRecord, leases: LeaseTable, reserve: Ledger) -> Self {
        Self {
            cluster,
            sessions: SessionActivity::default(),
            leases: LeaseDesk::new(leases),
            reserve: ReserveDesk::new(reserve),
            locks: LockDesk::default(),
            roster: Roster::default(),
            repair: RepairDesk::default(),
            disks_changed: Notify::new(),
            closed: watch::channel(false).0,
        }
    }

    /// The leadership is over.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Returns when the leadership is over.
    pub(super) async fn ended(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives in self, so the wait ends only with `true`.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}
