//! The seam between the block store and a disk: append-only segment files in one folder.
//! [`super::file_disk`] is the real one; tests put one in its place that loses what was not synced.
//!
//! Durability: nothing that is written is durable before [`SegmentFile::sync_data`] has returned,
//! and a new segment not before [`Disk::sync_folder`] has, too. A sync that failed once must never be
//! retried as if nothing had happened: the kernel may have dropped the pages.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Number of a segment file; they count up from 1 and are never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Size of the file system that a disk folder is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// The same for all folders of one file system, and for no others; 0: not known.
    pub file_system: u64,
}

/// The segment files of one disk folder. Calls block on IO.
pub trait Disk: Send + Sync + 'static {
    /// Segments that exist, in order.
    fn list(&self) -> io::Result<Vec<SegmentId>>;
    /// Makes an empty segment; it must not exist. Durable after [`Disk::sync_folder`].
    fn create(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a segment.
    fn open(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>>;
    /// Deletes a segment. Durable after [`Disk::sync_folder`].
    fn remove(&self, segment: SegmentId) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// Asks the file system for its size.
    fn space(&self) -> io::Result<Space>;
}

/// One open segment file. Reads run beside the one writer.
pub trait SegmentFile: Send + Sync + 'static {
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Writes all the bytes at `offset`. After an error any part of them may have been written.
    fn write_at(&self, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<()>;
    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Makes everything written so far durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, and gives back space that was reserved behind its end.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Reserves space without changing the length; only a hint.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives the space of a range back; it reads as zeros afterwards.
    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()>;
}
