//! The metadata server: names, inodes, extent maps, sessions, the cluster map, under Raft.
//! Writes flow service → raft → namespace → storage. It never touches file bytes above the inline
//! limit. `namespace`, `placement`, `lease`, `write_reserve` and `collection` are pure: no tokio, clock, randomness or hash-map order.

pub mod collection;
pub mod lease;
pub mod lock_queue;
pub mod namespace;
pub mod placement;
pub mod raft;
pub mod service;
pub mod storage;
pub mod write_reserve;
