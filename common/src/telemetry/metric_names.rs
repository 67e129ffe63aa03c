//! Every metric of the system: name, kind, unit, meaning. A name is used through its constant only,
//! and is stable once released. Units are base units, in the name: `_seconds`, `_bytes`; counters end
//! in `_total`. Labels are few and bounded: never a path, an inode or a request id.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::protocol::Service;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        const ALL: &[(&str, Kind, Unit, &str)] = &[$(($name, Kind::$kind, Unit::$unit, $help),)*];
    };
}

metrics! {
    REQUESTS = "cairn_requests_total", Counter, Count, "Requests answered, by service and outcome (ok, error).";
    REQUEST_SECONDS = "cairn_request_seconds", Histogram, Seconds, "Time in the handler, by service.";
    CALLS = "cairn_calls_total", Counter, Count, "Requests sent, by service and outcome.";
    CALL_SECONDS = "cairn_call_seconds", Histogram, Seconds, "Time from a call to its answer, by service.";

    TRANSPORT_CONNECTIONS = "cairn_transport_connections", Gauge, Count, "Open connections, by side and lane (servers: the peer's role).";
    TRANSPORT_CONNECTS = "cairn_transport_connects_total", Counter, Count, "Connection attempts, by lane and outcome.";
    TRANSPORT_REFUSED = "cairn_transport_refused_total", Counter, Count, "Handshakes that failed on this server: strangers, or broken networks.";

    RAFT_TERM = "cairn_raft_term", Gauge, Count, "Current Raft term.";
    RAFT_LEADER = "cairn_raft_leader", Gauge, Count, "1 if this server leads, else 0.";
    RAFT_APPLIED_INDEX = "cairn_raft_applied_index", Gauge, Count, "Index of the last applied log entry.";
    RAFT_COMMITTED_INDEX = "cairn_raft_committed_index", Gauge, Count, "Index of the last committed log entry.";
    RAFT_LAST_INDEX = "cairn_raft_last_index", Gauge, Count, "Index of the last entry in the log.";
    RAFT_ENTRIES = "cairn_raft_entries_total", Counter, Count, "Log entries appended.";
    RAFT_COMMANDS_PER_ENTRY = "cairn_raft_commands_per_entry", Histogram, Count, "Commands that shared one entry.";
    RAFT_LOG_FSYNC_SECONDS = "cairn_raft_log_fsync_seconds", Histogram, Seconds, "Time of one fdatasync of the log.";
    RAFT_ENTRIES_PER_FSYNC = "cairn_raft_entries_per_fsync", Histogram, Count, "Entries that shared one fdatasync.";
    RAFT_READS_PER_ROUND = "cairn_raft_reads_per_round", Histogram, Count, "Linearizable reads that shared one confirmation of leadership.";
    RAFT_LEASE_READS = "cairn_raft_lease_reads_total", Counter, Count, "Linearizable reads that the leader's lease allowed without a confirmation.";
    RAFT_SNAPSHOTS = "cairn_raft_snapshots_total", Counter, Count, "Snapshots, by what was done (made, sent, installed).";

    NAMESPACE_COMMANDS = "cairn_namespace_commands_total", Counter, Count, "Commands applied, by operation and outcome.";
    NAMESPACE_APPLY_SECONDS = "cairn_namespace_apply_seconds", Histogram, Seconds, "Time to apply one entry.";
    NAMESPACE_INODES = "cairn_namespace_inodes", Gauge, Count, "Inodes in the file system.";
    SESSIONS = "cairn_sessions", Gauge, Count, "Sessions of mounts that are open.";
    SESSIONS_EXPIRED = "cairn_sessions_expired_total", Counter, Count, "Sessions that were ended for silence.";
    LEASES = "cairn_leases", Gauge, Count, "Shared leases that the leader has written down, a session and an inode each.";
    LEASE_GRANTS = "cairn_lease_grants_total", Counter, Count, "Shared leases that came with answers.";
    LEASE_RECALLS = "cairn_lease_recalls_total", Counter, Count, "Recalls told to mounts, repetitions counted.";
    LEASE_RECALL_SECONDS = "cairn_lease_recall_seconds", Histogram, Seconds, "Time from a recall to the mount's answer.";
    LEASE_GIVEN_UP = "cairn_lease_given_up_total", Counter, Count, "Times that a mount's shared leases were taken for void because it did not answer.";
    LEASE_EVICTIONS = "cairn_lease_evictions_total", Counter, Count, "Sessions that were ended against their will.";
    WRITE_RESERVE_BUDGET_BYTES = "cairn_write_reserve_budget_bytes", Gauge, Bytes, "What all mounts together may acknowledge before it is committed; 0: the disks are full.";
    WRITE_RESERVE_GRANTED_BYTES = "cairn_write_reserve_granted_bytes", Gauge, Bytes, "What of it mounts have, or may believe to have.";
    WRITE_RESERVE_FULL_MOUNTS = "cairn_write_reserve_full_mounts", Gauge, Count, "Mounts that have met full disks and buffer nothing.";
    CLOCK_SKEW_SECONDS = "cairn_clock_skew_seconds", Gauge, Seconds, "Wall clock of a peer minus this one's, by peer.";

    CHUNK_PUTS = "cairn_chunk_puts_total", Counter, Count, "Blocks put, by outcome (stored, present, refused).";
    CHUNK_GETS = "cairn_chunk_gets_total", Counter, Count, "Blocks read, by outcome (whole, part, missing, damaged).";
    CHUNK_WRITTEN_BYTES = "cairn_chunk_written_bytes_total", Counter, Bytes, "Block bytes written.";
    CHUNK_READ_BYTES = "cairn_chunk_read_bytes_total", Counter, Bytes, "Block bytes sent to readers.";
    CHUNK_FDATASYNC_SECONDS = "cairn_chunk_fdatasync_seconds", Histogram, Seconds, "Time of one fdatasync of a segment.";
    CHUNK_BLOCKS_PER_FSYNC = "cairn_chunk_blocks_per_fsync", Histogram, Count, "Blocks that shared one fdatasync.";
    CHUNK_VERIFICATION_FAILURES = "cairn_chunk_verification_failures_total", Counter, Count, "Stored records that do not match their checksum or name.";
    CHUNK_SCRUBBED_BYTES = "cairn_chunk_scrubbed_bytes_total", Counter, Bytes, "Bytes of records that the scrub has checked.";
    CHUNK_DISK_FAILURES = "cairn_chunk_disk_failures_total", Counter, Count, "Disks that failed while the server ran.";
    CHUNK_HEARTBEAT_FAILURES = "cairn_chunk_heartbeat_failures_total", Counter, Count, "Heartbeats that no metadata leader answered.";
    CHUNK_BLOCKS = "cairn_chunk_blocks", Gauge, Count, "Blocks held, by disk.";
    CHUNK_DISK_FREE_BYTES = "cairn_chunk_disk_free_bytes", Gauge, Bytes, "Free space, by disk.";
    CHUNK_DISK_CAPACITY_BYTES = "cairn_chunk_disk_capacity_bytes", Gauge, Bytes, "Size, by disk.";

    MOUNT_OPERATIONS = "cairn_mount_operations_total", Counter, Count, "FUSE requests, by operation and outcome (ok, error).";
    MOUNT_OPERATION_SECONDS = "cairn_mount_operation_seconds", Histogram, Seconds, "Time of a FUSE request, by operation.";
    MOUNT_DIRTY_BYTES = "cairn_mount_dirty_bytes", Gauge, Bytes, "Written by programs, not yet stored in the cluster.";
    MOUNT_WRITE_GRANT_BYTES = "cairn_mount_write_grant_bytes", Gauge, Bytes, "What this mount may acknowledge before it is committed.";
    MOUNT_PUT_BYTES = "cairn_mount_put_bytes_total", Counter, Bytes, "Block bytes sent to chunk servers, every replica counted.";
    MOUNT_GET_BYTES = "cairn_mount_get_bytes_total", Counter, Bytes, "Block bytes received from chunk servers.";
    MOUNT_FAILOVERS = "cairn_mount_failovers_total", Counter, Count, "Requests repeated at another server, by kind (metadata, chunk).";
    MOUNT_VERIFICATION_FAILURES = "cairn_mount_verification_failures_total", Counter, Count, "Received bytes that are not the block's: read elsewhere instead.";
    MOUNT_OPEN_FILES = "cairn_mount_open_files", Gauge, Count, "Files that programs have open.";

    MOUNT_LEASES = "cairn_mount_leases", Gauge, Count, "Inodes that the mount remembers under shared leases.";
    MOUNT_CACHE_HITS = "cairn_mount_cache_hits_total", Counter, Count, "Requests answered from memory, under leases.";
    MOUNT_CACHE_MISSES = "cairn_mount_cache_misses_total", Counter, Count, "Questions sent to the metadata leader.";
    MOUNT_RECALLS = "cairn_mount_recalls_total", Counter, Count, "Leases given back because another mount waited, by kind (shared, exclusive).";
    MOUNT_RECALL_SECONDS = "cairn_mount_recall_seconds", Histogram, Seconds, "Time from a recall to its answer, by kind.";

    REPAIR_QUEUE_BLOCKS = "cairn_repair_queue_blocks", Gauge, Count, "Blocks known to have too few replicas.";
    REPAIR_COPIED_BLOCKS = "cairn_repair_copied_blocks_total", Counter, Count, "Blocks copied to restore replicas.";
    REPAIR_FAILURES = "cairn_repair_failures_total", Counter, Count, "Copies that failed and will be tried again.";
}

/// Tells the recorder units and help texts.
pub(super) fn describe() {
    for (name, kind, unit, help) in ALL {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

/// The label of a service.
pub fn service_label(service: Service) -> &'static str {
    match service {
        Service::Metadata => "metadata",
        Service::ChunkControl => "chunk_control",
        Service::Admin => "admin",
        Service::Raft => "raft",
        Service::Chunk => "chunk",
    }
}

/// Counts a request that this server answered.
pub(crate) fn record_request(service: Service, ok: bool, took: Duration) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::counter!(REQUESTS, "service" => service_label(service), "outcome" => outcome).increment(1);
    metrics::histogram!(REQUEST_SECONDS, "service" => service_label(service)).record(took);
}

/// Counts a request that this process sent.
pub(crate) fn record_call(service: Service, outcome: &'static str, took: Duration) {
    metrics::counter!(CALLS, "service" => service_label(service), "outcome" => outcome).increment(1);
    metrics::histogram!(CALL_SECONDS, "service" => service_label(service)).record(took);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = HashSet::new();
        for (name, kind, unit, help) in ALL {
            assert!(seen.insert(*name), "{name} twice");
            assert!(name.starts_with("cairn_") && help.ends_with('.'), "{name}");
            assert_eq!(matches!(kind, Kind::Counter), name.ends_with("_total"), "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(matches!(unit, Unit::Seconds), base.ends_with("_seconds"), "{name}");
            assert_eq!(matches!(unit, Unit::Bytes), base.ends_with("_bytes"), "{name}");
        }
    }
}
