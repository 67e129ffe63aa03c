//! The vocabulary that every Cairn program shares: ids, block names, messages, codec, transport,
//! identity, limits, clock, telemetry. It knows nothing of RocksDB, FUSE or Raft, and no server
//! code: the other crates depend on this one and (except `cluster-tests`) on nothing else of ours.

pub mod block;
pub mod block_tree;
pub mod blocking;
pub mod client;
pub mod clock;
pub mod codec;
pub mod config;
pub mod durable_file;
pub mod extent;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod lock_spans;
pub mod mode;
pub mod name;
pub mod partition_table;
pub mod posix_acl;
pub mod protocol;
pub mod telemetry;
pub mod transport;
