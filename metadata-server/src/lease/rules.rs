//! Every duration of the lease rules in one place, so that a test or a model can choose its own.

use std::time::Duration;

use cairn_common::limits::{EXCLUSIVE_LEASE, MAX_LEASES_PER_SESSION, SHARED_LEASE};

/// Durations and bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRules {
    /// A mount uses shared leases no longer than this after it sent its last keep-alive.
    pub shared: Duration,
    /// A mount uses exclusive leases no longer than this after it sent its last keep-alive.
    pub exclusive: Duration,
    /// A mount that has not answered a shared recall for so long is not renewed any more, so that its
    /// horizon runs out although it keeps alive.
    pub patience: Duration,
    /// A recall that is not answered is handed out again after this long.
    pub redeliver: Duration,
    /// So many recalls of an inode ...
    pub hot_recalls: usize,
    /// ... within this time make it contended; it cools down when so much time passes without a conflict.
    pub hot_window: Duration,
    /// Most leases of a session.
    pub most_leases: usize,
}

impl Default for LeaseRules {
    fn default() -> Self {
        Self {
            shared: SHARED_LEASE,
            exclusive: EXCLUSIVE_LEASE,
            patience: SHARED_LEASE / 3,
            redeliver: SHARED_LEASE / 4,
            hot_recalls: 4,
            hot_window: Duration::from_secs(1),
            most_leases: MAX_LEASES_PER_SESSION,
        }
    }
}

impl LeaseRules {
    /// A lease as the leader counts it: clocks of two machines may run apart by 2 %, and a message may
    /// be looked at a little late.
    pub fn counted(lease: Duration) -> Duration {
        lease + lease / 50 + Duration::from_millis(10)
    }
}
