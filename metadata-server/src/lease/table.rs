//! [`LeaseTable`]: all leases of one leadership.
//!
//! What must hold at every moment: whoever may answer about an inode from memory is written down as
//! a holder of it, or has a recall of it to answer, or is a session that has not checked in and whose
//! horizon is ahead; and a change goes on only when none of these is left on what it touches, while
//! what it touches stays pinned until its outcome is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::ids::{InodeId, LeaseGeneration, SessionId};
use cairn_common::protocol::metadata::SessionEvent;

use super::change::{Change, ChangeId};
use super::contention::Contention;
use super::holders::Holders;
use super::recall::Recall;
use super::rules::LeaseRules;
use super::session::Session;

/// Recalls in one answer to a poll.
const MAIL_MAX: usize = 1024;

/// Something that the caller must do; see [`LeaseTable::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// The session has new mail, a new standing, or is gone: polls and keep-alives of it look again.
    Mail(SessionId),
    /// The change looks again.
    Wake(ChangeId),
    /// The session has done nothing about an exclusive recall for too long: end it.
    Evict(SessionId),
    /// The session was not waited for any longer: all its shared leases were taken back.
    GaveUp(SessionId),
}

/// What a keep-alive has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// Shared leases are valid for `shared`, exclusive ones for so long, after the keep-alive was sent.
    Renewed {
        /// The generation, which the mount has.
        generation: LeaseGeneration,
        /// Validity of exclusive leases.
        exclusive: Duration,
    },
    /// Nothing was renewed: the mount has another generation than this one.
    Changed {
        /// To be taken over.
        generation: LeaseGeneration,
    },
    /// The mount has left a recall unanswered: ask again when it has answered, or then.
    Overdue {
        /// Its horizon.
        until: Duration,
    },
    /// The session is unknown or being ended.
    Fenced,
}

/// Until when a session may act on what it has, on the leader's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Horizons {
    /// On shared leases.
    pub shared: Duration,
    /// On exclusive leases.
    pub exclusive: Duration,
}

/// All shared leases, pins and recalls of one leadership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTable {
    pub(super) rules: LeaseRules,
    pub(super) term: u64,
    /// From then on nobody uses what an earlier leader granted.
    pub(super) settled: Duration,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that have not checked in.
    pub(super) unchecked: BTreeSet<SessionId>,
    pub(super) holders: Holders,
    /// How many changes pin an inode.
    pub(super) pins: BTreeMap<InodeId, u32>,
    pub(super) changes: BTreeMap<ChangeId, Change>,
    pub(super) contention: Contention,
    pub(super) next_ticket: u64,
    pub(super) next_change: u64,
    pub(super) outputs: BTreeSet<Output>,
}

impl LeaseTable {
    /// The table of a leader of that term, who began to lead at `began`; `sessions` are all that the
    /// state has, and whatever they hold is of an earlier leader.
    pub fn new(rules: LeaseRules, term: u64, began: Duration, sessions: impl IntoIterator<Item = SessionId>) -> Self {
        let sessions: BTreeMap<_, _> =
            sessions.into_iter().map(|session| (session, Session::new(false, &rules, began))).collect();
        Self {
            term,
            settled: began + LeaseRules::counted(rules.shared),
            unchecked: sessions.keys().copied().collect(),
            sessions,
            holders: Holders::default(),
            pins: BTreeMap::new(),
            changes: BTreeMap::new(),
            contention: Contention::default(),
            // Tickets of different leaders differ, so a late answer hits nothing.
            next_ticket: (term << 32) | 1,
            next_change: 1,
            outputs: BTreeSet::new(),
            rules,
        }
    }

    /// Whether the session is known, and not being ended.
    pub fn is_live(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|known| !known.fenced)
    }

    /// What must be done because of the calls since the last time.
    pub fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs).into_iter().collect()
    }

    /// A session was opened under this leader: it holds nothing.
    pub fn open_session(&mut self, session: SessionId, now: Duration) {
        self.sessions.entry(session).or_insert_with(|| Session::new(true, &self.rules, now));
    }

    /// Nothing is renewed or granted to the session from now on. Answers until when it may use what it
    /// has: only then may it be ended in the state, unless it ends itself.
    pub fn fence(&mut self, session: SessionId) -> Option<Horizons> {
        let known = self.sessions.get_mut(&session)?;
        known.fenced = true;
        self.outputs.insert(Output::Mail(session));
        Some(Horizons { shared: known.horizon, exclusive: known.exclusive_until })
    }

    /// The session was ended in the state, and uses nothing any more.
    pub fn end_session(&mut self, session: SessionId) {
        let Some(ended) = self.sessions.remove(&session) else { return };
        self.check_in(session);
        self.holders.remove(session);
        let waiters = ended.recalls.all().flat_map(|(_, recall)| recall.waiters.iter());
        self.outputs.extend(waiters.map(|change| Output::Wake(*change)));
        self.outputs.insert(Output::Mail(session));
    }

    /// A keep-alive, received then with that generation, from a session of the state, answered under
    /// proof that this server led after `received`.
    pub fn keep_alive(
        &mut self,
        session: SessionId,
        generation: LeaseGeneration,
        received: Duration,
        now: Duration,
    ) -> Renewal {
        let Some(known) = self.sessions.get_mut(&session).filter(|known| !known.fenced) else {
            return Renewal::Fenced;
        };
        let current = known.generation(self.term);
        if current != generation {
            return Renewal::Changed { generation: current };
        }
        let overdue = known.recalls.oldest(false).is_some_and(|issued| issued + self.rules.patience <= received);
        if overdue && now < known.horizon {
            return Renewal::Overdue { until: known.horizon };
        }
        if overdue {
            self.give_up(session);
            return Renewal::Changed { generation: self.generation(session).unwrap_or_default() };
        }
        let exclusive = known.renew(received, &self.rules);
        self.check_in(session);
        Renewal::Renewed { generation, exclusive }
    }

    /// The session holds nothing of an earlier generation.
    pub(super) fn check_in(&mut self, session: SessionId) {
        if self.unchecked.remove(&session) && self.unchecked.is_empty() {
            self.outputs.extend(self.changes.keys().map(|change| Output::Wake(*change)));
        }
    }

    /// The session's horizon is over: it uses no shared lease any more.
    pub(super) fn give_up(&mut self, session: SessionId) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        known.next_generation();
        self.unchecked.insert(session);
        self.holders.drop_leases(session);
        let shared: Vec<u64> =
            known.recalls.all().filter(|(_, recall)| !recall.exclusive).map(|(ticket, _)| ticket).collect();
        for ticket in shared {
            self.resolve(session, ticket);
        }
        self.outputs.extend([Output::GaveUp(session), Output::Mail(session)]);
    }

    /// The generation of shared leases that are granted to a session.
    pub fn generation(&self, session: SessionId) -> Option<LeaseGeneration> {
        self.sessions.get(&session).map(|known| known.generation(self.term))
    }

    /// The session has committed or given up something: it is not stuck.
    pub fn progress(&mut self, session: SessionId, now: Duration) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.progress = known.progress.max(now);
        }
    }

    /// Writes the session down as a holder, before the answer is read. Answers which inodes it does
    /// not get: they are pinned or contended, or being recalled from it, or it has too many.
    pub fn grant(&mut self, session: SessionId, inodes: &[InodeId], now: Duration) -> Vec<InodeId> {
        let refused = |inode: &&InodeId| !self.try_grant(session, **inode, now);
        inodes.iter().filter(refused).copied().collect()
    }

    pub(super) fn try_grant(&mut self, session: SessionId, inode: InodeId, now: Duration) -> bool {
        self.contention.access(inode, session, false, now, &self.rules);
        let may_hold = self.sessions.get(&session).is_some_and(Session::may_hold);
        let holding = self.holders.of(session, inode);
        let room = holding.leased || self.holders.count(session) < self.rules.most_leases;
        let free = !self.pins.contains_key(&inode) && !self.contention.is_contended(inode, now);
        let granted = may_hold && room && free && holding.recalls == 0;
        if granted {
            self.holders.change(session, inode, |holding| (holding.leased, holding.open) = (true, false));
        }
        granted
    }

    /// The session returns leases that it was granted under a generation. A copy that comes late (of
    /// another generation, or overtaken by a later return) takes nothing.
    pub fn return_leases(&mut self, session: SessionId, generation: LeaseGeneration, number: u64, inodes: &[InodeId]) {
        let term = self.term;
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if known.generation(term) == generation && known.returned < number {
            known.returned = number;
            self.give_back(session, inodes);
        }
    }

    /// The session was granted leases that it is not told of.
    pub fn give_back(&mut self, session: SessionId, inodes: &[InodeId]) {
        for inode in inodes {
            self.holders.change(session, *inode, |holding| (holding.leased, holding.open) = (false, false));
        }
    }

    /// What the session is asked now.
    pub fn mail(&mut self, session: SessionId, now: Duration) -> Vec<SessionEvent> {
        let Some(known) = self.sessions.get_mut(&session) else { return Vec::new() };
        known.recalls.take(now, self.rules.redeliver, MAIL_MAX)
    }

    /// The session has done what a recall asked for. Answers how long that took; None for a ticket
    /// that is not waited for any more.
    pub fn recall_done(&mut self, session: SessionId, ticket: u64, open: bool, now: Duration) -> Option<Duration> {
        self.progress(session, now);
        let (inode, recall) = self.resolve(session, ticket)?;
        if open {
            for waiter in &recall.waiters {
                if let Some(change) = self.changes.get_mut(waiter).filter(|_| recall.last_name) {
                    change.openers.insert(session);
                }
            }
            self.holders.change(session, inode, |holding| holding.open = true);
        }
        Some(now.saturating_sub(recall.issued))
    }

    pub(super) fn resolve(&mut self, session: SessionId, ticket: u64) -> Option<(InodeId, Recall)> {
        let known = self.sessions.get_mut(&session)?;
        let (inode, recall) = known.recalls.remove(ticket)?;
        self.holders.change(session, inode, |holding| holding.recalls = holding.recalls.saturating_sub(1));
        self.outputs.extend(recall.waiters.iter().map(|change| Output::Wake(*change)));
        // A keep-alive may wait for this.
        self.outputs.insert(Output::Mail(session));
        Some((inode, recall))
    }
}
