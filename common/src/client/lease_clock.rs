//! How long this session may act on its leases. Written by the keep-alive, read without a lock by
//! whoever answers from memory. Counts from the moment a keep-alive was *sent*, on a clock that goes on
//! while the machine sleeps: of the client's and the leader's idea of a lease's end, the client's is
//! always the earlier one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::ids::LeaseGeneration;

/// The leases of a session in time.
pub struct LeaseClock {
    clock: Arc<dyn Clock>,
    /// Generation whose grants count.
    adopted: AtomicU64,
    /// Generation that keep-alives carry: that of `adopted`, once its open files are reclaimed.
    checked_in: AtomicU64,
    /// End of all shared leases, in nanoseconds of the clock; 0: none is valid.
    horizon: AtomicU64,
    exclusive_horizon: AtomicU64,
}

/// What the clock said at one moment: whatever it allows was allowed at some time between the calls
/// before it and its return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseTime {
    /// Generation whose grants count; the default (0) is none.
    pub generation: LeaseGeneration,
    /// Shared leases of this generation are valid before it.
    pub horizon: Duration,
    /// Exclusive leases may be acted on before it.
    pub exclusive_horizon: Duration,
    /// Now, on the clock of both horizons.
    pub now: Duration,
}

impl LeaseTime {
    /// Whether shared leases are valid.
    pub fn shared_valid(&self) -> bool {
        self.now < self.horizon
    }

    /// Whether exclusive leases may be acted on.
    pub fn exclusive_valid(&self) -> bool {
        self.now < self.exclusive_horizon
    }

    /// What remains of shared leases.
    pub fn shared_left(&self) -> Duration {
        self.horizon.saturating_sub(self.now)
    }
}

impl LeaseClock {
    /// No lease is valid yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            adopted: AtomicU64::new(0),
            checked_in: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            exclusive_horizon: AtomicU64::new(0),
        }
    }

    /// The clock that both horizons are of.
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Horizons, generation and time. Read in this order: a horizon that is read before its generation
    /// is of that generation or an earlier one that was valid then, and the time comes last, so that a
    /// process that was stopped in between finds its leases over.
    pub fn read(&self) -> LeaseTime {
        let horizon = Duration::from_nanos(self.horizon.load(Ordering::SeqCst));
        let exclusive_horizon = Duration::from_nanos(self.exclusive_horizon.load(Ordering::SeqCst));
        let generation = LeaseGeneration(self.adopted.load(Ordering::SeqCst));
        LeaseTime { generation, horizon, exclusive_horizon, now: self.clock.monotonic() }
    }

    /// The generation that keep-alives carry.
    pub fn checked_in(&self) -> LeaseGeneration {
        LeaseGeneration(self.checked_in.load(Ordering::SeqCst))
    }

    /// A keep-alive sent at `sent` was answered with the generation that it carried. Horizons never go
    /// back while the generation stays.
    pub(super) fn renewed(&self, generation: LeaseGeneration, sent: Duration, shared: Duration, exclusive: Duration) {
        if generation.0 == 0 || self.checked_in() != generation || self.adopted.load(Ordering::SeqCst) != generation.0 {
            return;
        }
        self.horizon.fetch_max(nanos(sent + shared), Ordering::SeqCst);
        self.exclusive_horizon.fetch_max(nanos(sent + exclusive), Ordering::SeqCst);
    }

    /// A leader does not know the shared leases: none is valid from here on. Exclusive ones are in the
    /// replicated state and stay.
    pub(super) fn lose_shared(&self) {
        self.horizon.store(0, Ordering::SeqCst);
    }

    /// From here on grants of this generation count and others do not. Called when everything that an
    /// earlier one granted is dropped. Answers from memory begin with the first keep-alive after
    /// [`Self::check_in`].
    pub fn adopt(&self, generation: LeaseGeneration) {
        self.lose_shared();
        self.adopted.store(generation.0, Ordering::SeqCst);
    }

    /// Leases of open files are reclaimed: keep-alives may say so.
    pub(super) fn check_in(&self, generation: LeaseGeneration) {
        self.checked_in.store(generation.0, Ordering::SeqCst);
    }

    /// Nothing is valid any more: the session is over.
    pub(super) fn end(&self) {
        self.lose_shared();
        self.exclusive_horizon.store(0, Ordering::SeqCst);
        self.adopted.store(0, Ordering::SeqCst);
        self.checked_in.store(0, Ordering::SeqCst);
    }
}

impl fmt::Debug for LeaseClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseClock").field("time", &self.read()).finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::clock::Timestamp;

    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn wall(&self) -> Timestamp {
            Timestamp::default()
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock()
        }
    }

    const SHARED: Duration = Duration::from_secs(1);
    const EXCLUSIVE: Duration = Duration::from_secs(10);

    #[test]
    fn leases_count_from_the_sending_and_end_by_themselves() {
        let hand = Arc::new(Hand(Mutex::new(Duration::from_secs(100))));
        let clock = LeaseClock::new(hand.clone());
        let generation = LeaseGeneration(7);
        clock.renewed(generation, Duration::from_secs(100), SHARED, EXCLUSIVE);
        assert!(!clock.read().shared_valid(), "the generation is not adopted");
        clock.adopt(generation);
        clock.renewed(generation, Duration::from_secs(100), SHARED, EXCLUSIVE);
        assert!(!clock.read().shared_valid(), "open files are not reclaimed");
        clock.check_in(generation);
        clock.renewed(generation, Duration::from_millis(99_500), SHARED, EXCLUSIVE);
        assert_eq!(clock.read().shared_left(), Duration::from_millis(500));
        clock.renewed(generation, Duration::from_millis(99_000), SHARED, EXCLUSIVE);
        assert_eq!(clock.read().shared_left(), Duration::from_millis(500), "an older answer came later");
        *hand.0.lock() += Duration::from_millis(500);
        assert!(!clock.read().shared_valid() && clock.read().exclusive_valid());
        *hand.0.lock() += EXCLUSIVE;
        assert!(!clock.read().exclusive_valid());
    }

    #[test]
    fn an_answer_for_an_older_generation_renews_nothing() {
        let hand = Arc::new(Hand(Mutex::new(Duration::from_secs(100))));
        let clock = LeaseClock::new(hand);
        clock.adopt(LeaseGeneration(1));
        clock.check_in(LeaseGeneration(1));
        clock.renewed(LeaseGeneration(1), Duration::from_secs(100), SHARED, EXCLUSIVE);
        clock.adopt(LeaseGeneration(2));
        assert!(!clock.read().shared_valid() && clock.read().exclusive_valid());
        clock.renewed(LeaseGeneration(1), Duration::from_secs(100), SHARED, EXCLUSIVE);
        clock.renewed(LeaseGeneration(2), Duration::from_secs(100), SHARED, EXCLUSIVE);
        assert!(!clock.read().shared_valid(), "not checked in with it");
        clock.end();
        assert!(!clock.read().exclusive_valid());
    }
}
