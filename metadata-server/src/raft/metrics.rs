//! Measurements of the group; names in `common::telemetry`.

use std::time::Duration;

use cairn_common::telemetry::metric_names as names;
use metrics::{counter, gauge, histogram};

/// A sync of the log that served `entries`.
pub(super) fn log_synced(took: Duration, entries: u64) {
    histogram!(names::RAFT_LOG_FSYNC_SECONDS).record(took);
    if entries > 0 {
        counter!(names::RAFT_ENTRIES).increment(entries);
        histogram!(names::RAFT_ENTRIES_PER_FSYNC).record(entries as f64);
    }
}

/// A run of entries was applied.
pub(super) fn applied(took: Duration) {
    histogram!(names::NAMESPACE_APPLY_SECONDS).record(took);
}

/// An entry was proposed.
pub(super) fn proposed(commands: usize) {
    histogram!(names::RAFT_COMMANDS_PER_ENTRY).record(commands as f64);
}

/// A confirmation of leadership served `reads`.
pub(super) fn read_round(reads: usize) {
    histogram!(names::RAFT_READS_PER_ROUND).record(reads as f64);
}

/// A read passed under the leader's lease, without a round.
pub(super) fn lease_read() {
    counter!(names::RAFT_LEASE_READS).increment(1);
}

/// A snapshot was `made`, `sent` or `installed`.
pub(super) fn snapshot(what: &'static str) {
    counter!(names::RAFT_SNAPSHOTS, "what" => what).increment(1);
}

/// Where the group stands.
pub(super) fn position(term: u64, leads: bool, applied: u64, committed: u64, last: u64) {
    gauge!(names::RAFT_TERM).set(term as f64);
    gauge!(names::RAFT_LEADER).set(if leads { 1.0 } else { 0.0 });
    gauge!(names::RAFT_APPLIED_INDEX).set(applied as f64);
    gauge!(names::RAFT_COMMITTED_INDEX).set(committed as f64);
    gauge!(names::RAFT_LAST_INDEX).set(last as f64);
}
