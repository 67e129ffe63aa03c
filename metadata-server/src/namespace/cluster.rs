//! What the service layer reads from the state besides the namespace: cluster, sessions, chunk
//! servers, partition table, repair queue. Reads only.

use std::net::SocketAddr;

use cairn_common::block::BlockId;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{
    ChunkNodeId, ClusterId, DiskId, DiskUuid, Incarnation, InodeId, SessionEpoch, SessionId, TableEpoch,
};
use cairn_common::partition_table::PartitionTable;

use crate::storage::{ReadView, StorageError};

/// What a cluster is for its whole life, and the feature level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// The cluster.
    pub cluster: ClusterId,
    /// Partitions of the default pool, a power of two.
    pub partitions: u32,
    /// Replicas of the default pool.
    pub replicas: u8,
    /// Gates changes of what `apply` does.
    pub feature_level: u32,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// Its fencing epoch.
    pub epoch: SessionEpoch,
    /// Slots that it has.
    pub slots: u16,
    /// When it was opened (the leader's clock).
    pub opened: Timestamp,
    /// Host and mount point, for people.
    pub client: String,
}

/// A chunk server as it last registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkServerRecord {
    /// Its number.
    pub node: ChunkNodeId,
    /// The life of its data folder.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its failure domain.
    pub failure_domain: String,
    /// Disks of its last registration, with their capacity in bytes.
    pub disks: Vec<(DiskId, DiskUuid, u64)>,
}

fn unbuilt<T>() -> Result<T, StorageError> {
    Err(StorageError::Engine("the state machine is not landed yet".into()))
}

/// The cluster, or None before `Initialize`.
pub fn cluster(_view: &dyn ReadView) -> Result<Option<ClusterRecord>, StorageError> {
    unbuilt()
}

/// The whole partition table of the default pool. Its rows are empty until every row was installed
/// once. Decodes all rows: keep the result until [`table_epoch`] changes.
pub fn partition_table(_view: &dyn ReadView) -> Result<PartitionTable, StorageError> {
    unbuilt()
}

/// The epoch of the partition table; 0 before anything was installed.
pub fn table_epoch(_view: &dyn ReadView) -> Result<TableEpoch, StorageError> {
    unbuilt()
}

/// All chunk servers that ever registered, by number; a wiped one comes again with a new number.
pub fn chunk_servers(_view: &dyn ReadView) -> Result<Vec<ChunkServerRecord>, StorageError> {
    unbuilt()
}

/// All sessions, by number.
pub fn sessions(_view: &dyn ReadView) -> Result<Vec<SessionRecord>, StorageError> {
    unbuilt()
}

/// One session, or None if it was ended.
pub fn session(_view: &dyn ReadView, _session: SessionId) -> Result<Option<SessionRecord>, StorageError> {
    unbuilt()
}

/// How many files a session has open. Scans them: for status, not for a request path.
pub fn open_files(_view: &dyn ReadView, _session: SessionId) -> Result<u64, StorageError> {
    unbuilt()
}

/// Sessions that have a file open for writing, by number.
pub fn writers_of(_view: &dyn ReadView, _inode: InodeId) -> Result<Vec<SessionId>, StorageError> {
    unbuilt()
}

/// Replicas that repair must make, in key order, behind `after`.
pub fn repair_queue(
    _view: &dyn ReadView,
    _after: Option<(BlockId, DiskId)>,
    _limit: usize,
) -> Result<Vec<(BlockId, DiskId)>, StorageError> {
    unbuilt()
}

/// Blocks that lack at least one replica.
pub fn under_replicated_blocks(_view: &dyn ReadView) -> Result<u64, StorageError> {
    unbuilt()
}

/// Whether `Action::CollectGarbage` has work: propose it until this is false.
pub fn has_garbage(_view: &dyn ReadView) -> Result<bool, StorageError> {
    unbuilt()
}
