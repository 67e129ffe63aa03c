//! The partition table: which disks hold which blocks. The metadata leader computes it
//! (`metadata-server/src/placement`), Raft replicates it, everybody looks blocks up in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::ids::{ChunkNodeId, DiskId, PartitionId, PoolId, TableEpoch};

/// Owners of one partition, best first. During a move a put needs a quorum of `current` and of
/// `next`; otherwise `next` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Disks that hold the partition's blocks.
    pub current: Vec<DiskId>,
    /// Disks that will hold them, while they are being filled.
    pub next: Vec<DiskId>,
}

impl PartitionRow {
    /// Every disk that a put must be sent to: `current`, then those of `next` not among them.
    pub fn write_set(&self) -> Vec<DiskId> {
        let mut set = self.current.clone();
        set.extend(self.next.iter().filter(|disk| !self.current.contains(disk)));
        set
    }

    /// Whether the disk is in the write set.
    pub fn owns(&self, disk: DiskId) -> bool {
        self.current.contains(&disk) || self.next.contains(&disk)
    }

    /// Whether the disks that confirmed make a write quorum (majority of `current`, and of `next`
    /// during a move).
    pub fn is_quorum(&self, confirmed: impl Fn(DiskId) -> bool) -> bool {
        let majority = |owners: &[DiskId]| owners.iter().filter(|d| confirmed(**d)).count() > owners.len() / 2;
        !self.current.is_empty() && majority(&self.current) && (self.next.is_empty() || majority(&self.next))
    }
}

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLocation {
    /// The chunk server that has the disk.
    pub node: ChunkNodeId,
    /// Its name, for messages to people.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The table of one pool, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTable {
    /// Grows with every change of a row or of a location.
    pub epoch: TableEpoch,
    /// The pool that the table is for.
    pub pool: PoolId,
    /// Replicas that the pool asks for.
    pub replicas: u8,
    /// One row a partition; the length is a power of two, or 0 while too few disks have registered.
    pub rows: Vec<PartitionRow>,
    /// Every disk that a row names.
    pub disks: BTreeMap<DiskId, DiskLocation>,
}

impl PartitionTable {
    /// The partition of a block, or None while the table is empty.
    pub fn partition_of(&self, block: &BlockId) -> Option<PartitionId> {
        (!self.rows.is_empty()).then(|| block.partition(self.rows.len() as u32))
    }

    /// The row of a block, or None while the table is empty.
    pub fn row_of(&self, block: &BlockId) -> Option<&PartitionRow> {
        self.partition_of(block).map(|partition| &self.rows[partition.0 as usize])
    }
}
