//! What the leader knows of one session's leases, besides the inodes.

use std::time::Duration;

use cairn_common::ids::LeaseGeneration;

use super::recall::Recalls;
use super::rules::LeaseRules;

/// Bits of a generation that count how often leases were taken back; the term is above them.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// A session of the state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    /// How often its shared leases were taken back, from 1.
    count: u32,
    /// It has told that it has this leader's generation: it holds nothing that the table does not know.
    pub(super) checked_in: bool,
    /// Shared leases, of this generation or an older one, are not used after this.
    pub(super) horizon: Duration,
    /// Exclusive leases are not used after this.
    pub(super) exclusive_until: Duration,
    /// When it last confirmed or committed something.
    pub(super) progress: Duration,
    /// It is being ended: nothing is renewed or granted any more.
    pub(super) fenced: bool,
    /// The caller was told to evict it.
    pub(super) evicting: bool,
    /// Number of its last return of leases.
    pub(super) returned: u64,
    pub(super) recalls: Recalls,
}

impl Session {
    /// A session that may hold leases of an earlier leader until `horizon`, or (`checked_in`) none.
    pub(super) fn new(checked_in: bool, rules: &LeaseRules, now: Duration) -> Self {
        Self {
            count: 1,
            checked_in,
            horizon: now + LeaseRules::counted(rules.shared),
            exclusive_until: now + LeaseRules::counted(rules.exclusive),
            progress: now,
            fenced: false,
            evicting: false,
            returned: 0,
            recalls: Recalls::default(),
        }
    }

    pub(super) fn generation(&self, term: u64) -> LeaseGeneration {
        LeaseGeneration((term << COUNT_BITS) | u64::from(self.count))
    }

    /// Takes all shared leases back.
    pub(super) fn next_generation(&mut self) {
        self.count = COUNT_MAX.min(self.count + 1);
        self.checked_in = false;
    }

    /// Whether leases may be granted: not when the next generation could not be told from this one.
    pub(super) fn may_hold(&self) -> bool {
        !self.fenced && self.count < COUNT_MAX
    }

    /// Since when it has done nothing about an exclusive recall.
    pub(super) fn stuck_since(&self) -> Option<Duration> {
        self.recalls.oldest(true).map(|issued| issued.max(self.progress))
    }

    /// Renews both horizons by a keep-alive that was received then; answers how long exclusive leases
    /// may be used after the keep-alive was sent.
    pub(super) fn renew(&mut self, received: Duration, rules: &LeaseRules) -> Duration {
        self.checked_in = true;
        self.horizon = self.horizon.max(received + LeaseRules::counted(rules.shared));
        // A session that does nothing about a recall gets no more than until it may be evicted.
        let limit = self.stuck_since().map(|since| (since + rules.exclusive).saturating_sub(received));
        let exclusive = limit.map_or(rules.exclusive, |limit| limit.min(rules.exclusive));
        self.exclusive_until = self.exclusive_until.max(received + LeaseRules::counted(exclusive));
        exclusive
    }
}
