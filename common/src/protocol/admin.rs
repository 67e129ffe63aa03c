//! Service `Admin`: what `cairnctl` asks. Any metadata server answers; what only the leader knows is
//! answered by the leader (`NotLeader` redirects).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{ChunkNodeId, ClusterId, Incarnation, InodeId, MetadataNodeId, SessionId, TableEpoch};
use crate::protocol::chunk_control::DiskReport;
use crate::protocol::locks::{HeldLock, LockRequest};
use crate::protocol::write_reserve::ReserveStatus;

/// A request of an administrator. Answered by [`AdminReply`] or a `ServiceError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// The state of the whole cluster (leader only). Answer: `Status`.
    Status,
    /// The state of the server asked, leader or not. Answer: `Local`.
    Local,
    /// Takes a formatted, empty metadata server in place of one that is lost (leader only): it
    /// becomes a learner, gets a snapshot, then takes the lost one's vote. Answer: `Done`.
    ReplaceMetadata {
        /// The lost member.
        lost: MetadataNodeId,
        /// The new member; its id was never used.
        new: MetadataMember,
    },
    /// A node id for a new metadata server, never given before (leader only). Answer: `NodeId`.
    AllocateMetadataNode,
    /// Leases as the leader has them (leader only). Answer: `Leases`.
    Leases(LeasesOf),
    /// Ends a session against its mount's will (leader only): nothing is renewed any more, what it has
    /// runs out (up to the exclusive lease), then its open files and exclusive leases are released.
    /// Answer: `Done`; `Invalid` if there is no such session.
    EvictSession {
        /// The session.
        session: SessionId,
    },
    /// Locks of files (leader only). Answer: `Locks`; `Invalid` if there is nothing of that name.
    Locks {
        /// Of one path, from the root of the file system, bytes between slashes; None: all.
        path: Option<Vec<u8>>,
    },
}

/// Locks of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// Those that are held, at most `MAX_LOCKS_PER_REPORT`, by file.
    pub held: Vec<(InodeId, HeldLock)>,
    /// Those that mounts wait for, first come first, at most as many.
    pub waiting: Vec<(SessionId, LockRequest)>,
    /// Host and mount point of all sessions that are named.
    pub clients: Vec<(SessionId, String)>,
    /// There are more.
    pub more: bool,
}

/// Whose leases are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeasesOf {
    /// A summary of all sessions.
    Cluster,
    /// One path, from the root of the file system, bytes between slashes. `Invalid` if there is
    /// nothing of that name.
    Path(Vec<u8>),
    /// One session. `Invalid` if there is no such session.
    Session(SessionId),
}

/// Leases as the leader has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// Shared leases of all sessions.
    pub leases: u64,
    /// Inodes that changes under way pin.
    pub pinned: u64,
    /// Recalls that mounts have not answered.
    pub recalls: u64,
    /// The sessions asked for.
    pub sessions: Vec<SessionLeaseStatus>,
    /// Of a path: its leases.
    pub inode: Option<InodeLeaseStatus>,
    /// Of a session: what it holds, at most `MAX_LEASES_PER_MESSAGE` of each kind.
    pub held: Vec<HeldLease>,
}

/// A session and its leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLeaseStatus {
    /// Its id.
    pub session: SessionId,
    /// Host and mount point.
    pub client: String,
    /// Milliseconds since its last sign of life; None if there was none under this leader.
    pub silent_ms: Option<u64>,
    /// Files that it has open.
    pub open_files: u64,
    /// It has taken this leader's generation over.
    pub checked_in: bool,
    /// For how long its shared leases are valid still, as the leader counts; 0: they are over.
    pub valid_ms: u64,
    /// Inodes on which it has a shared lease.
    pub shared: u64,
    /// Files that it holds exclusively.
    pub exclusive: u64,
    /// Recalls that it has not answered.
    pub recalls: u64,
}

/// The leases on one inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeLeaseStatus {
    /// The inode.
    pub inode: InodeId,
    /// Sessions with a shared lease.
    pub shared: Vec<SessionId>,
    /// The session that holds it exclusively.
    pub exclusive: Option<SessionId>,
    /// A change under way keeps grants away.
    pub pinned: bool,
    /// It bounces between mounts: nobody is granted leases for a while.
    pub contended: bool,
}

/// A lease of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// The inode.
    pub inode: InodeId,
    /// Exclusive, else shared.
    pub exclusive: bool,
}

/// A metadata server as the group knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataMember {
    /// Its number, never reused.
    pub node: MetadataNodeId,
    /// This life of its data folder.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Whether a server does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Answers.
    Up,
    /// Silent.
    Down,
    /// Answers, with a failed disk or damaged blocks.
    Degraded,
    /// A metadata server that is catching up.
    Learner,
}

impl NodeState {
    /// The word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Learner => "learner",
        }
    }
}

/// A metadata server in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataStatus {
    /// Who.
    pub member: MetadataMember,
    /// Its state.
    pub state: NodeState,
    /// Log entries that it is behind the leader; None if unknown.
    pub lag_entries: Option<u64>,
    /// How far its wall clock is ahead of the leader's, in milliseconds; None if unknown.
    pub clock_skew_ms: Option<i64>,
}

/// A chunk server in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkStatus {
    /// Its number.
    pub node: ChunkNodeId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its failure domain.
    pub failure_domain: String,
    /// Its state.
    pub state: NodeState,
    /// Milliseconds since its last report; None if there was none under this leader.
    pub silent_ms: Option<u64>,
    /// Its disks as last reported.
    pub disks: Vec<DiskReport>,
}

/// A session in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its id.
    pub session: SessionId,
    /// Host and mount point.
    pub client: String,
    /// Milliseconds since its last sign of life; None if there was none under this leader.
    pub silent_ms: Option<u64>,
    /// Files that it has open.
    pub open_files: u64,
}

/// The state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The leader, who answers.
    pub leader: MetadataNodeId,
    /// Its term.
    pub term: u64,
    /// Last entry applied.
    pub applied_index: u64,
    /// The group.
    pub metadata: Vec<MetadataStatus>,
    /// The chunk servers.
    pub chunk: Vec<ChunkStatus>,
    /// The partition table.
    pub table: TableEpoch,
    /// Replicas of the default pool.
    pub replicas: u8,
    /// Partitions that are moving to other owners.
    pub moving_partitions: u64,
    /// Replicas of blocks that are missing or damaged and wait for repair, counted by block.
    pub under_replicated_blocks: u64,
    /// The sessions.
    pub sessions: Vec<SessionStatus>,
    /// The write reserve.
    pub write_reserve: ReserveStatus,
    /// Feature level in force.
    pub feature_level: u32,
}

/// The state of one metadata server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalStatus {
    /// Who answers.
    pub member: MetadataMember,
    /// The leader that it knows.
    pub leader: Option<MetadataNodeId>,
    /// Its term.
    pub term: u64,
    /// Last entry applied.
    pub applied_index: u64,
    /// Its wall clock, in nanoseconds since 1970.
    pub wall_nanos: i64,
}

/// Answer to an [`AdminRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminReply {
    /// The cluster.
    Status(Box<ClusterStatus>),
    /// One server.
    Local(LocalStatus),
    /// A new number.
    NodeId(MetadataNodeId),
    /// Nothing to tell.
    Done,
    /// Leases.
    Leases(Box<LeaseReport>),
    /// Locks of files.
    Locks(Box<LockReport>),
}
