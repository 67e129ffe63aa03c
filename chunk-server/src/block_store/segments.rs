//! Open segment files, a bounded number of them, shared by reads and scrub. No lock is held over IO on
//! a file, only over opening one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, SegmentFile, SegmentId};

/// Most segment files kept open.
const MAX_OPEN: usize = 512;

/// The segment files of a disk.
pub struct Segments {
    disk: Arc<dyn Disk>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<SegmentId, (Arc<dyn SegmentFile>, u64)>,
    uses: u64,
}

impl Segments {
    /// Of this disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// The disk below.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// An open file of a segment.
    pub fn file(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        {
            let mut open = self.open.lock();
            open.uses += 1;
            let uses = open.uses;
            if let Some((file, used)) = open.files.get_mut(&segment) {
                *used = uses;
                return Ok(file.clone());
            }
        }
        let file = self.disk.open(segment)?;
        self.add(segment, file.clone());
        Ok(file)
    }

    /// Makes a new segment. The caller syncs the folder.
    pub fn create(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.disk.create(segment)?;
        self.add(segment, file.clone());
        Ok(file)
    }

    fn add(&self, segment: SegmentId, file: Arc<dyn SegmentFile>) {
        let mut open = self.open.lock();
        if open.files.len() >= MAX_OPEN {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(segment, _)| *segment);
            if let Some(oldest) = oldest {
                open.files.remove(&oldest);
            }
        }
        open.uses += 1;
        let uses = open.uses;
        open.files.insert(segment, (file, uses));
    }
}
