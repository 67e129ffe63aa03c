//! Changes under way: what they pin and whom they wait for. Pins are counted: changes do not exclude
//! each other (the state does), they only keep grants away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};

use super::table::{LeaseTable, Output};

/// A change (or a query that recalls an exclusive lease) under way under one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(pub u64);

/// What a change or a query needs of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    /// The inode.
    pub inode: InodeId,
    /// The inode changes: it is pinned, and shared leases on it are recalled. False: it is only shown,
    /// and nobody else may hold it exclusively.
    pub change: bool,
    /// The session that holds it exclusively in the state.
    pub exclusive: Option<SessionId>,
    /// Its last name goes: sessions are asked whether they have it open.
    pub last_name: bool,
    /// The sender's own leases on it need no recall.
    pub covered: bool,
}

/// Whether a change may go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nobody else holds anything on what it needs: propose it now.
    Clear {
        /// Sessions that have, or may have, the inode open whose last name goes.
        keep_open: Vec<SessionId>,
    },
    /// Ask again when woken (`Output::Wake`), and at this time if there is one.
    Wait {
        /// On the leader's clock.
        until: Option<Duration>,
    },
}

/// A change under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) sender: SessionId,
    pub(super) pins: BTreeSet<InodeId>,
    /// Tickets that must be answered, and by whom.
    pub(super) awaits: BTreeMap<u64, SessionId>,
    pub(super) last_name: bool,
    /// Who said that it has the inode open whose last name goes.
    pub(super) openers: BTreeSet<SessionId>,
}

impl Change {
    pub(super) fn new(sender: SessionId) -> Self {
        Self { sender, pins: BTreeSet::new(), awaits: BTreeMap::new(), last_name: false, openers: BTreeSet::new() }
    }
}

impl LeaseTable {
    /// Whether a change may take the exclusive lease on an inode for its sender: not while somebody
    /// else waits for the inode, or it bounces.
    pub fn may_take_exclusive(&self, change: ChangeId, inode: InodeId, now: Duration) -> bool {
        let Some(change) = self.changes.get(&change) else { return false };
        let pins = self.pins.get(&inode).copied().unwrap_or(0);
        let others = pins > u32::from(change.pins.contains(&inode));
        let recalled = self.holders.of(change.sender, inode).recalls > 0;
        !others && !recalled && !self.contention.is_contended(inode, now)
    }

    /// Begins a change of a session, or a query that recalls.
    pub fn begin(&mut self, sender: SessionId) -> ChangeId {
        let id = ChangeId(self.next_change);
        self.next_change += 1;
        self.changes.insert(id, Change::new(sender));
        id
    }

    /// Pins and recalls what the change needs; more may be added later.
    pub fn need(&mut self, id: ChangeId, needs: &[Need], now: Duration) {
        let Some(mut change) = self.changes.remove(&id) else { return };
        for need in needs {
            if need.change {
                if change.pins.insert(need.inode) {
                    *self.pins.entry(need.inode).or_default() += 1;
                }
                self.contention.access(need.inode, change.sender, true, now, &self.rules);
            }
            change.last_name |= need.last_name;
            self.recall(id, &mut change, need, now);
        }
        self.changes.insert(id, change);
    }

    fn recall(&mut self, id: ChangeId, change: &mut Change, need: &Need, now: Duration) {
        let mut asked: BTreeSet<SessionId> =
            need.exclusive.into_iter().filter(|holder| *holder != change.sender).collect();
        if need.change {
            let holders = self.holders.on(need.inode);
            let matters = holders.filter(|(_, on)| on.leased || on.recalls > 0 || (on.open && need.last_name));
            asked.extend(matters.map(|(session, _)| session));
        }
        let mut conflict = false;
        for session in asked {
            let own = session == change.sender;
            // Who holds it exclusively knows better than any lease; and its commits are what a flush is made
            // of, which must not wait for the answer that waits for the flush.
            if own && (need.covered || !need.change || need.exclusive == Some(session)) {
                continue;
            }
            let exclusive = !own && need.exclusive == Some(session);
            let Some(known) = self.sessions.get_mut(&session) else { continue };
            let ticket = known.recalls.fitting(need.inode, exclusive, need.last_name).unwrap_or_else(|| {
                conflict |= !own;
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                known.recalls.insert(need.inode, ticket, exclusive, need.last_name, now);
                self.holders.change(session, need.inode, |holding| {
                    (holding.leased, holding.open) = (false, false);
                    holding.recalls += 1;
                });
                self.outputs.insert(Output::Mail(session));
                ticket
            });
            if let Some(recall) = known.recalls.get_mut(ticket) {
                recall.waiters.insert(id);
            }
            change.awaits.insert(ticket, session);
        }
        if conflict {
            self.contention.recalled(need.inode, now, &self.rules);
        }
    }

    /// Whether the change may go on. Gives up sessions whose horizon is over.
    pub fn look(&mut self, id: ChangeId, now: Duration) -> Standing {
        let Some(change) = self.changes.get(&id) else { return Standing::Wait { until: None } };
        if now < self.settled && !self.unchecked.is_empty() && !change.pins.is_empty() {
            return Standing::Wait { until: Some(self.settled) };
        }
        let mut until: Option<Duration> = None;
        let mut waits = false;
        for (ticket, session) in change.awaits.clone() {
            let Some(limit) = self.limit(session, ticket, now) else { continue };
            waits = true;
            until = [until, limit].into_iter().flatten().min();
        }
        let Some(change) = self.changes.get(&id) else { return Standing::Wait { until: None } };
        if waits {
            return Standing::Wait { until };
        }
        let mut keep_open = change.openers.clone();
        if change.last_name {
            keep_open.extend(&self.unchecked);
        }
        Standing::Clear { keep_open: keep_open.into_iter().collect() }
    }

    /// None: the recall needs no answer any more. Else until when it is waited for, as far as is known.
    fn limit(&mut self, session: SessionId, ticket: u64, now: Duration) -> Option<Option<Duration>> {
        let known = self.sessions.get_mut(&session)?;
        let recall = known.recalls.get(ticket)?;
        if recall.exclusive {
            if known.evicting {
                return Some(None);
            }
            if now < known.exclusive_until {
                return Some(Some(known.exclusive_until));
            }
            known.evicting = true;
            self.outputs.insert(Output::Evict(session));
            return Some(None);
        }
        if now < known.horizon {
            return Some(Some(known.horizon));
        }
        self.give_up(session);
        None
    }

    /// The change was made, and `changed` is what it wrote: writes its sender down as a holder of these
    /// where that may be, and unpins. Answers which of them the sender is told of; they are read
    /// afterwards. What it held before and is not told of it goes on holding, until it is asked for it:
    /// its kernel may still believe what it was told under that lease, such as other names.
    pub fn finish(&mut self, id: ChangeId, changed: &[InodeId], now: Duration) -> Vec<InodeId> {
        let Some(sender) = self.changes.get(&id).map(|change| change.sender) else { return Vec::new() };
        self.abandon(id);
        changed.iter().copied().filter(|inode| self.try_grant(sender, *inode, now)).collect()
    }

    /// The change is over and has changed nothing. (One that may still be made must stay.)
    pub fn abandon(&mut self, id: ChangeId) {
        let Some(change) = self.changes.remove(&id) else { return };
        for (ticket, session) in change.awaits {
            if let Some(recall) = self.sessions.get_mut(&session).and_then(|known| known.recalls.get_mut(ticket)) {
                recall.waiters.remove(&id);
            }
        }
        for inode in change.pins {
            if let Some(count) = self.pins.get_mut(&inode) {
                *count -= 1;
                if *count == 0 {
                    self.pins.remove(&inode);
                }
            }
        }
    }
}
