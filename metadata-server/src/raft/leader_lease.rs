//! For how long this server is surely the only leader, so that a read needs no round of heartbeats
//! (Raft dissertation, section 6.4.1). A round that began at `t0` and that a majority answered makes
//! the lease valid until `t0 + length`: every voter of that majority promised, no earlier than `t0`,
//! to vote for nobody for `election_max`.
//!
//! What makes it sound, where openraft's own lease is not:
//! - time is CLOCK_BOOTTIME, so a leader whose machine was suspended does not trust an old lease;
//!   voters count on CLOCK_MONOTONIC, which can only make their promise longer;
//! - a voter that was restarted has forgotten its promise: it grants no vote, and asks for none,
//!   within `election_min` of its start (see [`super::service`]; openraft's election timer starts
//!   anew), and the lease is shorter than that;
//! - the lease is a sixth shorter than the shortest promise: clocks may drift by that much.
//!
//! Leadership is never handed over by a transfer, which voters would grant in spite of a promise.

use std::time::Duration;

use parking_lot::Mutex;

use super::options::GroupTimings;

/// A leader's lease.
pub(super) struct LeaderLease {
    length: Duration,
    held: Mutex<Held>,
}

#[derive(Clone, Copy, Default)]
struct Held {
    term: u64,
    until: Duration,
}

impl LeaderLease {
    /// No lease yet.
    pub(super) fn new(timings: &GroupTimings) -> Self {
        Self { length: timings.election_min * 5 / 6, held: Mutex::default() }
    }

    /// A majority confirmed the leader of `term` in a round that began at `begun`.
    pub(super) fn confirm(&self, term: u64, begun: Duration) {
        let mut held = self.held.lock();
        let until = begun + self.length;
        if term > held.term {
            *held = Held { term, until };
        } else if term == held.term {
            held.until = held.until.max(until);
        }
    }

    /// What remains of the lease of `term`; None if it is over.
    pub(super) fn remaining(&self, term: u64, now: Duration) -> Option<Duration> {
        let held = *self.held.lock();
        let left = held.until.checked_sub(now).filter(|left| !left.is_zero())?;
        (held.term == term).then_some(left)
    }

    /// Whether so little remains that a round should renew it before readers have to wait.
    pub(super) fn is_short(&self, remaining: Duration) -> bool {
        remaining < self.length * 3 / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_counts_from_the_start_of_the_round_and_only_for_its_term() {
        let lease = LeaderLease::new(&GroupTimings { election_min: MS * 300, ..GroupTimings::default() });
        assert_eq!(lease.remaining(3, MS), None);
        lease.confirm(3, MS * 1000);
        assert_eq!(lease.remaining(3, MS * 1100), Some(MS * 150));
        assert_eq!(lease.remaining(3, MS * 1250), None);
        assert_eq!(lease.remaining(2, MS * 1100), None);
        lease.confirm(3, MS * 900);
        assert_eq!(lease.remaining(3, MS * 1100), Some(MS * 150), "a late answer takes nothing away");
        lease.confirm(4, MS * 1100);
        lease.confirm(3, MS * 1200);
        assert_eq!(lease.remaining(3, MS * 1201), None, "an older term is over for good");
        assert_eq!(lease.remaining(4, MS * 1300), Some(MS * 50));
        assert!(lease.is_short(MS * 149) && !lease.is_short(MS * 151));
    }
}
