//! The store of one disk: put, read, has, list. Opening recovers; dropping writes what is queued and
//! makes the index durable.
//!
//! Durability: [`DiskStore::put`] answers `Durable` only for what survives a power failure.

use std::path::Path;
use std::sync::Arc;

use cairn_common::block::BlockId;
use cairn_common::ids::{DiskUuid, PartitionId};
use cairn_common::protocol::chunk::PutOutcome;
use tokio::sync::Semaphore;

use super::committer::Committer;
use super::disk::Disk;
use super::index::{Counters, Index, IndexError};
use super::index_entry::IndexEntry;
use super::journal::{Journal, News};
use super::maintenance::Maintenance;
use super::options::{StoreOptions, Threads};
use super::prepared::PreparedBlock;
use super::reader::{self, ReadOutcome};
use super::recovery::{Recovered, RecoveryError, recover};
use super::segments::Segments;
use super::shared::Shared;
use super::writer::Writer;

/// Bytes of blocks that may wait for the writer; who brings more waits before.
const MAX_QUEUED_BYTES: usize = 256 << 20;
/// Unit of the queue's bound: a permit is so many bytes.
const PERMIT_BYTES: usize = 4096;

/// A disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed.
    #[error("{action}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The index failed, and rebuilding it, too.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What is on the disk cannot be read or understood; nothing was changed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// State of a disk, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// Bytes that may still be written, without the reserve.
    pub free_bytes: u64,
    /// The write reserve.
    pub reserve_bytes: u64,
    /// Free bytes of all, the reserve among them.
    pub room_bytes: u64,
    /// The file system that it is on, see [`super::disk::Space`].
    pub file_system: u64,
    /// Blocks on the disk, damaged ones included.
    pub blocks: u64,
    /// Damaged blocks.
    pub damaged_blocks: u64,
    /// Why the disk failed, or None.
    pub failure: Option<String>,
}

/// The blocks of one disk.
pub struct DiskStore {
    /// There until the store is dropped, maintenance only with threads of its own.
    writer: Option<Writer>,
    maintenance: Option<Maintenance>,
    shared: Arc<Shared>,
    queue_room: Semaphore,
    recovered: Recovered,
}

impl DiskStore {
    /// Opens a disk: brings the index in `index_folder` (made if absent, rebuilt if broken) up to the
    /// segments. Blocks on IO; a full rebuild reads the whole disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        index_folder: &Path,
        uuid: DiskUuid,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        Self::open_on(disk, open_index(index_folder, uuid)?, uuid, options)
    }

    /// The same with an index that is open.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        index: Index,
        uuid: DiskUuid,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let segments = Segments::new(disk);
        let recovered = recover(&segments, &index, uuid)?;
        tracing::info!(disk = %uuid, ?recovered, blocks = index.counters().blocks, "disk is open");
        let used_bytes = used_bytes(&segments).map_err(|error| StoreError::Io { action: "cannot measure", error })?;
        let shared = Arc::new(Shared::new(uuid, options, segments, index, used_bytes));
        let store = Self {
            writer: Some(
                start_writer(&shared, uuid, &recovered)
                    .map_err(|error| StoreError::Io { action: "cannot start the writer", error })?,
            ),
            maintenance: match options.threads {
                Threads::Own => Some(
                    Maintenance::start(shared.clone())
                        .map_err(|error| StoreError::Io { action: "cannot start maintenance", error })?,
                ),
                Threads::Callers => None,
            },
            shared,
            queue_room: Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES),
            recovered,
        };
        store.report_all_damage();
        Ok(store)
    }

    /// Stores blocks. Answers when each is durable or cannot be; one outcome a block, in order. If the
    /// future is dropped, the blocks may be stored all the same.
    pub async fn put(&self, blocks: Vec<PreparedBlock>) -> Vec<PutOutcome> {
        let count = blocks.len();
        if self.failure().is_some() {
            return vec![PutOutcome::NoDisk; count];
        }
        let bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
        let permits = bytes.div_ceil(PERMIT_BYTES).clamp(1, MAX_QUEUED_BYTES / PERMIT_BYTES);
        // The semaphore is never closed.
        let (Ok(_room), Some(writer)) = (self.queue_room.acquire_many(permits as u32).await, &self.writer) else {
            return vec![PutOutcome::NoDisk; count];
        };
        writer.put(blocks).await.unwrap_or_else(|_| vec![PutOutcome::NoDisk; count])
    }

    /// Reads the groups of a block that cover `length` bytes from `offset` on. Blocks on IO.
    pub fn read(&self, block: &BlockId, offset: u32, length: u32) -> ReadOutcome {
        reader::read(&self.shared, block, offset, length)
    }

    /// Whether the block is here, durable, and whole as far as is known. Blocks on IO of the index.
    pub fn has(&self, block: &BlockId) -> bool {
        self.failure().is_none() && matches!(self.shared.index.entry(block), Ok(Some(entry)) if !entry.damaged)
    }

    /// Whole blocks of a partition; see [`Index::list`].
    pub fn list(
        &self,
        partition: PartitionId,
        partitions: u32,
        after: Option<&BlockId>,
        limit: usize,
    ) -> Result<(Vec<BlockId>, bool), IndexError> {
        self.shared.index.list(partition, partitions, after, limit)
    }

    /// The disk's id.
    pub fn uuid(&self) -> DiskUuid {
        self.shared.disk
    }

    /// Why the disk failed, or None while it works.
    pub fn failure(&self) -> Option<&str> {
        self.shared.health.failure()
    }

    /// Its state.
    pub fn report(&self) -> StoreReport {
        let room = self.shared.room();
        let Counters { blocks, damaged } = self.shared.index.counters();
        StoreReport {
            capacity_bytes: room.total_bytes,
            free_bytes: room.for_puts(false),
            reserve_bytes: room.reserve_bytes,
            room_bytes: room.free_bytes,
            file_system: room.file_system,
            blocks,
            damaged_blocks: damaged,
            failure: self.failure().map(str::to_owned),
        }
    }

    /// What the metadata leader has not been told yet.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Puts all known damage on the list of news: after a start, and for a leader that knows nothing.
    pub fn report_all_damage(&self) {
        match self.shared.index.damaged() {
            Ok(blocks) => blocks.into_iter().for_each(|block| self.shared.journal.add(block, News::Damaged)),
            Err(error) => self.shared.health.fail(error.to_string()),
        }
    }

    /// What recovery found when the disk was opened.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Visits all that the index knows. For tests and tools: it walks the whole index.
    pub fn for_each(&self, visit: impl FnMut(BlockId, IndexEntry) -> bool) -> Result<(), IndexError> {
        self.shared.index.for_each(visit)
    }

    /// Makes the index durable now.
    pub fn flush_index(&self) -> Result<(), IndexError> {
        self.shared.index.flush()
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.maintenance = None;
        // Writes what is queued; only then the index is complete.
        self.writer = None;
        if self.failure().is_none()
            && let Err(error) = self.shared.index.flush()
        {
            tracing::error!(%error, "cannot make the index durable; the next start reads more");
        }
    }
}

fn start_writer(shared: &Arc<Shared>, uuid: DiskUuid, recovered: &Recovered) -> std::io::Result<Writer> {
    Writer::start(Committer::new(shared.clone(), uuid, recovered)?, shared.clone())
}

fn used_bytes(segments: &Segments) -> std::io::Result<u64> {
    let mut bytes = 0;
    for segment in segments.disk().list()? {
        bytes += segments.file(segment)?.length()?;
    }
    Ok(bytes)
}

/// A broken or foreign index is thrown away: everything in it is in the segments, too.
fn open_index(folder: &Path, uuid: DiskUuid) -> Result<Index, IndexError> {
    match Index::open(folder, uuid) {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::error!(%error, folder = %folder.display(), "index cannot be used; it is rebuilt from the segments");
            Index::destroy(folder)?;
            Index::open(folder, uuid)
        }
    }
}
