//! Keys of the state machine: `{table u8}{volume u32}` and then the table's own fields, all
//! big-endian and hand-coded, so that the order of bytes is the order that scans need. Formats are
//! for ever: `tests/golden_keys.rs` holds their bytes, and a table byte is never given a second meaning.
//!
//! Tables of the cluster (not of one volume) have volume 0. Table 0x00 belongs to the storage engine.

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::{ChunkNodeId, DiskId, DiskUuid, Incarnation, InodeId, PoolId, SessionId, SlotId, VolumeId};
use cairn_common::protocol::locks::{LockKind, LockOwner};

use crate::storage::StorageError;

/// The volume of tables that belong to the whole cluster.
pub(crate) const CLUSTER_WIDE: VolumeId = VolumeId(0);
/// The only volume today.
pub(crate) const VOLUME: VolumeId = VolumeId::DEFAULT;
/// Rows of the partition table in one value.
pub(crate) const ROWS_PER_CHUNK: u32 = 256;

/// First byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Table {
    /// Cluster-wide: the cluster record.
    Cluster = 0x01,
    /// `{counter u8}` → number; of the cluster or of a volume.
    Counter = 0x02,
    /// `{inode}` → inode.
    Inode = 0x10,
    /// `{parent}{name}` → entry.
    Entry = 0x11,
    /// `{parent}{cookie u64}` → the same entries in the order of their making.
    EntryOrder = 0x12,
    /// `{inode}{offset}` → extent.
    Extent = 0x13,
    /// `{inode}{name}` → value.
    Xattr = 0x14,
    /// `{inode}` → target.
    Symlink = 0x15,
    /// `{inode}{session}` → how often the session has the file open.
    Open = 0x16,
    /// `{session}{inode}`: the same, to end a session without a scan of all files.
    SessionOpen = 0x17,
    /// `{inode}`: files without a name that opens keep.
    Orphan = 0x18,
    /// `{inode}` → how far the removal of its dead extents has come.
    Garbage = 0x19,
    /// `{inode}` → the session that holds the file exclusively; it has the file open for writing.
    Exclusive = 0x1a,
    /// `{inode}{session}{kind u8}{owner u64}{start u64}` → lock.
    Lock = 0x1b,
    /// `{session}{inode}` → how many locks the session has on the file.
    SessionLock = 0x1c,
    /// Cluster-wide: `{pool u16}{hash}{volume}{inode}{offset}`: which extents use a block.
    Backref = 0x20,
    /// Cluster-wide: `{pool u16}{hash}{disk u32}`: replicas that repair must make.
    Repair = 0x21,
    /// Cluster-wide: `{session}` → session.
    Session = 0x30,
    /// Cluster-wide: `{session}{slot u16}` → last sequence and outcome.
    Slot = 0x31,
    /// Cluster-wide: `{session}` → how many locks the session has.
    LockCount = 0x32,
    /// Cluster-wide: `{node u32}` → chunk server.
    ChunkNode = 0x40,
    /// Cluster-wide: `{incarnation u128}` → number of the chunk server.
    ChunkNodeByIncarnation = 0x41,
    /// Cluster-wide: `{disk u32}` → disk.
    Disk = 0x42,
    /// Cluster-wide: `{uuid u128}` → number of the disk.
    DiskByUuid = 0x43,
    /// Cluster-wide: `{pool u16}{chunk u32}` → 256 rows of the partition table.
    PartitionRows = 0x44,
}

impl Table {
    /// Every table.
    pub(crate) const ALL: [Self; 25] = [
        Self::Cluster,
        Self::Counter,
        Self::Inode,
        Self::Entry,
        Self::EntryOrder,
        Self::Extent,
        Self::Xattr,
        Self::Symlink,
        Self::Open,
        Self::SessionOpen,
        Self::Orphan,
        Self::Garbage,
        Self::Exclusive,
        Self::Lock,
        Self::SessionLock,
        Self::Backref,
        Self::Repair,
        Self::Session,
        Self::Slot,
        Self::LockCount,
        Self::ChunkNode,
        Self::ChunkNodeByIncarnation,
        Self::Disk,
        Self::DiskByUuid,
        Self::PartitionRows,
    ];
}

/// Numbers that are counted in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Counter {
    /// Sequence of the last command that changed a versioned record.
    CommitSequence = 1,
    /// The last inode number given out (of a volume).
    LastInode = 2,
    /// Inodes in use (of a volume).
    Inodes = 3,
    /// The last session given out.
    LastSession = 4,
    /// The last chunk server number given out.
    LastChunkNode = 5,
    /// The last disk number given out.
    LastDisk = 6,
    /// The last metadata node id given out.
    LastMetadataNode = 7,
    /// Epoch of the partition table.
    TableEpoch = 8,
    /// Blocks with at least one row in `Repair`.
    UnderReplicatedBlocks = 9,
}

fn key(table: Table, volume: VolumeId, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + fields.iter().map(|field| field.len()).sum::<usize>());
    bytes.push(table as u8);
    bytes.extend_from_slice(&volume.0.to_be_bytes());
    for field in fields {
        bytes.extend_from_slice(field);
    }
    bytes
}

/// The smallest key behind all keys that begin with `prefix`.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // No table byte is 0xff, so a prefix that begins with one always has an end.
    vec![u8::MAX]
}

/// The range of all keys of a table in a volume.
pub(crate) fn table_range(table: Table, volume: VolumeId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(table, volume, &[]))
}

/// The range of all keys with a prefix.
pub(crate) fn prefix_range(prefix: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let end = end_of(&prefix);
    (prefix, end)
}

pub(crate) fn cluster() -> Vec<u8> {
    key(Table::Cluster, CLUSTER_WIDE, &[])
}

pub(crate) fn counter(counter: Counter) -> Vec<u8> {
    let volume = match counter {
        Counter::LastInode | Counter::Inodes => VOLUME,
        Counter::CommitSequence
        | Counter::LastSession
        | Counter::LastChunkNode
        | Counter::LastDisk
        | Counter::LastMetadataNode
        | Counter::TableEpoch
        | Counter::UnderReplicatedBlocks => CLUSTER_WIDE,
    };
    key(Table::Counter, volume, &[&[counter as u8]])
}

pub(crate) fn inode(inode: InodeId) -> Vec<u8> {
    key(Table::Inode, VOLUME, &[&inode.0.to_be_bytes()])
}

pub(crate) fn entry(parent: InodeId, name: &[u8]) -> Vec<u8> {
    key(Table::Entry, VOLUME, &[&parent.0.to_be_bytes(), name])
}

pub(crate) fn entry_order(parent: InodeId, cookie: u64) -> Vec<u8> {
    key(Table::EntryOrder, VOLUME, &[&parent.0.to_be_bytes(), &cookie.to_be_bytes()])
}

pub(crate) fn extent(inode: InodeId, offset: u64) -> Vec<u8> {
    key(Table::Extent, VOLUME, &[&inode.0.to_be_bytes(), &offset.to_be_bytes()])
}

/// All extents of a file.
pub(crate) fn extents(inode: InodeId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Extent, VOLUME, &[&inode.0.to_be_bytes()]))
}

pub(crate) fn xattr(inode: InodeId, name: &[u8]) -> Vec<u8> {
    key(Table::Xattr, VOLUME, &[&inode.0.to_be_bytes(), name])
}

/// All extended attributes of an inode.
pub(crate) fn xattrs(inode: InodeId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Xattr, VOLUME, &[&inode.0.to_be_bytes()]))
}

pub(crate) fn symlink(inode: InodeId) -> Vec<u8> {
    key(Table::Symlink, VOLUME, &[&inode.0.to_be_bytes()])
}

pub(crate) fn open(inode: InodeId, session: SessionId) -> Vec<u8> {
    key(Table::Open, VOLUME, &[&inode.0.to_be_bytes(), &session.0.to_be_bytes()])
}

/// All sessions that have a file open.
pub(crate) fn opens(inode: InodeId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Open, VOLUME, &[&inode.0.to_be_bytes()]))
}

pub(crate) fn session_open(session: SessionId, inode: InodeId) -> Vec<u8> {
    key(Table::SessionOpen, VOLUME, &[&session.0.to_be_bytes(), &inode.0.to_be_bytes()])
}

/// All files that a session has open.
pub(crate) fn session_opens(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::SessionOpen, VOLUME, &[&session.0.to_be_bytes()]))
}

pub(crate) fn orphan(inode: InodeId) -> Vec<u8> {
    key(Table::Orphan, VOLUME, &[&inode.0.to_be_bytes()])
}

pub(crate) fn garbage(inode: InodeId) -> Vec<u8> {
    key(Table::Garbage, VOLUME, &[&inode.0.to_be_bytes()])
}

pub(crate) fn exclusive(inode: InodeId) -> Vec<u8> {
    key(Table::Exclusive, VOLUME, &[&inode.0.to_be_bytes()])
}

pub(crate) fn lock(inode: InodeId, session: SessionId, owner: LockOwner, start: u64) -> Vec<u8> {
    key(
        Table::Lock,
        VOLUME,
        &[
            &inode.0.to_be_bytes(),
            &session.0.to_be_bytes(),
            &[lock_kind_byte(owner.kind)],
            &owner.id.to_be_bytes(),
            &start.to_be_bytes(),
        ],
    )
}

/// All locks of a file.
pub(crate) fn locks(inode: InodeId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Lock, VOLUME, &[&inode.0.to_be_bytes()]))
}

/// All locks of a session on a file.
pub(crate) fn locks_of_session(inode: InodeId, session: SessionId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Lock, VOLUME, &[&inode.0.to_be_bytes(), &session.0.to_be_bytes()]))
}

fn lock_kind_byte(kind: LockKind) -> u8 {
    match kind {
        LockKind::Posix => 1,
        LockKind::Ofd => 2,
        LockKind::Flock => 3,
        LockKind::Unseen => 4,
    }
}

pub(crate) fn session_lock(session: SessionId, inode: InodeId) -> Vec<u8> {
    key(Table::SessionLock, VOLUME, &[&session.0.to_be_bytes(), &inode.0.to_be_bytes()])
}

/// All files on which a session has locks.
pub(crate) fn session_locks(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::SessionLock, VOLUME, &[&session.0.to_be_bytes()]))
}

pub(crate) fn lock_count(session: SessionId) -> Vec<u8> {
    key(Table::LockCount, CLUSTER_WIDE, &[&session.0.to_be_bytes()])
}

pub(crate) fn backref(block: &BlockId, inode: InodeId, offset: u64) -> Vec<u8> {
    key(
        Table::Backref,
        CLUSTER_WIDE,
        &[
            &block.pool.0.to_be_bytes(),
            &block.hash.0,
            &VOLUME.0.to_be_bytes(),
            &inode.0.to_be_bytes(),
            &offset.to_be_bytes(),
        ],
    )
}

pub(crate) fn repair(block: &BlockId, disk: DiskId) -> Vec<u8> {
    key(Table::Repair, CLUSTER_WIDE, &[&block.pool.0.to_be_bytes(), &block.hash.0, &disk.0.to_be_bytes()])
}

/// All replicas that a block lacks.
pub(crate) fn repairs_of(block: &BlockId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Repair, CLUSTER_WIDE, &[&block.pool.0.to_be_bytes(), &block.hash.0]))
}

pub(crate) fn session(session: SessionId) -> Vec<u8> {
    key(Table::Session, CLUSTER_WIDE, &[&session.0.to_be_bytes()])
}

pub(crate) fn slot(session: SessionId, slot: SlotId) -> Vec<u8> {
    key(Table::Slot, CLUSTER_WIDE, &[&session.0.to_be_bytes(), &slot.0.to_be_bytes()])
}

/// All slots of a session.
pub(crate) fn slots(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    prefix_range(key(Table::Slot, CLUSTER_WIDE, &[&session.0.to_be_bytes()]))
}

pub(crate) fn chunk_node(node: ChunkNodeId) -> Vec<u8> {
    key(Table::ChunkNode, CLUSTER_WIDE, &[&node.0.to_be_bytes()])
}

pub(crate) fn chunk_node_by_incarnation(incarnation: Incarnation) -> Vec<u8> {
    key(Table::ChunkNodeByIncarnation, CLUSTER_WIDE, &[&incarnation.0.to_be_bytes()])
}

pub(crate) fn disk(disk: DiskId) -> Vec<u8> {
    key(Table::Disk, CLUSTER_WIDE, &[&disk.0.to_be_bytes()])
}

pub(crate) fn disk_by_uuid(uuid: DiskUuid) -> Vec<u8> {
    key(Table::DiskByUuid, CLUSTER_WIDE, &[&uuid.0.to_be_bytes()])
}

pub(crate) fn partition_rows(pool: PoolId, chunk: u32) -> Vec<u8> {
    key(Table::PartitionRows, CLUSTER_WIDE, &[&pool.0.to_be_bytes(), &chunk.to_be_bytes()])
}

/// Takes the fields of a key apart, behind its table and volume.
pub(crate) struct KeyFields<'k> {
    key: &'k [u8],
    at: usize,
}

impl<'k> KeyFields<'k> {
    /// Begins behind table and volume.
    pub(crate) fn of(key: &'k [u8]) -> Self {
        Self { key, at: 5 }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let field = self.key.get(self.at..self.at + N).and_then(|field| field.try_into().ok());
        self.at += N;
        field.ok_or_else(|| self.corrupt())
    }

    fn corrupt(&self) -> StorageError {
        StorageError::Corrupt(format!("key {:02x?} is too short or too long", self.key))
    }

    /// The kind and number of an owner of locks.
    pub(crate) fn lock_owner(&mut self) -> Result<LockOwner, StorageError> {
        let [byte] = self.take()?;
        let kinds = [LockKind::Posix, LockKind::Ofd, LockKind::Flock, LockKind::Unseen];
        let kind = kinds.into_iter().find(|kind| lock_kind_byte(*kind) == byte).ok_or_else(|| self.corrupt())?;
        Ok(LockOwner { kind, id: self.u64()? })
    }

    pub(crate) fn u16(&mut self) -> Result<u16, StorageError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StorageError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StorageError> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, StorageError> {
        self.take().map(u128::from_be_bytes)
    }

    pub(crate) fn block(&mut self) -> Result<BlockId, StorageError> {
        Ok(BlockId { pool: PoolId(self.u16()?), hash: BlockHash(self.take()?) })
    }

    /// The rest of the key: a name.
    pub(crate) fn rest(self) -> &'k [u8] {
        self.key.get(self.at..).unwrap_or_default()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), StorageError> {
        if self.at == self.key.len() { Ok(()) } else { Err(self.corrupt()) }
    }
}
