//! Who holds which inode, by inode and by session.

use std::collections::{BTreeMap, BTreeSet};

use cairn_common::ids::{InodeId, SessionId};

/// What a session has on an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    /// A shared lease.
    pub(super) leased: bool,
    /// It has given the lease back and said that a program has the file open.
    pub(super) open: bool,
    /// Recalls that it has not answered.
    pub(super) recalls: u16,
}

/// Both directions, always the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Holders {
    by_inode: BTreeMap<(InodeId, SessionId), Holding>,
    by_session: BTreeMap<SessionId, BTreeSet<InodeId>>,
}

const FIRST: SessionId = SessionId(0);
const LAST: SessionId = SessionId(u64::MAX);

impl Holders {
    pub(super) fn of(&self, session: SessionId, inode: InodeId) -> Holding {
        self.by_inode.get(&(inode, session)).copied().unwrap_or_default()
    }

    /// Everybody who has anything on the inode.
    pub(super) fn on(&self, inode: InodeId) -> impl Iterator<Item = (SessionId, Holding)> + '_ {
        self.by_inode.range((inode, FIRST)..=(inode, LAST)).map(|((_, session), holding)| (*session, *holding))
    }

    /// The session's inodes behind `after`.
    pub(super) fn by(&self, session: SessionId) -> impl Iterator<Item = (InodeId, Holding)> + '_ {
        let inodes = self.by_session.get(&session).into_iter().flatten();
        inodes.map(move |inode| (*inode, self.of(session, *inode)))
    }

    /// Inodes on which the session has something.
    pub(super) fn count(&self, session: SessionId) -> usize {
        self.by_session.get(&session).map_or(0, BTreeSet::len)
    }

    /// Pairs of session and inode.
    pub(super) fn total(&self) -> usize {
        self.by_inode.len()
    }

    pub(super) fn change(&mut self, session: SessionId, inode: InodeId, change: impl FnOnce(&mut Holding)) {
        let mut holding = self.of(session, inode);
        change(&mut holding);
        if holding == Holding::default() {
            self.by_inode.remove(&(inode, session));
            if let Some(inodes) = self.by_session.get_mut(&session) {
                inodes.remove(&inode);
                if inodes.is_empty() {
                    self.by_session.remove(&session);
                }
            }
        } else if self.by_inode.insert((inode, session), holding).is_none() {
            self.by_session.entry(session).or_default().insert(inode);
        }
    }

    /// The session has no lease and nothing open any more; recalls that it must answer stay.
    pub(super) fn drop_leases(&mut self, session: SessionId) {
        for inode in self.by_session.remove(&session).unwrap_or_default() {
            let key = (inode, session);
            match self.by_inode.get_mut(&key) {
                Some(holding) if holding.recalls > 0 => {
                    (holding.leased, holding.open) = (false, false);
                    self.by_session.entry(session).or_default().insert(inode);
                }
                _ => drop(self.by_inode.remove(&key)),
            }
        }
    }

    /// Nothing of the session is left.
    pub(super) fn remove(&mut self, session: SessionId) {
        for inode in self.by_session.remove(&session).unwrap_or_default() {
            self.by_inode.remove(&(inode, session));
        }
    }
}
