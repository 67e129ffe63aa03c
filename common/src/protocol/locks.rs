//! Locks of files in messages: flock(2) and the three kinds that fcntl(2) knows. They are advisory and
//! belong to an owner within a session; what an owner is, the mount decides.

use serde::{Deserialize, Serialize};

use crate::ids::{InodeId, SessionId};

/// Which call a lock was taken with. Locks of flock(2) and of fcntl(2) do not see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LockKind {
    /// fcntl(F_SETLK): belongs to a process and a file, and goes with any close of that file.
    Posix,
    /// fcntl(F_OFD_SETLK): belongs to an open file description.
    Ofd,
    /// flock(2): belongs to an open file description, and covers the whole file.
    Flock,
    /// Of the whole file, by a caller that the mount could not see: any of the three, so it excludes all
    /// of them. Belongs to an open file description.
    Unseen,
}

impl LockKind {
    /// Whether locks of the two kinds can be in each other's way at all.
    pub fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Unseen, _) | (_, Self::Unseen) => true,
            (Self::Flock, other) => other == Self::Flock,
            (Self::Posix | Self::Ofd, other) => other != Self::Flock,
        }
    }
}

/// Whose a lock is, within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockOwner {
    /// The kind of all locks of this owner.
    pub kind: LockKind,
    /// A number of the mount's.
    pub id: u64,
}

/// Bytes of a file, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockRange {
    /// The first byte.
    pub start: u64,
    /// The last byte, at most [`LockRange::LAST`].
    pub end: u64,
}

impl LockRange {
    /// The largest offset: a range up to it goes on to the end, wherever that is.
    pub const LAST: u64 = i64::MAX as u64;
    /// The whole file.
    pub const WHOLE: Self = Self { start: 0, end: Self::LAST };

    /// Whether it is a range at all.
    pub fn is_valid(self) -> bool {
        self.start <= self.end && self.end <= Self::LAST
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// A lock that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockRequest {
    /// The file.
    pub inode: InodeId,
    /// For whom.
    pub owner: LockOwner,
    /// Which bytes.
    pub range: LockRange,
    /// For writing: nobody else may have any. For reading: others may read, too.
    pub write: bool,
    /// The process, for F_GETLK on the same mount.
    pub pid: u32,
}

/// A lock that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldLock {
    /// Of which session.
    pub session: SessionId,
    /// Whose there.
    pub owner: LockOwner,
    /// Which bytes.
    pub range: LockRange,
    /// For writing.
    pub write: bool,
    /// The process that took it, on its own machine.
    pub pid: u32,
}

impl HeldLock {
    /// Whether it is in the way of what `session` asks for.
    pub fn blocks(&self, session: SessionId, wanted: &LockRequest) -> bool {
        let is_own = (self.session, self.owner) == (session, wanted.owner);
        !is_own
            && self.owner.kind.meets(wanted.owner.kind)
            && (self.write || wanted.write)
            && self.range.overlaps(wanted.range)
    }
}

/// What becomes of waiting for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockWait {
    /// Nothing is in the way, and whoever comes later lets this one go first for a moment: ask for the
    /// lock now.
    Free,
    /// Still in the way. The place in the queue is kept for a few seconds: wait again.
    Busy,
    /// Those in the way wait for this owner, through others or directly.
    Deadlock,
    /// The session waits for too many locks already.
    TooMany,
}
