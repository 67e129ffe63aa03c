//! The bounds of a mount, each with its reason. Defaults are what a mount runs with.

use std::time::Duration;

use cairn_common::limits;

use crate::lease::CacheLimits;

/// Bounds and sizes of a mount.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// Bytes that are written but not committed, all files together, as far as the cluster grants them; writers
    /// wait beyond it. Small
    /// enough that it drains within 2 s (P3).
    pub dirty_limit_bytes: u64,
    /// Data that nobody flushes is committed after this long.
    pub flush_interval: Duration,
    /// Data on stable storage but not committed yet, per file, that starts a commit in the background.
    pub commit_batch_bytes: u64,
    /// Reads change access times, as Linux's relatime does it.
    pub relatime: bool,
    /// Access times of reads are told to the cluster after this long.
    pub access_time_delay: Duration,
    /// Blocks on their way to chunk servers at once.
    pub uploads_at_once: usize,
    /// Verified block data kept for reads, in bytes.
    pub block_cache_bytes: usize,
    /// Blocks fetched ahead of a sequential reader.
    pub read_ahead_blocks: u32,
    /// A registration for reading is kept so long after its last close: reopening is free.
    pub read_release_delay: Duration,
    /// The same for writing, with the exclusive lease, and not before the bytes are flushed.
    pub write_release_delay: Duration,
    /// Registrations that nobody uses; beyond it they are released without delay.
    pub idle_registrations_max: usize,
    /// What is remembered under shared leases: about 600 bytes an inode and 100 a name.
    pub cache: CacheLimits,
    /// Longest time that a request of the kernel takes.
    pub call_timeout: Duration,
    /// Longest time that an unmount takes to flush.
    pub shutdown_timeout: Duration,
}

impl Default for MountSettings {
    fn default() -> Self {
        Self {
            dirty_limit_bytes: 64 << 20,
            flush_interval: Duration::from_secs(1),
            commit_batch_bytes: 16 << 20,
            relatime: true,
            access_time_delay: Duration::from_secs(1),
            uploads_at_once: 8,
            block_cache_bytes: 96 << 20,
            read_ahead_blocks: 2,
            read_release_delay: Duration::from_secs(1),
            write_release_delay: Duration::from_secs(1),
            idle_registrations_max: 1024,
            cache: CacheLimits { inodes: 100_000, names: 200_000 },
            call_timeout: limits::CALL_TIMEOUT,
            shutdown_timeout: Duration::from_secs(3),
        }
    }
}
