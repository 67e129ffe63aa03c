//! The clock of a simulated machine, for code that takes a [`Clock`].

use std::time::Duration;

use cairn_common::clock::{Clock, Timestamp};

use crate::process;

/// Shows the time of whichever machine runs now.
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn wall(&self) -> Timestamp {
        let (_, wall) = process::now().unwrap_or_default();
        Timestamp { seconds: (wall / 1_000_000_000) as i64, nanos: (wall % 1_000_000_000) as u32 }
    }

    fn monotonic(&self) -> Duration {
        let (monotonic, _) = process::now().unwrap_or_default();
        Duration::from_nanos(monotonic)
    }
}
