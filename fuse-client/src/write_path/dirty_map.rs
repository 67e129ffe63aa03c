//! The bytes of one file that are written but not committed, by byte: a byte that nobody wrote here
//! is never sent, so two mounts that write different bytes of one page do not overwrite each other.
//! Segments never cross a multiple of [`MAX_BLOCK_BYTES`]. Every byte is charged to the mount's grant, here or by
//! its upload. No IO, no clock, no tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_common::client::Charge;
use cairn_common::extent::NewExtent;
use cairn_common::limits::MAX_BLOCK_BYTES;

use super::upload::Upload;

const WINDOW: u64 = MAX_BLOCK_BYTES as u64;
/// Runs shorter than this, in bytes, travel together in one block.
const PACK_BELOW_BYTES: u64 = 256 << 10;
/// A write this long at the start of a window will likely fill it: room for all of it is made at once.
const LIKELY_FULL_BYTES: usize = 128 << 10;

/// What is charged for a segment besides its bytes: about what a record on a disk, and its place in the
/// index, takes.
const SEGMENT_COST: u64 = 512;

/// Dirty bytes of a file; the newest write of a byte wins.
#[derive(Debug, Default)]
pub struct DirtyMap {
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
    /// Open segments, and the bytes in them.
    open_segments: u64,
    open_bytes: u64,
    /// For these; uploads have their own.
    charge: Charge,
}

#[derive(Debug)]
enum Segment {
    /// May still grow and change.
    Open(BytesMut),
    /// A slice of something on its way into the cluster.
    Frozen { bytes: Bytes, block_offset: u32, upload: Arc<Upload> },
}

/// A part of a file that a commit names.
#[derive(Clone, Debug)]
pub struct Committing {
    offset: u64,
    length: u64,
    block_offset: u32,
    pub(super) upload: Arc<Upload>,
}

impl Committing {
    /// The extent for the commit; None while its block is not durable.
    pub fn extent(&self) -> Option<NewExtent> {
        self.upload.extent(self.offset, self.block_offset, self.length)
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Open(bytes) => bytes.len() as u64,
            Self::Frozen { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Cuts off the first `length` bytes.
    fn split_front(&mut self, length: u64) -> Self {
        match self {
            Self::Open(bytes) => Self::Open(bytes.split_to(length as usize)),
            Self::Frozen { bytes, block_offset, upload } => {
                let front = bytes.split_to(length as usize);
                let front = Self::Frozen { bytes: front, block_offset: *block_offset, upload: upload.clone() };
                *block_offset += length as u32;
                front
            }
        }
    }

    fn copy(&self, from: u64, to: u64) -> Bytes {
        match self {
            Self::Open(bytes) => Bytes::copy_from_slice(&bytes[from as usize..to as usize]),
            Self::Frozen { bytes, .. } => bytes.slice(from as usize..to as usize),
        }
    }
}

impl DirtyMap {
    /// Dirty bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits to be committed.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// First offset behind all dirty bytes.
    pub fn end(&self) -> Option<u64> {
        self.segments.last_key_value().map(|(start, segment)| start + segment.len())
    }

    /// What must be charged before `bytes` bytes are written somewhere. What of it turns out not to be needed is
    /// given back.
    pub fn cost(bytes: usize) -> u64 {
        let bytes = bytes as u64;
        bytes + (bytes / WINDOW + 2) * SEGMENT_COST
    }

    /// Takes bytes in, for which at least [`Self::cost`] is charged.
    pub fn write(&mut self, mut offset: u64, mut data: &[u8], charge: Charge) {
        self.charge.absorb(charge);
        while !data.is_empty() {
            let room = (WINDOW - offset % WINDOW) as usize;
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.write_in_window(offset, piece);
            offset += piece.len() as u64;
            data = rest;
        }
        self.give_back();
    }

    /// Gives back what is charged for more than is open.
    fn give_back(&mut self) {
        self.charge.cut_to(self.open_bytes + self.open_segments * SEGMENT_COST);
    }

    fn write_in_window(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let touching = self.segments.range(..=offset).next_back().and_then(|(start, segment)| {
            let joins = start / WINDOW == offset / WINDOW && start + segment.len() >= offset;
            (joins && matches!(segment, Segment::Open(_))).then_some(*start)
        });
        if let Some(start) = touching
            && let Some(Segment::Open(mut bytes)) = self.remove(start)
        {
            let at = (offset - start) as usize;
            let over = data.len().min(bytes.len() - at);
            bytes[at..at + over].copy_from_slice(&data[..over]);
            if over < data.len() {
                self.cut(start + bytes.len() as u64, end);
                bytes.extend_from_slice(&data[over..]);
            }
            self.insert(start, Segment::Open(bytes));
            return;
        }
        self.cut(offset, end);
        let likely_full = offset.is_multiple_of(WINDOW) && data.len() >= LIKELY_FULL_BYTES;
        let mut bytes = BytesMut::with_capacity(if likely_full { MAX_BLOCK_BYTES } else { data.len() });
        bytes.extend_from_slice(data);
        self.insert(offset, Segment::Open(bytes));
    }

    /// Removes the bytes `[from, to)`.
    fn cut(&mut self, from: u64, to: u64) {
        let first = self.segments.range(..from).next_back();
        let first = first.filter(|(start, segment)| *start + segment.len() > from).map(|(start, _)| *start);
        let starts: Vec<u64> =
            first.into_iter().chain(self.segments.range(from..to.max(from)).map(|(start, _)| *start)).collect();
        for start in starts {
            let Some(mut segment) = self.remove(start) else { continue };
            let end = start + segment.len();
            if start < from {
                self.insert(start, segment.split_front(from - start));
            }
            if end > to {
                segment.split_front(to - start.max(from));
                self.insert(to, segment);
            }
        }
    }

    fn insert(&mut self, start: u64, segment: Segment) {
        self.bytes += segment.len();
        if matches!(segment, Segment::Open(_)) {
            self.open_segments += 1;
            self.open_bytes += segment.len();
        }
        self.segments.insert(start, segment);
    }

    fn remove(&mut self, start: u64) -> Option<Segment> {
        let segment = self.segments.remove(&start)?;
        self.bytes -= segment.len();
        if matches!(segment, Segment::Open(_)) {
            self.open_segments -= 1;
            self.open_bytes -= segment.len();
        }
        Some(segment)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The dirty bytes within `[from, to)`, ascending.
    pub fn snapshot(&self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let first = self.segments.range(..from).next_back();
        first
            .into_iter()
            .chain(self.segments.range(from..to.max(from)))
            .filter_map(|(start, segment)| {
                let (begin, end) = ((*start).max(from), (start + segment.len()).min(to));
                (begin < end).then(|| (begin, segment.copy(begin - start, end - start)))
            })
            .collect()
    }

    /// Turns the window at `offset` into an upload if it is full and still open.
    pub fn freeze_full_window(&mut self, offset: u64) -> Option<Arc<Upload>> {
        let start = offset / WINDOW * WINDOW;
        let is_full = matches!(self.segments.get(&start), Some(Segment::Open(bytes)) if bytes.len() == MAX_BLOCK_BYTES);
        let Some(Segment::Open(bytes)) = is_full.then(|| self.remove(start)).flatten() else { return None };
        let upload = self.freeze(start, bytes.freeze(), false);
        self.give_back();
        Some(upload)
    }

    /// Turns all that is open into uploads: one a run, short runs packed into one block.
    pub fn freeze_all(&mut self, inline: bool) {
        let mut pack: Vec<(u64, BytesMut)> = Vec::new();
        let mut packed = 0;
        for (start, bytes) in self.take_open_runs() {
            let length = bytes.len() as u64;
            if inline || length >= PACK_BELOW_BYTES {
                self.freeze(start, bytes.freeze(), inline);
                continue;
            }
            if packed + length > WINDOW {
                self.freeze_packed(std::mem::take(&mut pack));
                packed = 0;
            }
            packed += length;
            pack.push((start, bytes));
        }
        self.freeze_packed(pack);
        self.give_back();
    }

    /// Takes the open segments out, neighbours within a window joined.
    fn take_open_runs(&mut self) -> Vec<(u64, BytesMut)> {
        let open: Vec<u64> = self
            .segments
            .iter()
            .filter(|(_, segment)| matches!(segment, Segment::Open(_)))
            .map(|(start, _)| *start)
            .collect();
        let mut runs: Vec<(u64, BytesMut)> = Vec::new();
        for start in open {
            let Some(Segment::Open(bytes)) = self.remove(start) else { continue };
            match runs.last_mut() {
                Some((run, joined)) if *run + joined.len() as u64 == start && *run / WINDOW == start / WINDOW => {
                    joined.extend_from_slice(&bytes);
                }
                _ => runs.push((start, bytes)),
            }
        }
        runs
    }

    fn freeze(&mut self, start: u64, bytes: Bytes, inline: bool) -> Arc<Upload> {
        let upload = self.upload(bytes.clone(), inline);
        self.insert(start, Segment::Frozen { bytes, block_offset: 0, upload: upload.clone() });
        upload
    }

    /// An upload of bytes that were open, with what is charged for them.
    fn upload(&mut self, bytes: Bytes, inline: bool) -> Arc<Upload> {
        let charge = self.charge.split(bytes.len() as u64 + SEGMENT_COST);
        Upload::new(bytes, inline, charge)
    }

    fn freeze_packed(&mut self, mut pack: Vec<(u64, BytesMut)>) {
        if pack.len() < 2 {
            if let Some((start, bytes)) = pack.pop() {
                self.freeze(start, bytes.freeze(), false);
            }
            return;
        }
        let mut block = BytesMut::with_capacity(pack.iter().map(|(_, bytes)| bytes.len()).sum());
        for (_, bytes) in &pack {
            block.extend_from_slice(bytes);
        }
        let block = block.freeze();
        let upload = self.upload(block.clone(), false);
        let mut at = 0;
        for (start, bytes) in pack {
            let slice = block.slice(at..at + bytes.len());
            let segment = Segment::Frozen { bytes: slice, block_offset: at as u32, upload: upload.clone() };
            at += bytes.len();
            self.insert(start, segment);
        }
    }

    /// The uploads that bytes here still belong to, each once.
    pub fn uploads(&self) -> Vec<Arc<Upload>> {
        let mut uploads: Vec<Arc<Upload>> = Vec::new();
        for segment in self.segments.values() {
            if let Segment::Frozen { upload, .. } = segment
                && !uploads.iter().rev().take(64).any(|known| Arc::ptr_eq(known, upload))
            {
                uploads.push(upload.clone());
            }
        }
        uploads
    }

    /// Bytes that a commit could name now, counted from the first dirty byte on.
    pub fn stored_prefix_bytes(&self) -> u64 {
        self.stored_prefix().map(|(_, bytes, ..)| bytes.len() as u64).sum()
    }

    fn stored_prefix(&self) -> impl Iterator<Item = (u64, &Bytes, u32, &Arc<Upload>)> {
        self.segments.iter().map_while(|(start, segment)| match segment {
            Segment::Frozen { bytes, block_offset, upload } if upload.is_stored() => {
                Some((*start, bytes, *block_offset, upload))
            }
            Segment::Frozen { .. } | Segment::Open(_) => None,
        })
    }

    /// What a commit can name: stored runs from the first dirty byte on, so that no size is shown
    /// before the data below it (P3). At most `limit` extents.
    pub fn committable(&self, limit: usize) -> (Vec<NewExtent>, Vec<Committing>) {
        self.stored_prefix()
            .take(limit)
            .filter_map(|(offset, bytes, block_offset, upload)| {
                let part = Committing { offset, length: bytes.len() as u64, block_offset, upload: upload.clone() };
                Some((part.extent()?, part))
            })
            .unzip()
    }

    /// All that is frozen now, stored or not: what a flush owes, also if some of it is written again before
    /// it is committed (the newer bytes come later, and until then these must be there).
    pub fn frozen(&self) -> Vec<Committing> {
        let part = |(start, segment): (&u64, &Segment)| match segment {
            Segment::Frozen { bytes, block_offset, upload } => Some(Committing {
                offset: *start,
                length: bytes.len() as u64,
                block_offset: *block_offset,
                upload: upload.clone(),
            }),
            Segment::Open(_) => None,
        };
        self.segments.iter().filter_map(part).collect()
    }

    /// Forgets what was committed, except bytes that were written again meanwhile.
    pub fn committed(&mut self, parts: &[Committing]) {
        for part in parts {
            let end = part.offset + part.length;
            let starts: Vec<u64> = self
                .segments
                .range(part.offset..end)
                .filter(|(_, segment)| {
                    matches!(segment, Segment::Frozen { upload, .. } if Arc::ptr_eq(upload, &part.upload))
                })
                .map(|(start, _)| *start)
                .collect();
            for start in starts {
                self.remove(start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_common::client::WriteGrant;
    use cairn_common::protocol::write_reserve::ReserveShare;
    use proptest::prelude::*;

    use super::*;

    fn ample() -> Arc<WriteGrant> {
        let grant = Arc::new(WriteGrant::default());
        grant.answered(Duration::ZERO, Some(ReserveShare { granted: 1 << 40, full: false }));
        grant
    }

    fn write_charged(map: &mut DirtyMap, offset: u64, data: &[u8]) {
        let charge = GRANT.with(|grant| grant.try_charge(DirtyMap::cost(data.len())));
        map.write(offset, data, charge.expect("ample"));
    }

    thread_local! {
        /// Of the test that runs on the thread.
        static GRANT: Arc<WriteGrant> = ample();
    }

    const MODEL_BYTES: usize = 10 << 20;

    #[derive(Clone, Debug)]
    enum Step {
        Write {
            offset: u64,
            length: usize,
            byte: u8,
        },
        FreezeWindow {
            offset: u64,
        },
        Freeze,
        /// Commits what can be, after `meanwhile` was written.
        Commit {
            meanwhile: (u64, usize, u8),
        },
    }

    fn place() -> impl Strategy<Value = (u64, usize, u8)> {
        let offset = prop_oneof![0u64..3000, WINDOW - 2000..WINDOW + 2000, Just(0), Just(WINDOW)];
        let length = prop_oneof![4 => 1usize..2000, 1 => Just(1 << 20), 1 => Just(4 << 20)];
        (offset, length, 1u8..)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => place().prop_map(|(offset, length, byte)| Step::Write { offset, length, byte }),
            1 => (0u64..2).prop_map(|n| Step::FreezeWindow { offset: n * WINDOW + 5 }),
            1 => Just(Step::Freeze),
            2 => place().prop_map(|meanwhile| Step::Commit { meanwhile }),
        ]
    }

    fn write(map: &mut DirtyMap, model: &mut [u8], (offset, length, byte): (u64, usize, u8)) {
        write_charged(map, offset, &vec![byte; length]);
        model[offset as usize..offset as usize + length].fill(byte);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Zero in a model is "not dirty". Inline uploads count as stored, so no backend is needed.
        #[test]
        fn dirty_bytes_are_the_newest_and_leave_only_when_committed(steps in prop::collection::vec(step(), 1..40)) {
            let mut map = DirtyMap::default();
            let mut dirty = vec![0u8; MODEL_BYTES];
            for step in steps {
                match step {
                    Step::Write { offset, length, byte } => write(&mut map, &mut dirty, (offset, length, byte)),
                    Step::FreezeWindow { offset } => {
                        if let Some(upload) = map.freeze_full_window(offset) {
                            prop_assert_eq!(upload.len(), MAX_BLOCK_BYTES);
                        }
                    }
                    Step::Freeze => map.freeze_all(true),
                    Step::Commit { meanwhile } => {
                        let (extents, parts) = map.committable(7);
                        let before = dirty.clone();
                        write(&mut map, &mut dirty, meanwhile);
                        let mut last = 0;
                        for new in &extents {
                            let extent = &new.extent;
                            let cairn_common::extent::ExtentContent::Inline(bytes) = &extent.content else {
                                panic!("nothing was put");
                            };
                            prop_assert!(extent.offset >= last);
                            last = extent.end();
                            let range = extent.offset as usize..extent.end() as usize;
                            prop_assert!(bytes == &before[range.clone()], "the commit has the bytes of its moment");
                            let again = meanwhile.0 as usize..meanwhile.0 as usize + meanwhile.1;
                            for at in range.filter(|at| !again.contains(at)) {
                                dirty[at] = 0;
                            }
                        }
                        map.committed(&parts);
                    }
                }
                let charged = GRANT.with(|grant| grant.used());
                let uploads: u64 = map.uploads().iter().map(|upload| upload.charged()).sum();
                let open: u64 = map.open_bytes + map.open_segments * SEGMENT_COST;
                prop_assert!(charged == uploads + open, "{charged} charged for {uploads} and {open}");
                prop_assert!(charged >= map.bytes());
                prop_assert_eq!(map.bytes() as usize, dirty.iter().filter(|byte| **byte != 0).count());
                let mut found = vec![0u8; MODEL_BYTES];
                for (offset, bytes) in map.snapshot(0, MODEL_BYTES as u64) {
                    found[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                }
                prop_assert!(found == dirty);
                prop_assert_eq!(map.end().unwrap_or(0) as usize, dirty.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
            }
        }
    }

    #[test]
    fn nothing_behind_bytes_that_are_not_stored_is_committed() {
        let mut map = DirtyMap::default();
        write_charged(&mut map, 100, b"first");
        map.freeze_all(true);
        write_charged(&mut map, 0, b"before it");
        assert!(map.committable(10).0.is_empty(), "its size would show a hole where bytes were written");
        map.freeze_all(true);
        assert_eq!(map.committable(10).0.len(), 2);
    }

    /// fsync waits for what was written before it, whatever is written while it waits.
    #[test]
    fn a_flush_owes_what_is_written_again_meanwhile() {
        let mut map = DirtyMap::default();
        write_charged(&mut map, 1000, &[1; 1000]);
        map.freeze_all(true);
        let owed = map.frozen();
        write_charged(&mut map, 500, &[2; 600]);
        assert!(map.committable(10).0.is_empty(), "the first dirty byte is open");
        let extents: Vec<_> = owed.iter().filter_map(Committing::extent).collect();
        let named: Vec<_> = extents.iter().map(|new| (new.extent.offset, new.extent.length)).collect();
        assert_eq!(named, [(1000, 1000)], "all of it, also what was written again");
        map.committed(&owed);
        assert_eq!((map.bytes(), map.end()), (600, Some(1100)), "the newer bytes are still to come");
    }
}
