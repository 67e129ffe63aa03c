//! Clocks behind a trait, so that a simulation can own time; and the hybrid logical clock
//! (Kulkarni et al., "Logical Physical Clocks", 2014) that stamps what the leader decides.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A point in wall-clock time: seconds since 1970 (may be negative) and 0..1e9 nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Timestamp {
    /// Converts from the standard library's time.
    pub fn from_system(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                let (mut seconds, mut nanos) = (-(before.as_secs() as i64), before.subsec_nanos());
                if nanos > 0 {
                    seconds -= 1;
                    nanos = 1_000_000_000 - nanos;
                }
                Self { seconds, nanos }
            }
        }
    }

    /// Converts to the standard library's time.
    pub fn to_system(self) -> SystemTime {
        let nanos = Duration::from_nanos(u64::from(self.nanos));
        if self.seconds >= 0 {
            UNIX_EPOCH + Duration::from_secs(self.seconds as u64) + nanos
        } else {
            UNIX_EPOCH - Duration::from_secs(self.seconds.unsigned_abs()) + nanos
        }
    }

    /// This time plus a duration; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = u64::from(self.nanos) + u64::from(duration.subsec_nanos());
        Self {
            seconds: self
                .seconds
                .saturating_add(duration.as_secs() as i64)
                .saturating_add((nanos / 1_000_000_000) as i64),
            nanos: (nanos % 1_000_000_000) as u32,
        }
    }

    /// Nanoseconds since the epoch; saturates.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

/// Where a process gets its time from.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may jump.
    fn wall(&self) -> Timestamp;
    /// Time since an arbitrary start that never jumps and goes on while the machine sleeps
    /// (CLOCK_BOOTTIME).
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// Never goes back and never repeats, and follows the wall clock when that is ahead.
pub struct HybridClock {
    clock: Arc<dyn Clock>,
    last: Mutex<Timestamp>,
}

impl HybridClock {
    /// Starts no earlier than the wall clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Mutex::new(Timestamp::default()) }
    }

    /// The next time: greater than every time returned or observed before.
    pub fn now(&self) -> Timestamp {
        let wall = self.clock.wall();
        let mut last = self.last.lock();
        *last = wall.max(last.plus(Duration::from_nanos(1)));
        *last
    }

    /// Takes in a time seen elsewhere (a replicated entry), so that [`Self::now`] passes it.
    pub fn observe(&self, seen: Timestamp) {
        let mut last = self.last.lock();
        *last = (*last).max(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Mutex<Timestamp>);

    impl Clock for Fixed {
        fn wall(&self) -> Timestamp {
            *self.0.lock()
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn hybrid_clock_never_goes_back() {
        let wall = Arc::new(Fixed(Mutex::new(Timestamp { seconds: 100, nanos: 0 })));
        let clock = HybridClock::new(wall.clone());
        let first = clock.now();
        *wall.0.lock() = Timestamp { seconds: 50, nanos: 0 };
        let second = clock.now();
        assert!(second > first, "the wall clock jumped back, the hybrid clock did not");
        clock.observe(Timestamp { seconds: 500, nanos: 7 });
        assert!(clock.now() > Timestamp { seconds: 500, nanos: 7 });
    }

    #[test]
    fn timestamps_before_the_epoch_survive() {
        let stamp = Timestamp { seconds: -5, nanos: 250 };
        assert_eq!(Timestamp::from_system(stamp.to_system()), stamp);
    }
}
