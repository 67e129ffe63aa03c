//! The ordered keys below an index: the seam for simulations, which have a database in memory. The real
//! one is RocksDB without a write-ahead log.
//!
//! Durability: what was written is there after a crash up to some write, no later than the last
//! [`IndexDatabase::flush`] that returned; never a part of a write, never one without those before.

use std::ops::ControlFlow;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch, WriteOptions,
};

use super::index::IndexError;

const CACHE_BYTES: usize = 64 << 20;
const WRITE_BUFFER_BYTES: usize = 16 << 20;

/// Puts (`Some`) and deletes (`None`).
pub type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Sees keys and values in order, until it breaks.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Ordered keys and values.
pub trait IndexDatabase: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Carries all of it out, in order, or nothing.
    fn write(&self, writes: Writes) -> Result<(), IndexError>;
    /// Visits keys and values in order from a key on, until the visitor breaks.
    fn scan(&self, from: &[u8], visit: Visit<'_>) -> Result<(), IndexError>;
    /// Makes all that was written durable.
    fn flush(&self) -> Result<(), IndexError>;
}

/// RocksDB in a folder.
pub struct RocksIndex {
    db: DB,
    writes: WriteOptions,
}

impl RocksIndex {
    /// Opens or makes it.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let db = DB::open(&options(), folder).map_err(failed)?;
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        Ok(Self { db, writes })
    }

    /// Deletes it.
    pub fn destroy(folder: &Path) -> Result<(), IndexError> {
        DB::destroy(&options(), folder).map_err(failed)
    }
}

impl IndexDatabase for RocksIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.db.get(key).map_err(failed)
    }

    fn write(&self, writes: Writes) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.db.write_opt(batch, &self.writes).map_err(failed)
    }

    fn scan(&self, from: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        for item in self.db.iterator(IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = item.map_err(failed)?;
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.db.flush().map_err(failed)
    }
}

fn failed(error: rocksdb::Error) -> IndexError {
    IndexError::Database(error.to_string())
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_compression_type(DBCompressionType::None);
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    options
}
