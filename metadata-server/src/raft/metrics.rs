//! Measurements of the group.
use std::time::Duration;
/// A sync of the log that served `entries`.
pub(super) fn log_synced(_took: Duration, _entries: u64) {}
