//! Bugs that a simulation can have planted, to show that it would find them. Each is a decorator around
//! a seam: the product's code has no trace of them, but for the Raft log in memory, which only
//! simulations use.

use clap::ValueEnum;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Planted {
    /// A chunk server's disk says that an fdatasync is done and does it with the next write.
    AckBeforeSync,
    /// A metadata server says that entries of its log are durable before they are.
    LogAckBeforeSync,
    /// A snapshot that a follower installs has no slots: it has forgotten which changes were made.
    SnapshotWithoutSlots,
    /// A commit of a session that was ended is carried out all the same.
    FencedFlushAccepted,
    /// The leader grants a shared lease on what a change under way has pinned.
    GrantBetweenCheckAndApply,
    /// A new leader changes things while mounts have leases of the leader before.
    NoWaitAfterFailover,
    /// The kernel believes what it was told for longer than the lease lasts.
    TtlLongerThanLease,
    /// A mount answers a recall before it has flushed.
    RecallAnsweredEarly,
    /// The leader forgets the lease of the sender of a change that it does not grant it again, without a
    /// recall (fixed in `LeaseTable::finish`).
    LeaseEndsSilently,
}
