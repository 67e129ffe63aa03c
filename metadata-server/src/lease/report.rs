//! What the table tells people: `cairnctl leases`, metrics. Reads only.

use std::time::Duration;

use cairn_common::ids::{InodeId, LeaseGeneration, SessionId};

use super::table::LeaseTable;

/// What a session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLeases {
    /// Its generation.
    pub generation: LeaseGeneration,
    /// Whether it has taken that over.
    pub checked_in: bool,
    /// Until when its shared leases may be used, on the leader's clock.
    pub horizon: Duration,
    /// Inodes on which it has anything.
    pub held: usize,
    /// Recalls that it has not answered.
    pub recalls: usize,
}

/// Sizes of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTotals {
    /// Sessions.
    pub sessions: usize,
    /// Pairs of session and inode.
    pub leases: usize,
    /// Inodes that changes under way pin.
    pub pinned: usize,
    /// Recalls that are not answered.
    pub recalls: usize,
}

impl LeaseTable {
    /// What a session holds; None if it is not known.
    pub fn session(&self, session: SessionId) -> Option<SessionLeases> {
        self.sessions.get(&session).map(|known| SessionLeases {
            generation: known.generation(self.term),
            checked_in: known.checked_in,
            horizon: known.horizon,
            held: self.holders.count(session),
            recalls: known.recalls.len(),
        })
    }

    /// Sessions with a shared lease on the inode, by number.
    pub fn holders_of(&self, inode: InodeId) -> Vec<SessionId> {
        self.holders.on(inode).filter(|(_, on)| on.leased).map(|(session, _)| session).collect()
    }

    /// Inodes on which the session has a shared lease, by number, at most `limit`.
    pub fn held_by(&self, session: SessionId, limit: usize) -> Vec<InodeId> {
        self.holders.by(session).filter(|(_, on)| on.leased).map(|(inode, _)| inode).take(limit).collect()
    }

    /// Whether a change under way pins the inode.
    pub fn is_pinned(&self, inode: InodeId) -> bool {
        self.pins.contains_key(&inode)
    }

    /// Whether nobody gets leases on the inode because it bounces.
    pub fn is_contended(&self, inode: InodeId, now: Duration) -> bool {
        self.contention.is_contended(inode, now)
    }

    /// Sizes.
    pub fn totals(&self) -> LeaseTotals {
        LeaseTotals {
            sessions: self.sessions.len(),
            leases: self.holders.total(),
            pinned: self.pins.len(),
            recalls: self.sessions.values().map(|known| known.recalls.len()).sum(),
        }
    }
}
