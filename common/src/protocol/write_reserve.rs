//! The division of the chunk servers' write reserve among mounts, as keep-alives carry it: a mount says
//! what it holds and wants, the leader how much it may hold from now on.

use serde::{Deserialize, Serialize};

/// What a mount says of the write reserve with each keep-alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveReport {
    /// Ascends with every keep-alive of the session; a repeated attempt repeats it. A copy that comes late
    /// must not count.
    pub number: u64,
    /// Bytes that the mount may have acknowledged and not committed, now or before it hears the answer.
    pub held: u64,
    /// Bytes that it could use.
    pub wanted: u64,
    /// It has met full disks: it buffers nothing until the leader says that there is room.
    pub full: bool,
}

/// What a mount may hold of the write reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveShare {
    /// Bytes that it may acknowledge before they are committed.
    pub granted: u64,
    /// So many disks are full that some block may find no quorum outside of the reserve.
    pub full: bool,
}

/// The write reserve as a whole, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveStatus {
    /// Bytes that all mounts together may hold; None while the leader has not heard from all disks yet.
    pub budget_bytes: Option<u64>,
    /// Bytes that they may hold now.
    pub granted_bytes: u64,
    /// So many disks are full that nothing is given out.
    pub full: bool,
    /// Mounts that have met full disks.
    pub full_mounts: u32,
}
