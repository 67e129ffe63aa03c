//! The real engine: RocksDB. Its write-ahead log is off: the Raft log is the log, and the mark in
//! every batch tells how far the state goes. A batch lies in one memtable and memtables are flushed
//! in order, so a crash leaves a prefix of the batches. Only [`StorageEngine::flush`], a checkpoint
//! and RocksDB's own flushes (each syncs its table file and the manifest) make state durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Options, ReadOptions,
    SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use super::engine::{Changes, MARK_KEY, Mark, StorageEngine, refuse_reserved};
use super::{ReadView, StorageError, Visit};

/// Memtable size, in bytes: as much as a restart has to replay at most from the Raft log, roughly.
const WRITE_BUFFER_BYTES: usize = 64 << 20;

/// State in a RocksDB folder.
pub struct RocksEngine {
    database: Arc<Database>,
    last: Mutex<Option<Mark>>,
    durable: AtomicU64,
}

/// The open database. Views keep it alive; a retired one removes its folder when it goes.
struct Database {
    // Dropped (closed) by hand before the folder goes.
    db: Option<DB>,
    folder: PathBuf,
    retired: AtomicBool,
}

impl RocksEngine {
    /// Opens or creates the database of a folder. Blocks are cached in `cache`, which several engines
    /// may share.
    pub fn open(folder: &Path, cache: &Cache) -> Result<Self, StorageError> {
        let db = DB::open(&options(cache), folder).map_err(|e| context(folder, &e))?;
        let last = db.get(MARK_KEY).map_err(|e| context(folder, &e))?;
        let last = last.map(|bytes| Mark::decode(&bytes)).transpose()?;
        // Without a write-ahead log all that is found was flushed.
        let durable = AtomicU64::new(last.as_ref().map_or(0, |mark| mark.index));
        let database = Database { db: Some(db), folder: folder.to_owned(), retired: AtomicBool::new(false) };
        Ok(Self { database: Arc::new(database), last: Mutex::new(last), durable })
    }
}

impl StorageEngine for RocksEngine {
    fn view(&self) -> Box<dyn ReadView + Send + Sync> {
        Box::new(RocksView::new(self.database.clone()))
    }

    fn commit(&self, changes: Changes, mark: &Mark) -> Result<(), StorageError> {
        refuse_reserved(&changes)?;
        let mut batch = WriteBatch::default();
        for (key, change) in &changes {
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(MARK_KEY, mark.encode());
        let mut without_log = WriteOptions::default();
        without_log.disable_wal(true);
        // The lock orders commits and makes `last` what the database holds.
        let mut last = self.last.lock();
        self.database.open().write_opt(batch, &without_log).map_err(|e| self.database.error(&e))?;
        *last = Some(mark.clone());
        Ok(())
    }

    fn mark(&self) -> Option<Mark> {
        self.last.lock().clone()
    }

    fn flush(&self) -> Result<u64, StorageError> {
        let reached = self.last.lock().as_ref().map_or(0, |mark| mark.index);
        if reached > self.durable.load(Ordering::Acquire) {
            self.database.open().flush().map_err(|e| self.database.error(&e))?;
            self.durable.fetch_max(reached, Ordering::AcqRel);
        }
        Ok(self.durable_index())
    }

    fn durable_index(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn checkpoint(&self, folder: &Path) -> Result<Option<Mark>, StorageError> {
        // No commit may come between the mark that is read and the copy.
        let last = self.last.lock();
        let checkpoint = Checkpoint::new(self.database.open()).map_err(|e| self.database.error(&e))?;
        // Flushes the memtable, links the table files, copies and syncs the manifest.
        checkpoint.create_checkpoint(folder).map_err(|e| context(folder, &e))?;
        self.durable.fetch_max(last.as_ref().map_or(0, |mark| mark.index), Ordering::AcqRel);
        Ok(last.clone())
    }

    fn retire(&self) {
        self.database.retired.store(true, Ordering::Release);
    }
}

impl Database {
    fn open(&self) -> &DB {
        // Invariant: `db` is taken in `drop` only.
        #[allow(clippy::expect_used)]
        self.db.as_ref().expect("the database is open until it is dropped")
    }

    fn error(&self, error: &rocksdb::Error) -> StorageError {
        context(&self.folder, error)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.retired.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a replaced state folder");
        }
    }
}

fn context(folder: &Path, error: &rocksdb::Error) -> StorageError {
    StorageError::Engine(format!("{}: {error}", folder.display()))
}

fn options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_format_version(6);
    // Names that are not there are looked up as often as names that are.
    table.set_bloom_filter(10.0, false);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_atomic_flush(true);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(4);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.02);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 << 20);
    options
}

/// A RocksDB snapshot together with what keeps its database open.
struct RocksView {
    // Declared before the database: released first.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    _database: Arc<Database>,
}

impl RocksView {
    fn new(database: Arc<Database>) -> Self {
        let db: *const DB = database.open();
        // SAFETY: the `DB` lives inside the `Arc<Database>` that this view holds: it neither moves
        // (the value of an `Arc` has a stable address and nobody has `&mut` to it before its drop) nor
        // ends before `_database` does, and `snapshot` is declared, hence dropped, before `_database`.
        let db: &'static DB = unsafe { &*db };
        Self { snapshot: SnapshotWithThreadMode::new(db), _database: database }
    }

    fn iterate(&self, from: &[u8], to: &[u8]) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        self.snapshot.raw_iterator_opt(options)
    }
}

fn read_error(error: &rocksdb::Error) -> StorageError {
    StorageError::Engine(error.to_string())
}

impl ReadView for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.snapshot.get_pinned(key) {
            Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(read_error(&error)),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let mut iterator = self.iterate(from, to);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(|e| read_error(&e))
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let mut iterator = self.iterate(from, to);
        iterator.seek_to_last();
        while let Some((key, value)) = iterator.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            iterator.prev();
        }
        iterator.status().map_err(|e| read_error(&e))
    }
}
