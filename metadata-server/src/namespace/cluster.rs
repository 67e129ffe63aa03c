//! What the service layer reads from the state besides the namespace: cluster, sessions, chunk
//! servers, partition table, repair queue. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use cairn_common::block::BlockId;
use cairn_common::clock::Timestamp;
use cairn_common::ids::PoolId;
use cairn_common::ids::{
    ChunkNodeId, ClusterId, CommitSequence, DiskId, DiskUuid, Incarnation, InodeId, SessionEpoch, SessionId, TableEpoch,
};
use cairn_common::partition_table::{DiskLocation, PartitionRow, PartitionTable};

use super::fault::corrupt;
use super::keys::{self, CLUSTER_WIDE, Counter, KeyFields, ROWS_PER_CHUNK, Table, VOLUME};
use super::ops::partition_chunk;
use super::read::{self, Direction};
use super::records::{self, ChunkNode, Cluster, Disk, Session};
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

/// The cluster, or None before `Initialize`.
pub fn cluster(view: &dyn ReadView) -> Result<Option<ClusterRecord>, StorageError> {
    let cluster = read::plain::<Cluster>(view, &keys::cluster())?;
    Ok(cluster.map(|Cluster { cluster, partitions, replicas, feature_level }| ClusterRecord {
        cluster,
        partitions,
        replicas,
        feature_level,
    }))
}

/// The whole partition table of the default pool. Its rows are empty until every row was installed
/// once. Decodes all rows: keep the result until [`table_epoch`] changes.
pub fn partition_table(view: &dyn ReadView) -> Result<PartitionTable, StorageError> {
    let cluster = read::plain::<Cluster>(view, &keys::cluster())?;
    let partitions = cluster.as_ref().map_or(0, |cluster| cluster.partitions);
    let mut rows = Vec::new();
    for number in 0..partitions.div_ceil(ROWS_PER_CHUNK) {
        rows.extend(partition_chunk(view, number, partitions)?.0.into_iter().map(|owned| owned.row));
        if rows.last().is_some_and(|row: &PartitionRow| row.current.is_empty()) {
            break;
        }
    }
    if rows.iter().any(|row| row.current.is_empty()) {
        rows.clear();
    }
    let named: BTreeSet<DiskId> = rows.iter().flat_map(|row| row.current.iter().chain(&row.next)).copied().collect();
    let disks = named
        .into_iter()
        .map(|disk| Ok((disk, location(view, disk)?)))
        .collect::<Result<BTreeMap<_, _>, StorageError>>()?;
    Ok(PartitionTable {
        epoch: table_epoch(view)?,
        pool: PoolId::DEFAULT,
        replicas: cluster.map_or(0, |cluster| cluster.replicas),
        rows,
        disks,
    })
}

fn location(view: &dyn ReadView, disk: DiskId) -> Result<DiskLocation, StorageError> {
    let Disk { node, .. } = known_disk(view, disk)?;
    let server = read::plain::<ChunkNode>(view, &keys::chunk_node(node))?
        .ok_or_else(|| corrupt(format!("disk {disk} is of chunk server {node}, which is not known")))?;
    Ok(DiskLocation { node, name: server.name, address: server.address })
}

fn known_disk(view: &dyn ReadView, disk: DiskId) -> Result<Disk, StorageError> {
    read::plain(view, &keys::disk(disk))?.ok_or_else(|| corrupt(format!("disk {disk} is named and not known")))
}

/// The epoch of the partition table; 0 before anything was installed.
pub fn table_epoch(view: &dyn ReadView) -> Result<TableEpoch, StorageError> {
    read::counter(view, Counter::TableEpoch, 0).map(TableEpoch)
}

/// All chunk servers that ever registered, by number; a wiped one comes again with a new number.
pub fn chunk_servers(view: &dyn ReadView) -> Result<Vec<ChunkServerRecord>, StorageError> {
    let mut nodes = Vec::new();
    read::scan(view, keys::table_range(Table::ChunkNode, CLUSTER_WIDE), Direction::Forward, &mut |key, value| {
        let mut fields = KeyFields::of(key);
        let node = ChunkNodeId(fields.u32()?);
        fields.end()?;
        nodes.push((node, records::decode::<ChunkNode>(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    nodes
        .into_iter()
        .map(|(node, record)| {
            let disks = record
                .disks
                .iter()
                .map(|disk| known_disk(view, *disk).map(|known| (*disk, known.uuid, known.capacity_bytes)))
                .collect::<Result<_, _>>()?;
            Ok(ChunkServerRecord {
                node,
                incarnation: record.incarnation,
                name: record.name,
                address: record.address,
                failure_domain: record.failure_domain,
                disks,
            })
        })
        .collect()
}

fn session_record(session: SessionId, record: Session) -> SessionRecord {
    let Session { epoch, slots, opened, client } = record;
    SessionRecord { session, epoch, slots, opened, client }
}

/// All sessions, by number.
pub fn sessions(view: &dyn ReadView) -> Result<Vec<SessionRecord>, StorageError> {
    let mut sessions = Vec::new();
    read::scan(view, keys::table_range(Table::Session, CLUSTER_WIDE), Direction::Forward, &mut |key, value| {
        let mut fields = KeyFields::of(key);
        let session = SessionId(fields.u64()?);
        fields.end()?;
        sessions.push(session_record(session, records::decode(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(sessions)
}

/// One session, or None if it was ended.
pub fn session(view: &dyn ReadView, session: SessionId) -> Result<Option<SessionRecord>, StorageError> {
    Ok(read::plain(view, &keys::session(session))?.map(|record| session_record(session, record)))
}

/// How many files a session has open. Scans them: for status, not for a request path.
pub fn open_files(view: &dyn ReadView, session: SessionId) -> Result<u64, StorageError> {
    let mut count = 0;
    read::scan(view, keys::session_opens(session), Direction::Forward, &mut |_, _| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// The session that holds a file exclusively.
pub fn exclusive_holder(view: &dyn ReadView, inode: InodeId) -> Result<Option<SessionId>, StorageError> {
    read::exclusive_holder(view, inode)
}

/// Files that a session holds exclusively, by number, at most `limit`. Looks at all that it has open:
/// for people, not for a request path.
pub fn held_exclusively(view: &dyn ReadView, session: SessionId, limit: usize) -> Result<Vec<InodeId>, StorageError> {
    let mut held = Vec::new();
    read::scan(view, keys::session_opens(session), Direction::Forward, &mut |key, _| {
        let mut fields = KeyFields::of(key);
        fields.u64()?;
        let inode = InodeId(fields.u64()?);
        fields.end()?;
        if read::exclusive_holder(view, inode)? == Some(session) {
            held.push(inode);
        }
        Ok(if held.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(held)
}

/// The commit that last changed a versioned record: what a view shows.
pub fn commit_sequence(view: &dyn ReadView) -> Result<CommitSequence, StorageError> {
    read::counter(view, Counter::CommitSequence, 0).map(CommitSequence)
}

/// Replicas that repair must make, in key order, behind `after`.
pub fn repair_queue(
    view: &dyn ReadView,
    after: Option<(BlockId, DiskId)>,
    limit: usize,
) -> Result<Vec<(BlockId, DiskId)>, StorageError> {
    let (mut from, to) = keys::table_range(Table::Repair, CLUSTER_WIDE);
    if let Some((block, disk)) = after {
        from = keys::end_of(&keys::repair(&block, disk));
    }
    let mut queue = Vec::new();
    read::scan(view, (from, to), Direction::Forward, &mut |key, _| {
        if queue.len() == limit {
            return Ok(ControlFlow::Break(()));
        }
        let mut fields = KeyFields::of(key);
        queue.push((fields.block()?, DiskId(fields.u32()?)));
        fields.end()?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(queue)
}

/// Blocks that lack at least one replica.
pub fn under_replicated_blocks(view: &dyn ReadView) -> Result<u64, StorageError> {
    read::counter(view, Counter::UnderReplicatedBlocks, 0)
}

/// Whether `Action::CollectGarbage` has work: propose it until this is false.
pub fn has_garbage(view: &dyn ReadView) -> Result<bool, StorageError> {
    read::any(view, keys::table_range(Table::Garbage, VOLUME))
}
