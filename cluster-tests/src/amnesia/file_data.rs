//! The bytes of one file: the durable file in the backing folder, and a scratch file that holds
//! exactly the ranges that were not synced. Reads merge the two; a sync copies and forgets; a power
//! loss forgets without copying, but for a random part.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use rand::Rng;
use rand::rngs::StdRng;
use rustix::fs::{FallocateFlags, fallocate};

use super::range_set::RangeSet;

/// Bytes copied at once.
const COPY_BYTES: u64 = 1 << 20;
/// A scratch file that took more than this gives its space back at the next sync, in bytes.
const SCRATCH_KEPT_BYTES: u64 = 16 << 20;
/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: u64 = 512;
/// What the page cache writes back at once, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Contents of a regular file.
pub(super) struct FileData {
    durable: File,
    scratch: Option<File>,
    make_scratch: Box<dyn Fn() -> io::Result<File> + Send + Sync>,
    /// Ranges that are in the scratch file.
    dirty: RangeSet,
    /// Bytes of the durable file below this offset are visible; a truncation lowers it.
    visible: u64,
    size: u64,
    /// Bytes written to the scratch file since it was made.
    scratched: u64,
    /// Last change of the bytes.
    pub(super) modified: SystemTime,
}

impl FileData {
    /// A file over its durable part, all in sync.
    pub(super) fn new(
        durable: File,
        make_scratch: impl Fn() -> io::Result<File> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let metadata = durable.metadata()?;
        let (size, modified) = (metadata.len(), metadata.modified()?);
        let make_scratch = Box::new(make_scratch);
        let dirty = RangeSet::default();
        Ok(Self { durable, scratch: None, make_scratch, dirty, visible: size, size, scratched: 0, modified })
    }

    /// Length as the running system sees it, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The durable file, to give it a name.
    pub(super) fn durable(&self) -> &File {
        &self.durable
    }

    /// Bytes that a power loss would take.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.total()
    }

    /// Reads up to `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let end = self.size.min(offset.saturating_add(length));
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; (end - offset) as usize];
        let visible = end.min(self.visible);
        if offset < visible {
            read_at(&self.durable, &mut bytes[..(visible - offset) as usize], offset)?;
        }
        if let Some(scratch) = &self.scratch {
            for range in self.dirty.within(offset..end) {
                let part = &mut bytes[(range.start - offset) as usize..(range.end - offset) as usize];
                part.fill(0);
                read_at(scratch, part, range.start)?;
            }
        }
        Ok(bytes)
    }

    /// Writes bytes at `offset`.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.scratch()?.write_all_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        self.dirty.insert(offset..end);
        self.size = self.size.max(end);
        self.scratched += bytes.len() as u64;
        self.modified = SystemTime::now();
        Ok(())
    }

    /// Cuts or extends the file.
    pub(super) fn truncate(&mut self, size: u64) {
        self.dirty.truncate(size);
        self.visible = self.visible.min(size);
        self.size = size;
        self.modified = SystemTime::now();
    }

    /// Makes a range read as zeros; the length stays.
    pub(super) fn zero(&mut self, range: Range<u64>) -> io::Result<()> {
        let range = range.start..range.end.min(self.size);
        if range.is_empty() {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(self.scratch()?, flags, range.start, range.end - range.start)?;
        self.dirty.insert(range);
        Ok(())
    }

    /// Extends the file to at least `size` (fallocate without KEEP_SIZE).
    pub(super) fn extend(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// fsync: everything becomes durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.apply_truncation()?;
        for range in self.dirty.all() {
            self.copy_to_durable(range)?;
        }
        self.durable.set_len(self.size)?;
        self.forget();
        Ok(())
    }

    /// Power goes: of what is not synced each sector or page survives with the probability `keep`,
    /// and so do the truncation and the new length. Answers bytes kept and lost.
    pub(super) fn lose_power(&mut self, rng: &mut StdRng, keep: f64) -> io::Result<(u64, u64)> {
        let (mut kept, mut lost) = (0, 0);
        let unit = if rng.random_bool(0.5) { SECTOR_BYTES } else { PAGE_BYTES };
        if rng.random_bool(keep) {
            self.apply_truncation()?;
        }
        for range in self.dirty.all() {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min((at / unit + 1) * unit);
                if rng.random_bool(keep) {
                    self.copy_to_durable(at..end)?;
                    kept += end - at;
                } else {
                    lost += end - at;
                }
                at = end;
            }
        }
        if self.size > self.durable.metadata()?.len() && rng.random_bool(keep) {
            self.durable.set_len(self.size)?;
        }
        Ok((kept, lost))
    }

    fn scratch(&mut self) -> io::Result<&File> {
        if self.scratch.is_none() {
            self.scratch = Some((self.make_scratch)()?);
        }
        Ok(self.scratch.as_ref().expect("the scratch file was just made"))
    }

    fn apply_truncation(&mut self) -> io::Result<()> {
        if self.visible < self.durable.metadata()?.len() {
            self.durable.set_len(self.visible)?;
        }
        Ok(())
    }

    fn copy_to_durable(&self, range: Range<u64>) -> io::Result<()> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        let mut buffer = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let length = COPY_BYTES.min(range.end - at);
            buffer.clear();
            buffer.resize(length as usize, 0);
            read_at(scratch, &mut buffer, at)?;
            self.durable.write_all_at(&buffer, at)?;
            at += length;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.dirty.clear();
        self.visible = self.size;
        if self.scratched > SCRATCH_KEPT_BYTES {
            (self.scratch, self.scratched) = (None, 0);
        }
    }
}

/// Fills the buffer from a file; what lies behind its end stays as it is.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(())
}
