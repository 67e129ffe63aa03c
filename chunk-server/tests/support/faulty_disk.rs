//! A disk in memory with a page cache: what was not synced may be lost, in any part, when the power
//! fails; any operation can be made to fail; power can fail between any two operations.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use cairn_chunk::block_store::disk::{Disk, SegmentFile, SegmentId, Space};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Write,
    Read,
    Sync,
    SyncFolder,
    Truncate,
}

/// What the disk holds and how it behaves.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<SegmentId, FileState>,
    /// Operations that change something, until the power fails.
    until_power_failure: Option<u64>,
    is_off: bool,
    /// The next operation of this kind fails so; a write after so many bytes.
    fault: Option<(Operation, io::ErrorKind)>,
    faults_stay: bool,
    syncs: u64,
    folder_syncs: u64,
    writes: u64,
    sync_time: Duration,
    free_bytes: Option<u64>,
    ignored: Option<Operation>,
}

#[derive(Clone, Default)]
struct FileState {
    is_listed_durably: bool,
    durable: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl FaultyDisk {
    /// The power fails after so many more operations that change something.
    pub fn fail_power_after(&self, operations: u64) {
        self.state.lock().until_power_failure = Some(operations);
    }

    pub fn is_off(&self) -> bool {
        self.state.lock().is_off
    }

    /// Power on again. With `rng`: what was not synced was lost, or some of it, in pieces. Without: only
    /// the process was killed, the page cache survived.
    pub fn restart(&self, rng: Option<&mut StdRng>) {
        let mut state = self.state.lock();
        state.until_power_failure = None;
        state.is_off = false;
        state.fault = None;
        let Some(rng) = rng else { return };
        state.files.retain(|_, file| file.is_listed_durably || rng.random_bool(0.5));
        for file in state.files.values_mut() {
            file.is_listed_durably = true;
            let mut content = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                lose_some(&mut content, change, rng);
            }
            file.durable = content.clone();
            file.now = content;
        }
    }

    /// The next operation of this kind fails; with `stays` all do.
    pub fn fail(&self, operation: Operation, kind: io::ErrorKind, stays: bool) {
        let mut state = self.state.lock();
        state.fault = Some((operation, kind));
        state.faults_stay = stays;
    }

    pub fn heal(&self) {
        self.state.lock().fault = None;
    }

    /// Syncs of this kind say yes and do nothing: what a forgotten one is like.
    pub fn ignore(&self, kind: Operation) {
        self.state.lock().ignored = Some(kind);
    }

    pub fn set_sync_time(&self, time: Duration) {
        self.state.lock().sync_time = time;
    }

    pub fn set_free_bytes(&self, bytes: u64) {
        self.state.lock().free_bytes = Some(bytes);
    }

    /// fdatasyncs of segments.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    pub fn folder_syncs(&self) -> u64 {
        self.state.lock().folder_syncs
    }

    /// Bytes of a segment as the running system sees them.
    pub fn content(&self, segment: SegmentId) -> Vec<u8> {
        self.state.lock().files[&segment].now.clone()
    }

    pub fn segments(&self) -> Vec<SegmentId> {
        self.state.lock().files.keys().copied().collect()
    }

    /// Flips one bit, as rot does: durably.
    pub fn flip(&self, segment: SegmentId, byte: usize, bit: u8) {
        let mut state = self.state.lock();
        let file = state.files.get_mut(&segment).expect("the segment is there");
        file.now[byte] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(byte) {
            *byte ^= 1 << bit;
        }
    }

    pub fn truncate(&self, segment: SegmentId, length: usize) {
        let mut state = self.state.lock();
        let file = state.files.get_mut(&segment).expect("the segment is there");
        file.now.truncate(length);
        file.durable.truncate(length);
    }

    /// A copy that goes its own way from here.
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        let files = state.files.clone();
        Self { state: Arc::new(Mutex::new(State { files, ..State::default() })) }
    }
}

/// Applies no, some or all of a change that was not synced. A disk writes sectors; a torn one is worse.
fn lose_some(content: &mut Vec<u8>, change: Change, rng: &mut StdRng) {
    match change {
        Change::Truncate(length) => {
            if rng.random_bool(0.5) {
                content.resize(length as usize, 0);
            }
        }
        Change::Write(offset, bytes) => match rng.random_range(0..4) {
            0 => {}
            1 => write(content, offset, &bytes),
            2 => write(content, offset, &bytes[..rng.random_range(0..=bytes.len())]),
            _ => {
                for (index, sector) in bytes.chunks(512).enumerate() {
                    if rng.random_bool(0.5) {
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

impl State {
    /// Whether the operation may happen.
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if operation != Operation::Read {
            match &mut self.until_power_failure {
                Some(0) => {
                    self.is_off = true;
                    return Err(io::Error::other("the power fails"));
                }
                Some(left) => *left -= 1,
                None => {}
            }
        }
        if let Some((faulty, kind)) = self.fault
            && faulty == operation
        {
            if !self.faults_stay {
                self.fault = None;
            }
            return Err(kind.into());
        }
        Ok(())
    }
}

struct Segment {
    disk: FaultyDisk,
    id: SegmentId,
}

impl Segment {
    fn with<T>(&self, operation: Operation, act: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        state.begin(operation)?;
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        Ok(act(file))
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<SegmentId>> {
        Ok(self.segments())
    }

    fn create(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        let mut state = self.state.lock();
        state.begin(Operation::Create)?;
        if state.files.contains_key(&segment) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(segment, FileState::default());
        Ok(Arc::new(Segment { disk: self.clone(), id: segment }))
    }

    fn open(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        if !self.state.lock().files.contains_key(&segment) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(Segment { disk: self.clone(), id: segment }))
    }

    fn remove(&self, segment: SegmentId) -> io::Result<()> {
        self.state.lock().files.remove(&segment);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin(Operation::SyncFolder)?;
        state.folder_syncs += 1;
        if state.ignored != Some(Operation::SyncFolder) {
            state.files.values_mut().for_each(|file| file.is_listed_durably = true);
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state.lock();
        let used: u64 = state.files.values().map(|file| file.now.len() as u64).sum();
        let total_bytes = 1 << 40;
        Ok(Space { total_bytes, free_bytes: state.free_bytes.unwrap_or(total_bytes - used), file_system: 0 })
    }
}

impl SegmentFile for Segment {
    fn length(&self) -> io::Result<u64> {
        self.with(Operation::Read, |file| file.now.len() as u64)
    }

    fn write_at(&self, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let mut state = self.disk.state.lock();
        let began = state.begin(Operation::Write);
        state.writes += 1;
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        // What fails has written a part.
        let written = if began.is_ok() { bytes.len() } else { bytes.len() / 2 };
        write(&mut file.now, offset, &bytes[..written]);
        file.unsynced.push(Change::Write(offset, bytes[..written].to_vec()));
        began
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.with(Operation::Read, |file| {
            let start = (offset as usize).min(file.now.len());
            let end = (start + length).min(file.now.len());
            file.now[start..end].to_vec()
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let time = self.disk.state.lock().sync_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut state = self.disk.state.lock();
        state.begin(Operation::Sync)?;
        state.syncs += 1;
        if state.ignored == Some(Operation::Sync) {
            return Ok(());
        }
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        file.durable = file.now.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(Operation::Truncate, |file| {
            file.now.resize(length as usize, 0);
            file.unsynced.push(Change::Truncate(length));
        })
    }

    fn reserve(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.with(Operation::Write, |file| {
            let end = ((offset + length) as usize).min(file.now.len());
            file.now[offset as usize..end].fill(0);
        })
    }
}
