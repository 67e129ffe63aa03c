//! What a Raft entry carries: a batch of commands. `apply(state, command) -> outcome` is pure: time,
//! ids and random choices are made by the leader and travel in the command.
//!
//! Entries stay in logs and are applied by servers of the next version: variants and fields are
//! only appended, and what `apply` does with an old one changes only behind a feature level.

use cairn_common::block::BlockId;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{
    ChunkNodeId, ClusterId, DiskId, InodeId, MetadataNodeId, PartitionId, RequestId, SessionEpoch, SessionId,
    TableEpoch,
};
use cairn_common::partition_table::PartitionRow;
use cairn_common::protocol::FsError;
use cairn_common::protocol::chunk_control::Registration;
use cairn_common::protocol::metadata::{Mutation, MutationResult, Stamp};
use serde::{Deserialize, Serialize};

/// One command of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The leader's hybrid clock when it took the command in; grows from command to command.
    pub time: Timestamp,
    /// Traces the request that caused it.
    pub request: RequestId,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Makes the root directory and the counters of a new cluster; nothing if they are there.
    /// Outcome: `Done`.
    Initialize {
        /// The cluster.
        cluster: ClusterId,
        /// Partitions of the default pool, a power of two.
        partitions: u32,
        /// Replicas of the default pool.
        replicas: u8,
    },
    /// A new session. Outcome: `Session`.
    OpenSession {
        /// Host and mount point, for people.
        client: String,
        /// Slots that it gets.
        slots: u16,
    },
    /// Ends a session (closed, expired or evicted): its locks, opens, slots and record go, and files that
    /// only it kept. Outcome: `Done`, also if it is gone already.
    EndSession {
        /// The session.
        session: SessionId,
    },
    /// A mount's change, exactly once. Outcome: `Mutated`, `Fenced`, `BadSequence` or `NotPinned`.
    Mutate {
        /// Who, and which slot.
        stamp: Stamp,
        /// What.
        mutation: Mutation,
        /// Inodes on which the leader has recalled every lease and grants none.
        pinned: Vec<InodeId>,
        /// Sessions that have the file open whose last name goes, one reader each; None if nobody was
        /// asked, and then no file may lose its last name.
        keep_open: Option<Vec<SessionId>>,
    },
    /// Makes a chunk server known or updates its address, name, domain, disks. Outcome: `Registered`.
    RegisterChunkServer(Registration),
    /// Replaces rows of the partition table if it still has the epoch; the epoch grows by one.
    /// Outcome: `TableInstalled`.
    InstallRows {
        /// The epoch that the leader computed the rows from.
        base: TableEpoch,
        /// Rows that change.
        rows: Vec<(PartitionId, PartitionRow)>,
    },
    /// Replicas that are missing or damaged: work for repair. Outcome: `Done`.
    RecordDamage {
        /// Blocks and the disks that lack them.
        damaged: Vec<(BlockId, DiskId)>,
    },
    /// Replicas that are whole again. Outcome: `Done`.
    RecordRepair {
        /// Blocks and the disks that have them again.
        repaired: Vec<(BlockId, DiskId)>,
    },
    /// Gives out a metadata node id that was never given. Outcome: `MetadataNode`.
    AllocateMetadataNode,
    /// Raises the feature level (never lowers it). Outcome: `Done`.
    RaiseFeatureLevel {
        /// The new level.
        level: u32,
    },
    /// Removes extents that no file shows any more (of deleted and truncated files that had too
    /// many to remove at once). Proposed while `cluster::has_garbage`. Outcome: `Done`.
    CollectGarbage {
        /// Most records to remove.
        limit: u32,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A new session.
    Session {
        /// Its id.
        session: SessionId,
        /// Its epoch.
        epoch: SessionEpoch,
    },
    /// A change was made or has failed, now or earlier (remembered from the slot).
    Mutated {
        /// Its result.
        result: Result<MutationResult, FsError>,
        /// Inodes whose records it wrote or removed, ascending.
        changed: Vec<InodeId>,
        /// It was made earlier: others may have changed all of that since.
        remembered: bool,
    },
    /// The session is gone or has another epoch; nothing changed.
    Fenced,
    /// The slot's sequence is neither the last nor the next; nothing changed.
    BadSequence,
    /// Numbers of a chunk server and its disks, in the order of the registration.
    Registered {
        /// The server.
        node: ChunkNodeId,
        /// Its disks.
        disks: Vec<DiskId>,
    },
    /// The table's epoch now, and whether the rows went in.
    TableInstalled {
        /// Epoch in force.
        epoch: TableEpoch,
        /// False: the base was old, nothing changed.
        installed: bool,
    },
    /// A metadata node id.
    MetadataNode(MetadataNodeId),
    /// The change would have touched inodes that are not pinned, or that another session holds
    /// exclusively, or would have taken a file's last name without asking who has it open. Nothing
    /// changed, the slot neither.
    NotPinned {
        /// These inodes, ascending.
        inodes: Vec<InodeId>,
    },
}
