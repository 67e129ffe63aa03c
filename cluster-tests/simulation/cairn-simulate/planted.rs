//! Bugs that a simulation can have planted, to show that it would find them. Each is a decorator around
//! a seam: the product's code has no trace of them.

use clap::ValueEnum;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Planted {
    /// A chunk server's disk says that an fdatasync is done and does it with the next write.
    AckBeforeSync,
    /// A snapshot that a follower installs has no slots: it has forgotten which changes were made.
    SnapshotWithoutSlots,
    /// A commit of a session that was ended is carried out all the same.
    FencedFlushAccepted,
    /// A mount answers a flush that another one waits for before it has flushed.
    FlushAnsweredEarly,
    /// A metadata server says that entries of its log are durable before they are.
    LogAckBeforeSync,
}
