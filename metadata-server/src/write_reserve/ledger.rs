//! Who may hold how much of the write reserve. Volatile: a new leader learns what sessions hold from their
//! own reports.
//!
//! The promise: the bytes that sessions hold or may believe to hold, all together, are no more than the
//! budget was when the last of them was granted. Each counts with the larger of what it said it holds and
//! what it was last answered, since an answer may be lost or on its way. So what is taken from one is given
//! to another only when the first has said that it holds less.

use std::collections::{BTreeMap, BTreeSet};

use cairn_common::ids::SessionId;
use cairn_common::protocol::write_reserve::{ReserveReport, ReserveShare};

/// The division of the budget.
#[derive(Debug, Default)]
pub struct Ledger {
    /// None until it is known.
    budget: Option<u64>,
    holders: BTreeMap<SessionId, Holder>,
    /// Sessions of earlier leaders that have not said yet what they hold.
    unheard: BTreeSet<SessionId>,
    /// What all count together.
    counted: u64,
    /// What each may hold at most, so that all get a fair share.
    cap: u64,
    /// Reports since the cap was computed.
    reports: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    number: u64,
    held: u64,
    granted: u64,
    wanted: u64,
    full: bool,
}

impl Holder {
    fn counts(&self) -> u64 {
        self.held.max(self.granted)
    }
}

/// Sums, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// None until it is known.
    pub budget: Option<u64>,
    /// What sessions hold or may believe to hold.
    pub granted: u64,
    /// Sessions that have met full disks.
    pub full: u32,
}

impl Ledger {
    /// The ledger of a new leader, in a state with these sessions. Nobody is granted more than it holds
    /// before each of them has reported or is gone.
    pub fn new(sessions: impl IntoIterator<Item = SessionId>) -> Self {
        Self { unheard: sessions.into_iter().collect(), ..Self::default() }
    }

    /// The budget is known, or has changed.
    pub fn set_budget(&mut self, budget: u64) {
        if self.budget.replace(budget) != Some(budget) {
            self.divide();
        }
    }

    /// A session was opened under this leader.
    pub fn open(&mut self, session: SessionId) {
        self.holders.entry(session).or_default();
    }

    /// A session is over: it holds nothing.
    pub fn end(&mut self, session: SessionId) {
        self.unheard.remove(&session);
        if let Some(holder) = self.holders.remove(&session) {
            self.counted -= holder.counts();
        }
    }

    /// Ends all sessions but these.
    pub fn retain(&mut self, mut is_open: impl FnMut(SessionId) -> bool) {
        let known = self.holders.keys().chain(&self.unheard);
        let gone: Vec<SessionId> = known.copied().filter(|session| !is_open(*session)).collect();
        gone.into_iter().for_each(|session| self.end(session));
    }

    /// A report that was made after the session has heard all answers of earlier leaders. Answers what it may
    /// hold from now on; None while that is not known: what it has stays.
    pub fn report(&mut self, session: SessionId, report: ReserveReport) -> Option<ReserveShare> {
        let holder = self.holders.get(&session).copied().unwrap_or_default();
        self.unheard.remove(&session);
        if report.number <= holder.number {
            // A copy. Whoever waits for an answer to the newest report gets the same once more.
            let full = self.budget == Some(0);
            return self.budget.map(|_| ReserveShare { granted: holder.granted, full });
        }
        let others = self.counted - holder.counts();
        let ReserveReport { number, held, wanted, full } = report;
        let mut holder = Holder { number, held, granted: held, wanted, full };
        self.holders.insert(session, holder);
        self.reports += 1;
        if self.reports >= self.holders.len() {
            self.divide();
        }
        let share = self.budget.map(|budget| {
            let free = budget.saturating_sub(others);
            let most = if self.unheard.is_empty() { free } else { free.min(held) };
            ReserveShare { granted: wanted.min(self.cap).min(most), full: budget == 0 }
        });
        if let Some(share) = share {
            holder.granted = share.granted;
        }
        self.holders.insert(session, holder);
        self.counted = others + holder.counts();
        share
    }

    /// Sums.
    pub fn totals(&self) -> Totals {
        let full = self.holders.values().filter(|holder| holder.full).count();
        Totals { budget: self.budget, granted: self.counted, full: u32::try_from(full).unwrap_or(u32::MAX) }
    }

    /// Computes the cap: with it everybody who wants less than others gets that, and the others get the same.
    fn divide(&mut self) {
        self.reports = 0;
        let mut wanted: Vec<u64> = self.holders.values().map(|holder| holder.wanted).collect();
        wanted.sort_unstable();
        let mut left = self.budget.unwrap_or(0);
        let mut sharers = wanted.len() as u64;
        self.cap = left;
        for wanted in wanted {
            self.cap = left / sharers;
            if wanted > self.cap {
                return;
            }
            left -= wanted;
            sharers -= 1;
        }
        // There is enough for all.
        self.cap = u64::MAX;
    }
}
