//! A chunk server's disk in memory: what was not synced may be lost, in any part, when the power
//! fails. It knows which blocks are durable, so that an invariant can ask.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use cairn_chunk::block_store::disk::{Disk, SegmentFile, SegmentId, Space};
use cairn_chunk::block_store::index::IndexError;
use cairn_chunk::block_store::index_database::{IndexDatabase, Visit, Writes};
use cairn_chunk::block_store::record::{HEADER_BYTES, RecordHeader, groups_bytes};
use cairn_common::block::{BlockHash, BlockId};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

/// What a machine's disk holds. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<SegmentId, FileState>,
    /// Processes before this one can do nothing any more.
    life: u64,
    /// Planted: an fdatasync that says yes at once and is carried out with the next one.
    lazy_sync: bool,
}

#[derive(Default)]
struct FileState {
    is_listed: bool,
    durable: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Change>,
    /// Where the durable records of blocks begin.
    blocks: BTreeSet<(BlockId, u64)>,
    unsynced_blocks: Vec<(BlockId, u64)>,
}

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl SimDisk {
    /// The disk as a new process opens it.
    pub(crate) fn open(&self) -> Arc<dyn Disk> {
        let life = self.state.lock().life;
        Arc::new(Life { disk: self.clone(), life })
    }

    /// fdatasync answers before it is done, from now on.
    pub(crate) fn sync_lazily(&self) {
        self.state.lock().lazy_sync = true;
    }

    /// The process is gone; what it wrote is there.
    pub(crate) fn detach(&self) {
        self.state.lock().life += 1;
    }

    /// Power loss: of what was not synced, some is lost, in pieces.
    pub(crate) fn lose_power(&self, dice: &mut StdRng) {
        let mut state = self.state.lock();
        state.files.retain(|_, file| file.is_listed || dice.random_bool(0.5));
        for file in state.files.values_mut() {
            file.is_listed = true;
            let mut content = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                lose_some(&mut content, change, dice);
            }
            file.blocks.extend(file.unsynced_blocks.drain(..));
            file.blocks.retain(|(block, at)| is_whole(&content, block, *at));
            file.durable.clone_from(&content);
            file.now = content;
        }
    }

    /// Whether a power loss now would leave the block whole.
    pub(crate) fn has_durably(&self, block: &BlockId) -> bool {
        self.state.lock().files.values().any(|file| file.is_listed && file.has_durably(block))
    }
}

/// Applies none, some or all of a change that was not synced. A disk writes sectors.
fn lose_some(content: &mut Vec<u8>, change: Change, dice: &mut StdRng) {
    match change {
        Change::Truncate(length) => {
            if dice.random_bool(0.5) {
                content.resize(length as usize, 0);
            }
        }
        Change::Write(offset, bytes) => match dice.random_range(0..4) {
            0 => {}
            1 => write(content, offset, &bytes),
            2 => write(content, offset, &bytes[..dice.random_range(0..=bytes.len())]),
            _ => {
                for (index, sector) in bytes.chunks(512).enumerate() {
                    if dice.random_bool(0.5) {
                        write(content, offset + index as u64 * 512, sector);
                    }
                }
            }
        },
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

/// The records of a run of bytes that begins with one: where each begins, and its header.
fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, RecordHeader)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = RecordHeader::decode(bytes.get(at..at + HEADER_BYTES)?.try_into().ok()?).ok()?;
        let found = (at, header);
        at += header.record_bytes() as usize;
        Some(found)
    })
}

/// Whether the record of a block that began there is whole: a torn one elsewhere does not matter.
fn is_whole(content: &[u8], block: &BlockId, at: u64) -> bool {
    let Some((_, header)) = content.get(at as usize..).and_then(|rest| records(rest).next()) else { return false };
    let from = at as usize + HEADER_BYTES + groups_bytes(header.stored_bytes);
    let payload = content.get(from..from + header.stored_bytes as usize);
    header.block == *block && payload.is_some_and(|payload| BlockHash::of(payload) == header.stored_hash)
}

impl FileState {
    fn has_durably(&self, block: &BlockId) -> bool {
        let places = self.blocks.range((*block, 0)..=(*block, u64::MAX));
        places.into_iter().any(|(_, at)| is_whole(&self.durable, block, *at))
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write(offset, bytes) => write(&mut self.durable, offset, &bytes),
                Change::Truncate(length) => self.durable.resize(length as usize, 0),
            }
        }
        self.blocks.extend(self.unsynced_blocks.drain(..));
    }
}

/// The disk of one process.
struct Life {
    disk: SimDisk,
    life: u64,
}

struct Segment {
    disk: SimDisk,
    life: u64,
    id: SegmentId,
}

fn gone() -> io::Error {
    io::Error::other("the power is off")
}

impl Life {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.life != self.life { Err(gone()) } else { act(&mut state) }
    }

    fn segment(&self, id: SegmentId) -> Arc<dyn SegmentFile> {
        Arc::new(Segment { disk: self.disk.clone(), life: self.life, id })
    }
}

impl Disk for Life {
    fn list(&self) -> io::Result<Vec<SegmentId>> {
        self.with(|state| Ok(state.files.keys().copied().collect()))
    }

    fn create(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        self.with(|state| match state.files.insert(segment, FileState::default()) {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        })?;
        Ok(self.segment(segment))
    }

    fn open(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        self.with(|state| state.files.get(&segment).map(|_| ()).ok_or(io::ErrorKind::NotFound.into()))?;
        Ok(self.segment(segment))
    }

    fn remove(&self, segment: SegmentId) -> io::Result<()> {
        self.with(|state| {
            state.files.remove(&segment);
            Ok(())
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.with(|state| {
            state.files.values_mut().for_each(|file| file.is_listed = true);
            Ok(())
        })
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { total_bytes: 1 << 40, free_bytes: 1 << 39, file_system: 0 })
    }
}

impl Segment {
    fn with<T>(&self, act: impl FnOnce(&mut FileState, bool) -> T) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.life != self.life {
            return Err(gone());
        }
        let lazy = state.lazy_sync;
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        Ok(act(file, lazy))
    }
}

impl SegmentFile for Segment {
    fn length(&self) -> io::Result<u64> {
        self.with(|file, _| file.now.len() as u64)
    }

    fn write_at(&self, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.with(|file, lazy| {
            if lazy {
                // The sync that was answered before.
                file.sync();
            }
            write(&mut file.now, offset, &bytes);
            file.unsynced_blocks.extend(records(&bytes).map(|(at, header)| (header.block, offset + at as u64)));
            file.unsynced.push(Change::Write(offset, bytes));
        })
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.with(|file, _| {
            let start = (offset as usize).min(file.now.len());
            let end = (start + length).min(file.now.len());
            file.now[start..end].to_vec()
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|file, lazy| {
            if !lazy {
                file.sync();
            }
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|file, _| {
            file.now.resize(length as usize, 0);
            file.unsynced.push(Change::Truncate(length));
        })
    }

    fn reserve(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.with(|file, _| {
            let end = ((offset + length) as usize).min(file.now.len());
            let zeros = vec![0; end - offset as usize];
            write(&mut file.now, offset, &zeros);
            file.unsynced.push(Change::Write(offset, zeros));
        })
    }
}

/// The index of a disk, which falls back to its last flush.
#[derive(Clone, Default)]
pub(crate) struct SimIndex {
    maps: Arc<Mutex<Maps>>,
}

#[derive(Default)]
struct Maps {
    now: BTreeMap<Vec<u8>, Vec<u8>>,
    flushed: BTreeMap<Vec<u8>, Vec<u8>>,
    life: u64,
}

impl SimIndex {
    /// The index as a new process opens it.
    pub(crate) fn open(&self) -> Box<dyn IndexDatabase> {
        Box::new(IndexLife { maps: self.maps.clone(), life: self.maps.lock().life })
    }

    /// The process is gone, and with it what was not flushed.
    pub(crate) fn crash(&self) {
        let mut maps = self.maps.lock();
        maps.life += 1;
        maps.now = maps.flushed.clone();
    }
}

struct IndexLife {
    maps: Arc<Mutex<Maps>>,
    life: u64,
}

impl IndexLife {
    fn with<T>(&self, act: impl FnOnce(&mut Maps) -> T) -> Result<T, IndexError> {
        let mut maps = self.maps.lock();
        if maps.life == self.life { Ok(act(&mut maps)) } else { Err(IndexError::Database("the power is off".into())) }
    }
}

impl IndexDatabase for IndexLife {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.with(|maps| maps.now.get(key).cloned())
    }

    fn write(&self, writes: Writes) -> Result<(), IndexError> {
        self.with(|maps| {
            for (key, value) in writes {
                match value {
                    Some(value) => maps.now.insert(key, value),
                    None => maps.now.remove(&key),
                };
            }
        })
    }

    fn scan(&self, from: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        self.with(|maps| {
            let bounds = (Bound::Included(from), Bound::Unbounded);
            for (key, value) in maps.now.range::<[u8], _>(bounds) {
                if visit(key, value) == ControlFlow::Break(()) {
                    return;
                }
            }
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.with(|maps| maps.flushed = maps.now.clone())
    }
}
