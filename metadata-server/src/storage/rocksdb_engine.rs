//! The real engine: RocksDB.
