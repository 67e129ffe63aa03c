//! When the cluster is told what programs have read: a little later, many in one message.

use std::time::{Duration, Instant};

use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use parking_lot::Mutex;

/// Times the telling. What is to be told is with the leases.
#[derive(Debug, Default)]
pub(crate) struct AccessTimes {
    waiting_since: Mutex<Option<Instant>>,
    /// Held while some are told: a time that a program sets must not be overtaken by an older one.
    pub(crate) telling: tokio::sync::Mutex<()>,
}

impl AccessTimes {
    /// Something was read.
    pub(crate) fn note(&self) {
        self.waiting_since.lock().get_or_insert_with(Instant::now);
    }

    /// Whether to tell so many: they are enough for a message, or have waited for `longest`.
    pub(crate) fn is_due(&self, many: usize, longest: Duration) -> bool {
        let waited = self.waiting_since.lock().is_some_and(|since| since.elapsed() >= longest);
        many > 0 && (waited || many >= MAX_LEASES_PER_MESSAGE)
    }

    /// All that was read before this is told, or about to be.
    pub(crate) fn begin_anew(&self) {
        *self.waiting_since.lock() = None;
    }
}
