//! The metadata service over real QUIC, Raft and RocksDB, in one process.

mod chunk_control;
mod leases;
mod sessions;
mod support;
