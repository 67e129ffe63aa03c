//! Ordered keys and values below the state machine. [`ReadView`] is what the namespace reads;
//! [`Transaction`] gathers what an entry changes, and a [`StorageEngine`] ([`rocksdb_engine`], or
//! [`memory`] in tests and simulation) takes it in at once together with the applied index.

pub mod engine;
pub mod memory;
#[cfg(test)]
mod model_tests;
pub mod read_view;
pub mod rocksdb_engine;
pub mod transaction;

pub use engine::{Mark, OpenEngine, StorageEngine};
pub use memory::MemoryEngine;
pub use read_view::{ReadView, StorageError, Visit};
pub use rocksdb_engine::RocksEngine;
pub use transaction::Transaction;
