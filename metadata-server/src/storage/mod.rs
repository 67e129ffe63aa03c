//! Ordered keys and values below the state machine. [`ReadView`] is what the namespace reads;
//! [`Transaction`] gathers what an entry changes, and the engine ([`rocksdb_engine`], or [`memory`]
//! in tests and simulation) takes it in at once together with the applied index.

pub mod memory;
pub mod read_view;
pub mod rocksdb_engine;
pub mod transaction;

pub use read_view::{ReadView, StorageError};
pub use transaction::Transaction;
