//! What can be set about the store of one disk.

use std::time::Duration;

/// Where the work of a store is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Two threads of its own: group commits, and maintenance.
    Own,
    /// None: a put is committed on the thread that polls it, and there is no maintenance (no flush of
    /// the index, no scrub). For simulations.
    Callers,
}

/// Settings of one disk's store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// A segment is closed when the next record would make it longer than this, in bytes.
    pub segment_bytes: u64,
    /// Capacity in bytes; 0: the file system's size.
    pub capacity_bytes: u64,
    /// Bytes that are kept for what mounts have acknowledged to programs already. None: 1 % of the capacity,
    /// 64 MiB to 64 GiB, but no more than a quarter of it.
    pub reserve_bytes: Option<u64>,
    /// Bytes that the scrub reads in a second; 0: no scrub.
    pub scrub_bytes_per_second: u64,
    /// The index is made durable this often while it changes: what a start must read again.
    pub index_flush_interval: Duration,
    /// Where its work is done.
    pub threads: Threads,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            capacity_bytes: 0,
            reserve_bytes: None,
            scrub_bytes_per_second: 8 << 20,
            index_flush_interval: Duration::from_secs(5),
            threads: Threads::Own,
        }
    }
}

impl StoreOptions {
    /// The write reserve of a disk of this capacity, in bytes.
    pub fn reserve(&self, capacity_bytes: u64) -> u64 {
        let usual = (capacity_bytes / 100).clamp(64 << 20, 64 << 30);
        self.reserve_bytes.unwrap_or_else(|| usual.min(capacity_bytes / 4))
    }
}
