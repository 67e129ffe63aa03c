//! Service `ChunkControl`: what a chunk server tells the metadata leader, and the work it gets back.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::ids::{ChunkNodeId, DiskId, DiskUuid, Incarnation, TableEpoch};
use crate::partition_table::PartitionTable;

/// A request of a chunk server. Answered by [`ChunkControlReply`] or a `ServiceError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkControlRequest {
    /// Makes the server and its disks known; repeated after every start. Answer: `Registered`.
    Register(Registration),
    /// Regular report. Answer: `Heard`.
    Heartbeat(Heartbeat),
    /// The partition table, unless the server has it. Answer: `Table`.
    PartitionTable {
        /// The epoch that the server has.
        known: TableEpoch,
    },
}

/// A chunk server as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// This life of its data folder: the same incarnation gets the same numbers again.
    pub incarnation: Incarnation,
    /// Its name, for people; must be the name in its certificate.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Replicas of a block are kept in different failure domains while there are enough.
    pub failure_domain: String,
    /// Its disks.
    pub disks: Vec<RegisteredDisk>,
}

/// A disk as it is introduced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredDisk {
    /// This formatting of the disk.
    pub uuid: DiskUuid,
    /// Capacity in bytes; the weight in placement.
    pub capacity_bytes: u64,
}

/// State of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// The disk.
    pub disk: DiskId,
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// Free bytes, without the reserve.
    pub free_bytes: u64,
    /// Bytes kept for what mounts have acknowledged to programs (`protocol::write_reserve`).
    pub reserve_bytes: u64,
    /// Free bytes of all, the reserve among them: with fewer than `reserve_bytes` the disk is full.
    pub room_bytes: u64,
    /// The file system that the disk's folder is on: disks with the same number share one reserve. 0: not
    /// known, taken for its own.
    pub file_system: u64,
    /// Blocks that it holds.
    pub blocks: u64,
    /// Blocks found damaged and not repaired yet.
    pub damaged_blocks: u64,
    /// None while it works; else what failed.
    pub failure: Option<String>,
}

/// A regular report. Lists are what is new since the last report that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The server.
    pub node: ChunkNodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The table that it has.
    pub table: TableEpoch,
    /// Its disks.
    pub disks: Vec<DiskReport>,
    /// Blocks found damaged or missing: work for repair.
    pub damaged: Vec<(BlockId, DiskId)>,
    /// Blocks that are whole again on the disk: repair is done.
    pub repaired: Vec<(BlockId, DiskId)>,
}

/// A block that a disk should hold and does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairTask {
    /// The block.
    pub block: BlockId,
    /// The disk that needs it.
    pub disk: DiskId,
    /// Disks that should have it, best first; their locations are in the table.
    pub sources: Vec<DiskId>,
}

/// Answer to a [`ChunkControlRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkControlReply {
    /// The server's numbers.
    Registered {
        /// The server.
        node: ChunkNodeId,
        /// Its disks, in the order of the registration.
        disks: Vec<DiskId>,
    },
    /// The report was taken.
    Heard {
        /// The newest table.
        table: TableEpoch,
        /// Blocks to pull now. The same task may be given again until it is reported as repaired.
        tasks: Vec<RepairTask>,
        /// The sender is not registered (a new leader group, or it was removed): register again.
        register: bool,
    },
    /// The table, or None if the server has the newest.
    Table(Option<PartitionTable>),
}
