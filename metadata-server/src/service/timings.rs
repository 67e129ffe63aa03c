//! What the service needs to know besides the group, with every interval in one place so that a
//! test can shorten them.

use std::time::Duration;

use cairn_common::ids::ClusterId;
use cairn_common::limits::{CHUNK_SERVER_TIMEOUT, SESSION_TIMEOUT};

use crate::lease::LeaseRules;

/// What the service needs to know.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// Partitions of a new cluster, a power of two; an existing cluster keeps its own.
    pub partitions: u32,
    /// Replicas of a new cluster's default pool; an existing cluster keeps its own.
    pub replicas: u8,
    /// Intervals.
    pub timings: ServiceTimings,
}

/// Intervals of the leader's work.
#[derive(Clone, Debug)]
pub struct ServiceTimings {
    /// A session that was silent for so long is ended.
    pub session_timeout: Duration,
    /// Durations and bounds of leases.
    pub leases: LeaseRules,
    /// A chunk server that was silent for so long is shown as down.
    pub chunk_timeout: Duration,
    /// Fewer nodes than replicas: the first table is made when no further one registered for so long.
    pub first_table_grace: Duration,
    /// Every mount fetches a new table within this time; a move is not finished earlier.
    pub table_spread: Duration,
    /// A task of repair that was handed out is handed out again after this long.
    pub repair_retry: Duration,
    /// A chunk server that was silent for so long is replaced by others, if there are enough.
    pub chunk_lost: Duration,
}

impl Default for ServiceTimings {
    fn default() -> Self {
        Self {
            session_timeout: SESSION_TIMEOUT,
            leases: LeaseRules::default(),
            chunk_timeout: CHUNK_SERVER_TIMEOUT,
            first_table_grace: Duration::from_secs(2),
            table_spread: Duration::from_secs(8),
            repair_retry: Duration::from_secs(5),
            chunk_lost: Duration::from_secs(600),
        }
    }
}
